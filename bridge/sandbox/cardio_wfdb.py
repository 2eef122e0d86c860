"""WFDB records as the sandbox API reads them: the header and every sample (header(5), signal(5) of the WFDB
documentation), in blocks, so that a day's recording costs no more memory than ten seconds.

Written apart from the bridge's own writer, so that one checks the other.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Open = Callable[[str], tuple[IO[bytes], int]]  # a signal file by its name in the header: its bytes and their count


class NotARecord(Exception):
    """The upload holds nothing that the API takes; the text says why, without a value of the file."""


@dataclass(frozen=True, slots=True)
class Record:
    """One ECG record, decoded. `sha256` is of the signal file (of all of them, one after the other)."""

    format: str
    leads: tuple[str, ...]
    rate: float  # samples a second and lead
    samples: int  # of each lead
    first_mv: tuple[float, ...]  # of each lead, its first sample in mV; in its own unit where that is no voltage
    sha256: str


@dataclass(frozen=True, slots=True)
class _Signal:
    file: str
    format: int
    offset: int  # bytes before the first sample
    gain: float  # stored units for one physical unit
    baseline: int
    unit: str
    initial: int | None
    checksum: int | None
    name: str


PER_VOLT = {"V": 1000.0, "mV": 1.0, "uV": 1e-3, "µV": 1e-3, "μV": 1e-3, "nV": 1e-6}
"""Millivolts in a unit; the micro sign and the Greek letter are both met."""

_RECORD = re.compile(
    r"(?P<name>\w+)(?P<segments>/\d+)?[ \t]+(?P<count>\d+)"
    r"(?:[ \t]+(?P<rate>[\d.]+(?:[eE][+-]?\d+)?)(?:/\S+)?(?:[ \t]+(?P<samples>\d+)(?:[ \t].*)?)?)?[ \t]*",
    re.ASCII,
)
_SIGNAL = re.compile(
    r"(?P<file>\S+)[ \t]+(?P<format>\d+)(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?"
    r"(?:[ \t]+(?P<gain>[+-]?[\d.]+(?:[eE][+-]?\d+)?)(?:\((?P<baseline>[+-]?\d+)\))?(?:/(?P<unit>\S+))?"
    r"(?:[ \t]+\d+(?:[ \t]+(?P<zero>[+-]?\d+)(?:[ \t]+(?P<initial>[+-]?\d+)(?:[ \t]+(?P<checksum>[+-]?\d+)"
    r"(?:[ \t]+\d+(?:[ \t]+(?P<name>.*))?)?)?)?)?)?)?[ \t]*"
)
# format: bytes of `samples` samples
_PACKS = {8: (1, 1), 16: (2, 1), 24: (3, 1), 32: (4, 1), 61: (2, 1), 80: (1, 1), 160: (2, 1), 212: (3, 2)}
_PLAIN = {8: ("i1", 0), 16: ("<i2", 0), 32: ("<i4", 0), 61: (">i2", 0), 80: ("u1", 128), 160: ("<u2", 32768)}
_FRAMES = 32768  # in one block; even, so that a block of format 212 ends with a whole pair


def read(header: bytes, name: str, open_file: Open) -> tuple[Record, set[str]]:
    """The record of a header, and the names of its signal files. Raises NotARecord.

    Sizes, initial values and checksums have to hold. Several segments, several samples a frame and skew are not read.
    """
    rate, samples, signals = _header(header, name)
    digest = hashlib.sha256()
    first: list[float] = []
    files: set[str] = set()
    number = 0
    for file, group in itertools.groupby(signals, key=lambda s: s.file):
        mine = list(group)
        if file in files:
            raise NotARecord(f"signals of one file stand apart, from signal {number}")
        if len({(s.format, s.offset) for s in mine}) > 1:
            raise NotARecord("one signal file has two formats")
        files.add(file)
        stream, size = open_file(file)
        with stream:
            samples, start, sums = _decode(stream, size, mine, samples, digest.update)
        for signal, value, total in zip(mine, start, sums, strict=True):
            if signal.checksum is not None and (total - signal.checksum) & 0xFFFF:
                raise NotARecord(f"the checksum of signal {number} does not hold")
            if signal.initial is not None and signal.initial != value:
                raise NotARecord(f"the initial value of signal {number} does not hold")
            first.append((value - signal.baseline) / signal.gain * PER_VOLT.get(signal.unit, 1.0))
            number += 1
    return Record("wfdb", tuple(s.name for s in signals), rate, samples, tuple(first), digest.hexdigest()), files


def _header(header: bytes, name: str) -> tuple[float, int, list[_Signal]]:
    """Rate, samples of each signal (0: not said) and the signals. A missing field has header(5)'s default."""
    try:
        lines = [s for line in header.decode("utf-8").splitlines() if (s := line.strip()) and not s.startswith("#")]
    except UnicodeDecodeError as cause:
        raise NotARecord("the header is no text") from cause
    head = _RECORD.fullmatch(lines[0]) if lines else None
    if head is None:
        raise NotARecord("the header's record line cannot be read")
    if head["name"] != name:
        raise NotARecord("the header names another record than its file")
    if head["segments"]:
        raise NotARecord("a record in segments is not decoded by this sandbox")
    count = int(head["count"])
    if count == 0 or len(lines) != 1 + count:
        raise NotARecord(f"the header promises {count} signals and describes {len(lines) - 1}")
    try:
        rate = float(head["rate"] or 250)
        signals = [_signal(line, number) for number, line in enumerate(lines[1:])]
    except ValueError as cause:
        raise NotARecord("a number of the header cannot be read") from cause
    if not rate > 0:
        raise NotARecord("the header's sampling rate is not above 0")
    return rate, int(head["samples"] or 0), signals


