"""The task as the Cardio API takes it (cardio_api.md §3), and how each of its fields came about."""

import json
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

UINT32_MAX = 2**32 - 1
UINT64_MAX = 2**64 - 1

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Uint32 = Annotated[int, Field(ge=0, le=UINT32_MAX, strict=True)]


class Gender(StrEnum):
    """The API's three words."""

    FEMALE = "FEMALE"
    MALE = "MALE"
    UNDIFFERENTIATED = "UNDIFFERENTIATED"


class TaskRequest(BaseModel):
    """The body of `POST /v3/orgs/{organization_path}/tasks`. What is not known is absent, never empty.

    Height is in centimetres, weight in grams, start time in UTC (`2024-06-23T18:30:00Z`), zone an IANA name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_id: Text | None = None
    auto_complete: bool | None = None
    investigation_id: Text | None = None
    device_id: Text | None = None
    indications: tuple[Text, ...] | None = None
    searching_tags: tuple[Text, ...] | None = None
    patient_id: Text | None = None
    patient_first_name: Text | None = None
    patient_last_name: Text | None = None
    patient_gender: Gender | None = None
    patient_birth_date: date | None = None
    patient_age: Uint32 | None = None
    patient_height: Uint32 | None = None
    patient_weight: Uint32 | None = None
    recording_start_time: (
        Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")] | None
    ) = None
    recording_time_zone: Text | None = None

    def fields(self) -> dict[str, Any]:
        """The fields that are known, as JSON values."""
        return {k: v for k, v in self.model_dump(mode="json", exclude_none=True).items() if v != []}

    def body(self) -> bytes:
        """The exact bytes to send: made once, stored, and sent again only as they are (failures.md §3.2)."""
        return json.dumps(self.fields(), ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class FieldTrace:
    """How a task field came about: *field ← value ← source ← rule*. `note` says what was corrected or doubted."""

    field: str
    value: Any
    where: str
    rule: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The trace as a JSON value."""
        return {
            "field": self.field, "value": self.value, "where": self.where, "rule": self.rule, "note": self.note,
        }  # fmt: skip


class NumberKind(StrEnum):
    """What an order number is, as the standards name it."""

    PLACER = "placer"  # ORC-2, OBR-2; PlacerOrderNumberImagingServiceRequest
    FILLER = "filler"  # ORC-3, OBR-3; FillerOrderNumberImagingServiceRequest
    ACCESSION = "accession"  # IPC-1, OBR-18; AccessionNumber
    PROCEDURE = "procedure"  # IPC-2, OBR-19; RequestedProcedureID


@dataclass(frozen=True, slots=True)
class OrderNumber:
    """A number of an order, with the namespace that makes it unique where the sender gave one."""

    value: str
    kind: NumberKind
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What the rules made of one order or one recording.

    `fields` are task fields without `upload_id` and tags of ours; `warnings` are for the operator and hold no
    patient value. `destination` is for the routes alone.
    """

    fields: dict[str, Any]
    traces: tuple[FieldTrace, ...] = ()
    warnings: tuple[str, ...] = ()
    patient_authority: str = ""
    numbers: tuple[OrderNumber, ...] = field(default=())
    destination: str = ""
