"""Addresses of values in an HL7 message: the grammar of `bridge.domain.found.Source`."""

import re
from dataclasses import dataclass
from functools import lru_cache

_FILTER = r"(\d+)(?:\.(\d+))?(?:\.(\d+))?=([^\]]*)"
_ADDRESS = re.compile(
    rf"([A-Z][A-Z0-9]{{2}})(?:\[(\d+)\]|\[{_FILTER}\])?"
    rf"(?:-(\d+)(?:\[(\d+)\]|\[(\d+)(?:\.(\d+))?=([^\]]*)\])?(?:\.(\d+))?(?:\.(\d+))?)?"
)


@dataclass(frozen=True, slots=True)
class SegmentFilter:
    """`OBX[3.1=8302-2]`: segments of which some repeat of the field has that value. 0 is the whole."""

    field: int
    component: int
    subcomponent: int
    value: str


@dataclass(frozen=True, slots=True)
class RepeatFilter:
    """`PID-3[5=MR]`, `PID-3[4.1=HIS]`: repeats whose component has that value."""

    component: int
    subcomponent: int
    value: str


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address; 0 and None where a part is not given. Filter values are casefolded."""

    segment: str
    number: int = 0
    segments_with: SegmentFilter | None = None
    field: int = 0
    repeat: int = 0
    repeats_with: RepeatFilter | None = None
    component: int = 0
    subcomponent: int = 0
    within: str = ""
    """Component and subcomponent as they are written: `.1`, `.4.1`."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Address | None:
    """The address, or None where the text is none of HL7's: rules may name DICOM keywords beside it."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    seg, seg_n, s_field, s_comp, s_sub, s_value, field, rep, r_comp, r_sub, r_value, comp, sub = match.groups()
    numbers = [int(n) for n in (seg_n, field, rep, comp, sub, s_field, r_comp) if n is not None]
    if any(n < 1 or n > 100_000 for n in numbers):
        return None
    return Address(
        seg,
        int(seg_n or 0),
        SegmentFilter(int(s_field), int(s_comp or 0), int(s_sub or 0), s_value.strip().casefold()) if s_field else None,
        int(field or 0),
        int(rep or 0),
        RepeatFilter(int(r_comp), int(r_sub or 0), r_value.strip().casefold()) if r_comp else None,
        int(comp or 0),
        int(sub or 0),
        "".join(f".{int(n)}" for n in (comp, sub) if n),
    )
