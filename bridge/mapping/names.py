"""Family and given names, from HL7's XPN and from DICOM's PN (hl7.md §5; PS3.5 §6.2.1)."""

from dataclasses import dataclass

from bridge.domain.found import Source
from bridge.mapping.rules import Part
from bridge.mapping.sources import fields_at, first_at, part

_TYPES = ("L", "", "D", "N")
"""XPN.7, best first: legal, unsaid, display, nickname. Maiden, alias, pseudonym and the rest: never."""
_GROUPS = ("alphabetic", "ideographic", "phonetic")
_REPRESENTATION = {"I": "ideographic", "P": "phonetic"}
"""XPN.8; A and nothing are alphabetic."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name as found. Prefixes, suffixes and degrees are left out."""

    last: str
    first: str
    where: str
    how: str


def hl7_name(source: Source, mine: Part) -> Name | None:
    """The name of the best repeat: the wanted representation first, then the best name type, then the order."""
    best: tuple[tuple[int, int], Name] | None = None
    for field, _, _ in fields_at(source, mine.fields.patient_name.hl7):
        kind = part(source, field, "7").upper()
        if kind not in _TYPES:
            continue
        group = _REPRESENTATION.get(part(source, field, "8").upper(), "alphabetic")
        given = " ".join(filter(None, (part(source, field, "2"), part(source, field, "3"))))
        last, first = _split(_family(source, field), given)
        rank = (_place(group, mine.name_group), _TYPES.index(kind))
        if (last or first) and (best is None or rank < best[0]):
            best = rank, Name(last, first, field, f"name of type {kind or 'unsaid'}, {group}")
    return best[1] if best else None


def dicom_name(source: Source, mine: Part) -> Name | None:
    """The name of the wanted component group, else of the first that has any. A single component is a family name."""
    found = first_at(source, mine.fields.patient_name.dicom)
    if found is None:
        return None
    groups = dict(zip(_GROUPS, found.value.split("="), strict=False))
    for group in sorted(groups, key=lambda g: _place(g, mine.name_group)):
        family, given, middle, *_ = [c.strip() for c in groups[group].split("^")] + [""] * 3
        last, first = _split(family, " ".join(filter(None, (given, middle))))
        if last or first:
            return Name(last, first, found.where, f"name, {group}")
    return None


def _place(group: str, wanted: str) -> int:
    return -1 if group == wanted else _GROUPS.index(group)


def _family(source: Source, field: str) -> str:
    """XPN.1 is an FN: its first subcomponent is the whole surname; where it is empty, the parts stand for it."""
    return part(source, field, "1.1") or " ".join(filter(None, (part(source, field, f"1.{n}") for n in range(2, 6))))


def _split(last: str, first: str) -> tuple[str, str]:
    """`Doe, John` sent as a family name alone is both."""
    if first or "," not in last:
        return last, first
    family, _, given = (p.strip() for p in last.partition(","))
    return family, given
