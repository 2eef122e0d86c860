"""Order controls (ORC-1, HL7 table 0119): what each asks for, and with which control it is answered (hl7.md §4.1)."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What an order control asks of us."""

    CREATE = "create"
    CHANGE = "change"
    CANCEL = "cancel"
    REPLACE = "replace"  # the order that goes; the one that comes is a CREATE behind it
    HOLD = "hold"
    RELEASE = "release"
    STATUS = "status"  # told to us
    ASK = "ask"  # asked of us
    NOTE = "note"  # an answer or a result: never acted on


class Standing(StrEnum):
    """Where an order stands in the book."""

    ACTIVE = "active"
    ON_HOLD = "on_hold"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    UNSEEN = "unseen"  # cancelled before it came: a tombstone (F33)


WITHDRAWN = frozenset({Standing.CANCELLED, Standing.REPLACED, Standing.UNSEEN})
"""No recording belongs to such an order any more."""


@dataclass(frozen=True, slots=True)
class Control:
    """One order control: `done` and `unable` are the ORC-1 of the answer."""

    action: Action
    done: str
    unable: str = "UA"


CONTROLS: dict[str, Control] = {
    "NW": Control(Action.CREATE, "OK"),
    "RO": Control(Action.CREATE, "OK"),
    "CH": Control(Action.CREATE, "OK"),
    "PA": Control(Action.CREATE, "OK"),
    "SN": Control(Action.CREATE, "NA"),
    "XO": Control(Action.CHANGE, "XR", "UX"),
    "XX": Control(Action.CHANGE, "XR", "UX"),
    "CA": Control(Action.CANCEL, "CR", "UC"),
    "DC": Control(Action.CANCEL, "DR", "UD"),
    "RP": Control(Action.REPLACE, "RQ", "UM"),
    "RU": Control(Action.REPLACE, "RQ", "UM"),
    "HD": Control(Action.HOLD, "HR", "UH"),
    "RL": Control(Action.RELEASE, "OR", "UR"),
    "SC": Control(Action.STATUS, "OK"),
    "SS": Control(Action.ASK, "SR"),
    **{
        answer: Control(Action.NOTE, "OK")
        for answer in (
            "OK", "UA", "NA", "CR", "UC", "DR", "UD", "OC", "OD", "OH", "OR", "OE", "HR", "UH", "UR", "XR", "UX", "RQ",
            "UM", "SR", "UN", "UX", "RE", "LI", "UF",
        )
    },
}  # fmt: skip
"""What is not here, pharmacy's controls among it, is refused before anything is written (ERR 103 at ORC-1)."""

STATUS_ACTIONS: dict[str, Action] = {
    "CA": Action.CANCEL,
    "DC": Action.CANCEL,
    "RP": Action.CANCEL,
    "HD": Action.HOLD,
}
"""ORC-5 (table 0038) of a status that is told to us, where it says more than that the order goes on."""

OVER = frozenset({"CM", "ER", *STATUS_ACTIONS})
"""ORC-5 of an order that needs nothing more: a status of an unknown one makes no task."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one order of a message asks for. `control` is as sent, NW where there is no ORC."""

    control: str
    action: Action
    done: str
    unable: str
    status: str = ""  # ORC-5


def asked(control: str, status: str) -> Asked | None:
    """The meaning of ORC-1 with ORC-5; None where it is refused."""
    known = CONTROLS.get(control)
    if known is None:
        return None
    action = known.action
    if action is Action.STATUS:
        action = STATUS_ACTIONS.get(status, Action.STATUS)
    return Asked(control, action, known.done, known.unable, status)
