"""Sources of the rules: addresses, what is done to their values, and what they give.

A source is `ADDRESS`, or `ADDRESS + ADDRESS` (both values with a space between them, only where both are there), and
may end in `| transform`, several of them applied from left to right.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from bridge.domain.found import Found, Source

TRANSFORMS: dict[str, Callable[[str], list[str]]] = {
    "upper": lambda v: [v.upper()],
    "lower": lambda v: [v.lower()],
    "digits": lambda v: ["".join(c for c in v if c.isdigit())],
    "unpadded": lambda v: [v.lstrip("0")],
    "split": lambda v: v.split("\\"),
}
"""The closed set of transforms: `unpadded` takes leading zeros off, `split` cuts at backslashes."""

_FACT = re.compile(r"@(peer|listener|sender|calling_ae_title|called_ae_title)")
_KINDS = {
    "hl7": (
        re.compile(
            r"[A-Z][A-Z0-9]{2}(\[(N|N(\.N){0,2}=[^\]]+)\])?-N(\[(N|N(\.N)?=[^\]]+)\])?(\.N){0,2}".replace(
                "N", r"[1-9]\d{0,3}"
            ),
            re.ASCII,
        ),
        "an HL7 address such as PID-3.1 or OBX[3.1=8302-2]-5",
    ),
    "dicom": (
        re.compile(r"[A-Z][A-Za-z0-9]+(\[\d+\])?(\.[A-Z][A-Za-z0-9]+(\[\d+\])?)*"),
        "a DICOM keyword such as AccessionNumber, with a dot between a sequence and what is in it",
    ),
}
_FIELD = re.compile(r"(.+-\d+(?:\[\d+\])?)(?:\.\d+){0,2}")


@dataclass(frozen=True, slots=True)
class Chained:
    """One source of a chain, read: values to join, then transforms."""

    addresses: tuple[str, ...]
    transforms: tuple[str, ...]

    def applied(self, value: str) -> Iterator[str]:
        """The values that the transforms make of one; trimmed, never empty."""
        values = [value]
        for transform in self.transforms:
            values = [made for one in values for made in TRANSFORMS[transform](one)]
        return (v.strip() for v in values if v.strip())


@lru_cache(maxsize=4096)
def parse_source(text: str) -> Chained:
    """A source as it is written in the rules; `checked` has shown that it can be read."""
    joined, *transforms = (piece.strip() for piece in text.split("|"))
    return Chained(tuple(a.strip() for a in joined.split(" + ")), tuple(transforms))


def checked(text: str, kind: str) -> str:
    """The source, if it is one of that kind (`hl7` or `dicom`). Raises ValueError that says what is wrong."""
    source = parse_source(text)
    pattern, example = _KINDS[kind]
    for address in source.addresses:
        if not (pattern.fullmatch(address) or _FACT.fullmatch(address)):
            raise ValueError(f"{address!r} is not {example}")
    check_transforms(source)
    return text


def check_transforms(source: Chained) -> None:
    """Raises ValueError at the first that is none."""
    for transform in source.transforms:
        if transform not in TRANSFORMS:
            raise ValueError(f"{transform!r} is no transform; known: {', '.join(TRANSFORMS)}")


def found_at(source: Source, texts: tuple[str, ...]) -> Iterator[Found]:
    """Every value of the sources in their order, transformed, trimmed, never empty, never HL7's null."""
    for text in texts:
        chained = parse_source(text)
        for found in _joined(source, chained.addresses):
            for value in chained.applied(found.value):
                yield Found(value, found.where)


def _joined(source: Source, addresses: tuple[str, ...]) -> list[Found]:
    if len(addresses) == 1:
        return [f for f in source.find(addresses[0]) if not f.null]
    parts = [next((f for f in source.find(a) if not f.null), None) for a in addresses]
    there = [p for p in parts if p is not None]
    if len(there) < len(parts):
        return []
    return [Found(" ".join(p.value for p in there), " + ".join(p.where for p in there))]


def first_at(source: Source, texts: tuple[str, ...]) -> Found | None:
    """The first value of the chain."""
    return next(found_at(source, texts), None)


@lru_cache(maxsize=4096)
def _field(where: str) -> str:
    """The repeat of a field that a place lies in; empty where it lies in none."""
    field = _FIELD.fullmatch(where)
    return field[1] if field else ""


def fields_at(source: Source, texts: tuple[str, ...]) -> Iterator[tuple[str, Found, Chained]]:
    """Every repeat of the HL7 fields in the chain, for what reads components by itself.

    Gives the address of the repeat (`PID-3[2]`), what was found there, and the source that named it. A source that
    names a component (`PID-3.1`) has that component's value in what was found.
    """
    for text in texts:
        chained = parse_source(text)
        for found in source.find(chained.addresses[0]):
            field = _field(found.where)
            if field and not found.null:
                yield field, found, chained


def part(source: Source, field: str, component: str) -> str:
    """A component of a repeat: `part(source, "PID-3[2]", "4.1")`. Empty where there is none, or where it is null."""
    for found in source.find(f"{field}.{component}"):
        if not found.null:
            return found.value
    return ""


def is_null(source: Source, address: str) -> bool:
    """Whether the sender asks to delete the value there (HL7 v2.5.1 §2.5.3)."""
    found = source.find(address)
    return bool(found) and all(f.null for f in found)
