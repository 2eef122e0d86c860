"""The header of an object as a list of names and values, for people who look at one. Waveforms are left out."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydicom.datadict import dictionary_description, tag_for_keyword

from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.part10 import read_part10

MOST = 400
"""Attributes of a header that are listed."""
LONGEST = 500
"""Characters of a value that are listed."""
_DEEPEST = 4
_WITHOUT = frozenset({"WaveformSequence", "WaveformAnnotationSequence"})


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute with a value. `place` is its address, as a trace names it; `value` is cut where it is long."""

    place: str
    name: str
    tag: str
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """The attributes in the order of their tags, items of sequences in their places. `more`: some are left out."""

    attributes: tuple[Attribute, ...]
    transfer_syntax_uid: str
    more: bool


def read_header(path: Path) -> Header:
    """What the header says. Raises BadInput for what is no DICOM; an `OSError` is the disk's."""
    with path.open("rb") as file:
        part10 = read_part10(file)
    found = tuple(islice(_listed(part10.data_set, "", 0), MOST + 1))
    return Header(found[:MOST], part10.transfer_syntax_uid, len(found) > MOST)


def _listed(data_set: DataSet, prefix: str, depth: int) -> Iterator[Attribute]:
    for keyword in data_set.keywords():
        if keyword in _WITHOUT:
            continue
        place = f"{prefix}{keyword}"
        values = data_set.texts(keyword)
        items = data_set.items(keyword) if depth < _DEEPEST else []
        for number, item in enumerate(items, 1):
            yield from _listed(item, f"{place}[{number}].", depth + 1)
        for number, value in enumerate(values, 1):
            if value:
                tag = tag_for_keyword(keyword) or 0
                yield Attribute(
                    f"{place}[{number}]" if len(values) > 1 else place,
                    dictionary_description(tag),
                    f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
                    value if len(value) <= LONGEST else f"{value[:LONGEST]} …",
                )
