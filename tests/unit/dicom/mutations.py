"""Objects of every kind, damaged in ways that a seed repeats."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bridge.errors import BadInput
from tests.unit.dicom.ecg_factory import BIG, EXPLICIT, IMPLICIT, Group, ecg, encoded, sines, without_meta

T = TypeVar("T")
SAMPLES = sorted((Path(__file__).parents[3] / "sample_messages").glob("*.dcm"))


def every_kind() -> list[bytes]:
    """Small objects: each encoding, each length of samples, one and two groups, with and without meta information."""
    made: list[bytes] = []
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        groups = (
            [Group(sines(20, 3)), Group(sines(6, 2), originality="DERIVED")],
            [Group(sines(15, 2, peak=100), "SB", 8, padding=-128)],
            [Group(sines(9, 2), "SL", 32, scheme="MDC", bits_stored=24)],
        )
        for some in groups:
            made += [encoded(ecg(*some, syntax=syntax), undefined_lengths=open_) for open_ in (False, True)]
        made.append(without_meta(ecg(*groups[0], syntax=syntax)))
    return made


def mutated(raw: bytes, dice: random.Random) -> bytes:
    """Bytes changed, cut out, or written once more somewhere else."""
    bad = bytearray(raw)
    header = min(len(bad), 6000)  # the samples of the longer ones say nothing
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, kind = dice.randrange(header), dice.random()
        if kind < 0.6:
            bad[at] = dice.choice((0, 1, 2, 0x7F, 0xFF, dice.randrange(256)))
        elif kind < 0.8:
            del bad[at : at + dice.choice((1, 2, 8, 30))]
        else:
            source = dice.randrange(header)
            bad[at:at] = bad[source : source + dice.choice((2, 8, 12, 40))]
        header = max(1, min(header, len(bad)))
    return bytes(bad)


def campaign(kinds: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged objects."""
    dice = random.Random(seed)
    for _ in range(count):
        yield mutated(dice.choice(kinds), dice)


def outcome(way: Callable[[Path], T], path: Path) -> T | BadInput:
    """What a reading gives, or its refusal."""
    try:
        return way(path)
    except BadInput as problem:
        return problem
