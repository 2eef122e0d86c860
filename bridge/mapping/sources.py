"""Addresses with a transform, and what they give: the first step of every rule."""

import re
from collections.abc import Callable, Iterator

from bridge.domain.found import Found, Source

TRANSFORMS: dict[str, Callable[[str], list[str]]] = {
    "upper": lambda v: [v.upper()],
    "lower": lambda v: [v.lower()],
    "digits": lambda v: ["".join(c for c in v if c.isdigit())],
    "split": lambda v: v.split("\\"),
}
"""The closed set of transforms."""

_HL7 = re.compile(r"^[A-Z][A-Z0-9]{2}(\[[^\]]+\])?-\d+(\[[^\]]+\])?(\.\d+){0,2}$")
_DICOM = re.compile(r"^[A-Z][A-Za-z0-9]+(\[\d+\])?(\.[A-Z][A-Za-z0-9]+(\[\d+\])?)*$")
_FACT = re.compile(r"^@(peer|listener|sender|calling_ae_title|called_ae_title)$")


def parse_address(text: str) -> tuple[str, tuple[str, ...]]:
    """An address and its transforms. Raises ValueError that says what is wrong."""
    address, *transforms = (part.strip() for part in text.split("|"))
    if not (_HL7.match(address) or _DICOM.match(address) or _FACT.match(address)):
        raise ValueError(f"{address!r} is no address: PID-3.1, OBX[3.1=8302-2]-5, a DICOM keyword, or @sender")
    for transform in transforms:
        if transform not in TRANSFORMS:
            raise ValueError(f"{transform!r} is no transform; known: {', '.join(TRANSFORMS)}")
    return address, tuple(transforms)


def found_at(source: Source, addresses: tuple[str, ...]) -> Iterator[Found]:
    """Every value of the addresses in their order, transformed, trimmed, never empty, never HL7's null."""
    for text in addresses:
        address, transforms = parse_address(text)
        for found in source.find(address):
            if found.null:
                continue
            values = [found.value]
            for transform in transforms:
                values = [made for value in values for made in TRANSFORMS[transform](value)]
            for value in values:
                if value.strip():
                    yield Found(value.strip(), found.where)


def first_at(source: Source, addresses: tuple[str, ...]) -> Found | None:
    """The first value of the chain."""
    return next(found_at(source, addresses), None)


def part(source: Source, where: str, component: str) -> str:
    """A component of a field that was found: `part(source, "PID-3[2]", "4.1")`. Empty where there is none."""
    return next((f.value for f in source.find(f"{where}.{component}") if not f.null), "")


def is_null(source: Source, address: str) -> bool:
    """Whether the sender asks to delete the value there (HL7 v2.5.1 §2.5.3)."""
    found = source.find(address)
    return bool(found) and all(f.null for f in found)