def _signal(line: str, number: int) -> _Signal:
    match = _SIGNAL.fullmatch(line)
    if match is None:
        raise NotARecord(f"the line of signal {number} cannot be read")
    if int(match["format"]) not in _PACKS:
        raise NotARecord(f"signal {number}: format {match['format']} is not decoded by this sandbox")
    if int(match["frame"] or 1) != 1 or int(match["skew"] or 0):
        raise NotARecord(f"signal {number}: several samples a frame, or skew, are not decoded by this sandbox")
    zero = int(match["zero"] or 0)
    return _Signal(
        file=match["file"],
        format=int(match["format"]),
        offset=int(match["offset"] or 0),
        gain=float(match["gain"] or 0) or 200.0,
        baseline=int(match["baseline"]) if match["baseline"] else zero,
        unit=match["unit"] or "mV",
        initial=int(match["initial"]) if match["initial"] else None,
        checksum=int(match["checksum"]) if match["checksum"] else None,
        name=match["name"] or f"{number}",
    )


def _decode(
    stream: IO[bytes], size: int, signals: list[_Signal], samples: int, digest: Callable[[bytes], None]
) -> tuple[int, list[int], list[int]]:
    """Samples of each signal, their first values and their sums, of one signal file. Raises NotARecord."""
    kind, count = signals[0].format, len(signals)
    pack_bytes, pack_samples = _PACKS[kind]
    body = size - signals[0].offset
    samples = samples or body * pack_samples // (pack_bytes * count)
    values = samples * count
    # an odd last sample of format 212 takes two bytes, or a whole pack
    allowed = {-(-values * pack_bytes // pack_samples), -(-values // pack_samples) * pack_bytes}
    if body not in allowed or not samples:
        raise NotARecord(f"a signal file has {size} bytes; {samples} samples of {count} signals need {min(allowed)}")
    digest(stream.read(signals[0].offset))
    start: list[int] = []
    sums = np.zeros(count, dtype=np.int64)
    level = np.array([s.initial or 0 for s in signals], dtype=np.int64)  # format 8 knows differences alone
    for block in _blocks(stream, kind, samples, count, digest):
        if kind == 8:
            block[0] += level
            np.cumsum(block, axis=0, out=block)
            level = block[-1].copy()
        if not start:
            start = [int(v) for v in block[0]]
        sums += block.sum(axis=0)
    if kind == 8:
        start = [s.initial if s.initial is not None else v for s, v in zip(signals, start, strict=True)]
    return samples, start, [int(v) for v in sums]


def _blocks(stream: IO[bytes], kind: int, samples: int, count: int, digest: Callable[[bytes], None]) -> Iterator[Ints]:
    """Stored values, (frames, signals), block by block."""
    pack_bytes, pack_samples = _PACKS[kind]
    for begin in range(0, samples, _FRAMES):
        frames = min(_FRAMES, samples - begin)
        last = begin + frames == samples
        values = frames * count
        data = stream.read() if last else stream.read(values * pack_bytes // pack_samples)
        digest(data)
        yield _values(kind, data, values).reshape(frames, count)


def _values(kind: int, data: bytes, values: int) -> Ints:
    if kind in _PLAIN:
        dtype, shift = _PLAIN[kind]
        return np.frombuffer(data, dtype, values).astype(np.int64) - shift
    packed = np.frombuffer(data.ljust(-(-len(data) // 3) * 3, b"\0"), "u1").astype(np.int64).reshape(-1, 3)
    low, middle, high = packed.T
    if kind == 24:
        whole = low | middle << 8 | high << 16
        return np.where(whole >= 1 << 23, whole - (1 << 24), whole)[:values]
    pairs = np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], axis=1).reshape(-1)[:values]
    return np.where(pairs >= 1 << 11, pairs - (1 << 12), pairs)
