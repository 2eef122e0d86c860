"""Which segments belong to which order of a message (ORM^O01, OMG^O19, OMI^O23; HL7 v2.5.1 §4.4)."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from bridge.formats.hl7.header import Header

_PRIOR = "PR"  # ORC-1 of a prior result (table 0119)


class _Segment(Protocol):
    name: str

    def field(self, number: int) -> str: ...


S = TypeVar("S", bound=_Segment)


def group(segments: Sequence[S]) -> tuple[list[S], list[list[S]]]:
    """What is common to all orders, and the segments of each.

    An order begins at each ORC; at an OBR too where the order has one already (then it shares the ORC and what stood
    between that and its first OBR: parent and children), or where no ORC leads it. Prior results, which OMG^O19 and
    OMI^O23 carry behind an order, are no orders: a PID after the first order begins them, ORC-1 `PR` marks them.
    """
    common: list[S] = []
    orders: list[list[S]] = []
    lead: list[S] = []  # the ORC in force and what stood before its first OBR
    obr_seen = prior = False
    for segment in segments:
        name = segment.name
        if name == "ORC":
            prior = segment.field(1).strip().upper() == _PRIOR
            if not prior:
                lead, obr_seen = [segment], False
                orders.append([segment])
            continue
        if name == "PID" and orders:
            prior = True
        if prior:
            continue
        if name == "OBR":
            if obr_seen or not orders:
                orders.append([*lead, segment])
            else:
                orders[-1].append(segment)
            obr_seen = True
        elif not orders:
            common.append(segment)
        else:
            orders[-1].append(segment)
            if lead and not obr_seen:
                lead.append(segment)
    return common, orders


def other_patient(segments: Sequence[S], header: Header) -> int:
    """The number of the first PID that does not share an identifier with the first PID; 0 where there is none."""
    pids = [s for s in segments if s.name == "PID"]
    known = _identifiers(pids[0], header) if pids else set()
    for number, pid in enumerate(pids[1:], 2):
        if not known & _identifiers(pid, header):
            return number
    return 0


def _identifiers(pid: _Segment, header: Header) -> set[str]:
    repeats = pid.field(3).split(header.repetition)
    return {value for r in repeats if (value := r.split(header.component, 1)[0].strip().casefold())}
