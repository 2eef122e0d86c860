"""What a sender is told, before it is put into HL7's or DICOM's own form."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class AckCode(StrEnum):
    """MSA-1 (HL7 table 0008)."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"


class Condition(IntEnum):
    """ERR-3 (HL7 table 0357)."""

    ACCEPTED = 0
    SEGMENT_SEQUENCE = 100
    REQUIRED_FIELD_MISSING = 101
    DATA_TYPE = 102
    TABLE_VALUE_NOT_FOUND = 103
    UNSUPPORTED_MESSAGE_TYPE = 200
    UNSUPPORTED_EVENT_CODE = 201
    UNSUPPORTED_PROCESSING_ID = 202
    UNSUPPORTED_VERSION_ID = 203
    UNKNOWN_KEY_IDENTIFIER = 204
    DUPLICATE_KEY_IDENTIFIER = 205
    APPLICATION_RECORD_LOCKED = 206
    APPLICATION_INTERNAL_ERROR = 207


CONDITION_TEXT: dict[Condition, str] = {
    Condition.ACCEPTED: "Message accepted",
    Condition.SEGMENT_SEQUENCE: "Segment sequence error",
    Condition.REQUIRED_FIELD_MISSING: "Required field missing",
    Condition.DATA_TYPE: "Data type error",
    Condition.TABLE_VALUE_NOT_FOUND: "Table value not found",
    Condition.UNSUPPORTED_MESSAGE_TYPE: "Unsupported message type",
    Condition.UNSUPPORTED_EVENT_CODE: "Unsupported event code",
    Condition.UNSUPPORTED_PROCESSING_ID: "Unsupported processing id",
    Condition.UNSUPPORTED_VERSION_ID: "Unsupported version id",
    Condition.UNKNOWN_KEY_IDENTIFIER: "Unknown key identifier",
    Condition.DUPLICATE_KEY_IDENTIFIER: "Duplicate key identifier",
    Condition.APPLICATION_RECORD_LOCKED: "Application record locked",
    Condition.APPLICATION_INTERNAL_ERROR: "Application internal error",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One ERR: what is wrong and where. `where` is an address such as `PID-3` or `ORC[2]-1`, or empty.

    `severity` is E, W or I. `diagnostic` holds what the API said (ERR-7); `text` is for people (ERR-8).
    Neither holds a patient's value.
    """

    condition: Condition
    text: str
    where: str = ""
    severity: str = "E"
    diagnostic: str = ""


@dataclass(frozen=True, slots=True)
class OrderReply:
    """What became of one order of the message, in the order in which the orders stood.

    `control` is ORC-1 of the response (HL7 table 0119), `reason` goes to ORC-16, `status` to ORC-5.
    """

    control: str
    task_ids: tuple[int, ...] = ()
    reason: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole answer. `text` is MSA-3 where no task ids take its place."""

    code: AckCode
    text: str = ""
    orders: tuple[OrderReply, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def task_ids(self) -> tuple[int, ...]:
        """Every task id of the message, in the order of its orders."""
        return tuple(i for order in self.orders for i in order.task_ids)
