"""The rules for request bodies, written from the API's documentation alone and strict in every point.

The bridge has a model of its own for what it sends; this one plays the vendor, and the two must not share a mistake.
"""

import base64
import binascii
from datetime import date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

UINT32 = 2**32 - 1
Uint32 = Annotated[int, Field(strict=True, ge=0, le=UINT32)]


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("an empty string says nothing: leave the field out")
    return value


def _birth_date(value: str) -> str:
    if date.fromisoformat(value).isoformat() != value:
        raise ValueError("an ISO 8601 date, such as 1970-01-31")
    return value


def _utc(value: str) -> str:
    if not value.endswith("Z") or "T" not in value:
        raise ValueError("a date-time in UTC, such as 2024-06-23T18:30:00Z")
    datetime.fromisoformat(value)
    return value


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("an IANA time zone, such as Europe/London")
    return value


def _sha256(value: str) -> str:
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error as cause:
        raise ValueError("standard, padded Base64") from cause
    if len(digest) != 32:
        raise ValueError("a SHA-256 has 32 bytes")
    return value


Text = Annotated[str, Field(strict=True), AfterValidator(_said)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OpenUpload(_Body):
    """`POST /v3/uploads`."""

    total_size: Uint32
    hash_sum: Annotated[str, AfterValidator(_sha256)]


class CreateTasks(_Body):
    """`POST /v3/orgs/{organization_path}/tasks`; every field is optional."""

    upload_id: Text | None = None
    auto_complete: bool | None = None
    investigation_id: Text | None = None
    device_id: Text | None = None
    indications: list[Text] | None = None
    searching_tags: list[Text] | None = None
    patient_id: Text | None = None
    patient_first_name: Text | None = None
    patient_last_name: Text | None = None
    patient_gender: Literal["FEMALE", "MALE", "UNDIFFERENTIATED"] | None = None
    patient_birth_date: Annotated[str, AfterValidator(_birth_date)] | None = None
    patient_age: Uint32 | None = None
    patient_height: Uint32 | None = None
    patient_weight: Uint32 | None = None
    recording_start_time: Annotated[str, AfterValidator(_utc)] | None = None
    recording_time_zone: Annotated[str, AfterValidator(_zone)] | None = None


def refusal(problem: ValidationError) -> str:
    """The first thing that is wrong, in words, without the value."""
    first = problem.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(p) for p in first['loc']) or 'body'}: {first['msg']}"


def explicit_nulls(document: Any) -> list[str]:
    """Fields that are sent as null: a field that is not known is left out."""
    return [key for key, value in document.items() if value is None] if isinstance(document, dict) else []
