"""When, where and by whom an ECG is wanted: one HL7 order's plan, for the worklist (hl7.md §5).

What becomes a task is in `orders`. What is here has no rules of the site's: a cart shows it, and nothing rests on it
but the patient's name, which is read as the task's is.
"""

import re
from datetime import datetime

from bridge.domain.found import Source
from bridge.domain.plan import Code, Plan
from bridge.mapping.names import hl7_name
from bridge.mapping.rules import Rules
from bridge.mapping.sources import fields_at, part
from bridge.mapping.times import moment_of

_PLANNED = ("TQ1-7.1", "ORC-7.4", "OBR-27.4", "OBR-36.1", "OBR-6.1")
_PRIORITY = ("TQ1-9.1", "ORC-7.6", "OBR-27.6", "OBR-5.1")
_PRIORITIES = {"S": "STAT", "A": "HIGH", "R": "ROUTINE"}
"""HL7 table 0485 to the defined terms of RequestedProcedurePriority (PS3.3 C.4.11); others say nothing."""
_GROUPS = ("alphabetic", "ideographic", "phonetic")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)


def plan_of(source: Source, rules: Rules, *, time_zone: str) -> Plan:
    """The plan of one order. `time_zone` is that of times without an offset."""
    description, codes = _ordered(source)
    requested_by = _first_name(source, ("OBR-16", "ORC-12"))
    return Plan(
        name=_patient_name(source, rules),
        scheduled_at=_planned(source, rules.of(source).time_zone or time_zone),
        codes=codes,
        description=description,
        priority=_PRIORITIES.get(_first(source, _PRIORITY).upper(), ""),
        requested_by=requested_by,
        referred_by=_first_name(source, ("PV1-8",)) or requested_by,
        location=" ".join(filter(None, (_first(source, (f"PV1-3.{n}",)) for n in (1, 2, 3)))),
        station=_first(source, ("IPC-9.1",)),
        station_name=_first(source, ("IPC-7.1",)),
        step_id=_first(source, ("IPC-4.1", "OBR-20.1")),
        study_uid=_study(source),
    )


def _first(source: Source, addresses: tuple[str, ...]) -> str:
    """The first value of these fields; HL7's null is none."""
    return next((f.value for address in addresses for f in source.find(address) if not f.null), "")


def _planned(source: Source, zone: str) -> datetime | None:
    """The first time of the chain that can be read."""
    times = (moment_of(f.value, zone) for address in _PLANNED for f in source.find(address) if not f.null)
    return next((t for t in times if t is not None), None)


def _ordered(source: Source) -> tuple[str, tuple[Code, ...]]:
    """What is ordered in words, and both triplets of OBR-4 (HL7 v2.5.1 §2.A.13) as codes.

    A code without its scheme is none (PS3.3 §8.1): its text stands alone.
    """
    texts, codes = [], []
    for first in (1, 4):
        code, text, scheme = (_first(source, (f"OBR-4.{n}",)) for n in range(first, first + 3))
        texts.append(text or code)
        if code and scheme:
            codes.append(Code(code, text or code, scheme))
    return next(filter(None, texts), ""), tuple(codes)


def _study(source: Source) -> str:
    """The study that the sender has planned: IPC-3, or ZDS-1 of the IHE profile before it."""
    uid = _first(source, ("IPC-3.1", "ZDS-1.1"))
    return uid if len(uid) <= 64 and _UID.fullmatch(uid) else ""


def _first_name(source: Source, fields: tuple[str, ...]) -> str:
    """The first person of these XCN fields (HL7 v2.5.1 §2.A.86) as a name."""
    for field, _, _ in fields_at(source, fields):
        family = part(source, field, "2.1") or part(source, field, "2")
        if name := _pn(family, *(part(source, field, n) for n in ("3", "4", "6", "5"))):
            return name
    return ""


def _patient_name(source: Source, rules: Rules) -> str:
    """The name in every representation that was sent (XPN.8), each as the task's name is chosen."""
    mine = rules.of(source)
    said = {f.value.upper() for f in source.find("PID-5.8")}
    groups = []
    for group in _GROUPS:
        name = None
        if group == "alphabetic" or group[0].upper() in said:
            wanted = mine if mine.name_group == group else mine.model_copy(update={"name_group": group})
            name = hl7_name(source, wanted)
        if name is None or not name.how.endswith(group):
            groups.append("")
            continue
        given, middle = part(source, name.where, "2"), part(source, name.where, "3")
        if not given and not middle:
            given = name.first  # `Doe, John`, all in the family name
        groups.append(_pn(name.last, given, middle, part(source, name.where, "5"), part(source, name.where, "4")))
    return "=".join(groups).rstrip("=")


def _pn(*components: str) -> str:
    """A component group: what delimits one is no part of a name (PS3.5 §6.2.1)."""
    plain = (" ".join("".join(" " if c in "^=\\" or not c.isprintable() else c for c in t).split()) for t in components)
    return "^".join(plain).rstrip("^")
