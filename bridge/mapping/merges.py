"""Which identifier a merge retires, and which one stays (hl7.md §4.2, HL7 v2.5.1 §3.6.2.1)."""

from collections.abc import Sequence
from datetime import datetime

from bridge.domain.found import Source
from bridge.domain.patient import Merge
from bridge.mapping.identifiers import Choice, ranked
from bridge.mapping.rules import Rules

RETIRED = ("MRG-1", "MRG-4")
"""The prior identifier list, then the prior patient id of older versions. MRG-2 is an alternate, and never merged."""


def merges_of(
    source: Source, rules: Rules, *, trusted: Sequence[str], site_authority: str, now: datetime
) -> tuple[tuple[Merge, ...], str]:
    """The pairs of one PID and its MRG, best identifier first; else the place that holds none that can be used.

    An identifier is paired with that of its own authority: what is of two authorities is never one. Where several are
    of one authority, that of the same type (CX.5). A pair of equal identifiers says nothing beside another pair.
    """
    mine = rules.of(source)
    stay = _trusted(ranked(source, mine, now)[0], trusted, site_authority)
    gone = _trusted(ranked(source, mine, now, RETIRED)[0], trusted, site_authority)
    if not stay:
        return (), "PID-3"
    pairs: list[Merge] = []
    for choice in stay:
        left = [g for g in gone if _one_authority(g, choice, site_authority)]
        same_kind = [g for g in left if g.kind and g.kind == choice.kind] or left
        if same_kind and not any(p.retired == same_kind[0].identifier for p in pairs):
            pairs.append(Merge(same_kind[0].identifier, choice.identifier, same_kind[0].where, choice.where))
    apart = [p for p in pairs if not p.retired.agrees(p.survivor, site_authority=site_authority)]
    return tuple(apart or pairs), "" if pairs else "MRG-1"


def _one_authority(a: Choice, b: Choice, site_authority: str) -> bool:
    mine, theirs = a.identifier.authority or site_authority, b.identifier.authority or site_authority
    return not mine or not theirs or mine.casefold() == theirs.casefold()


def _trusted(choices: Sequence[Choice], trusted: Sequence[str], site_authority: str) -> list[Choice]:
    if not trusted:
        return list(choices)
    known = {t.casefold() for t in trusted}
    return [c for c in choices if (c.identifier.authority or site_authority).casefold() in known]
