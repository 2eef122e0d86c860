"""What an order says of the ECG that is to come. It is for the worklist alone: no task field is made of it."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Self

from bridge.domain.task import NumberKind, OrderNumber

LONGEST_NUMBER = 16
"""Characters of AccessionNumber and RequestedProcedureID (PS3.5 table 6.2-1, SH)."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code with its scheme (PS3.3 §8; CE.1 to CE.3)."""

    value: str
    meaning: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Empty where nothing was said. Names are DICOM's: family^given^middle^prefix^suffix (PS3.5 §6.2.1).

    `message_id` is the message that said it last, 0 where that is not known.
    """

    name: str = ""  # of the patient, with its ideographic and phonetic groups
    scheduled_at: datetime | None = None
    codes: tuple[Code, ...] = ()
    description: str = ""
    priority: str = ""  # a defined term of RequestedProcedurePriority (PS3.3 C.4.11)
    requested_by: str = ""
    referred_by: str = ""
    location: str = ""  # of the patient
    station: str = ""  # AE title that the ECG is planned on
    station_name: str = ""
    step_id: str = ""
    study_uid: str = ""
    message_id: int = 0

    def over(self, earlier: "Plan") -> "Plan":
        """Mine, with the earlier one's values where I say nothing."""
        return Plan(**{f.name: getattr(self, f.name) or getattr(earlier, f.name) for f in fields(Plan)})

    def said_by(self, message_id: int) -> "Plan":
        """The same, said by that message."""
        return replace(self, message_id=message_id)

    def as_json(self) -> dict[str, Any]:
        """What is said, as a JSON value."""
        said = {f.name: getattr(self, f.name) for f in fields(Plan) if getattr(self, f.name)}
        if self.scheduled_at is not None:
            said["scheduled_at"] = self.scheduled_at.isoformat()
        if self.codes:
            said["codes"] = [[c.value, c.meaning, c.scheme] for c in self.codes]
        return said

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The other way round."""
        said = dict(document)
        if "scheduled_at" in said:
            said["scheduled_at"] = datetime.fromisoformat(said["scheduled_at"])
        if "codes" in said:
            said["codes"] = tuple(Code(*c) for c in said["codes"])
        return cls(**said)


def fits(number: OrderNumber) -> bool:
    """Whether a cart can be told the number as it is. A number is never cut."""
    value = number.value.strip()
    return 0 < len(value) <= LONGEST_NUMBER and value.isprintable() and "\\" not in value


def short_number(own: OrderNumber, numbers: Iterable[OrderNumber]) -> OrderNumber | None:
    """A number for an order of which no number fits, so that its ECG can name it; None where one fits.

    It follows from the order's own number and cannot be taken for a hospital's: `CB` and 70 bits in base32.
    """
    if any(fits(n) for n in numbers):
        return None
    named = b"".join(len(part).to_bytes(4, "big") + part for part in (own.value.encode(), own.authority.encode()))
    digest = base64.b32encode(hashlib.sha256(b"worklist" + named).digest()).decode("ascii")
    return OrderNumber(f"CB{digest[:14]}", NumberKind.PROCEDURE)
