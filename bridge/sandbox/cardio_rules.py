"""The rules for request bodies, written from the API's documentation alone and strict in every point.

The bridge has a model of its own for what it sends; this one plays the vendor, and the two must not share a mistake.
Two rules take the risky side of what is not documented: null, and an empty string or array, are refused, since
what is not known has to be left out. No text here repeats a value, which may be a patient's.
"""

import base64
import json
import re
from datetime import date, datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

UINT32 = 2**32 - 1
UINT64 = 2**64 - 1
Uint32 = Annotated[int, Field(strict=True, ge=0, le=UINT32)]

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)


class Refusal(Exception):
    """An error status with its text, which the API gives as a bare JSON string."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("an empty string says nothing: leave the field out")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("half a surrogate pair is no character")
    return value


def _birth_date(value: str) -> str:
    try:
        known = _DATE.fullmatch(value) is not None and date.fromisoformat(value)
    except ValueError:
        known = False
    if not known:
        raise ValueError("an ISO 8601 date that exists is needed, such as 1970-01-31")
    return value


def _utc(value: str) -> str:
    try:
        known = _DATE_TIME.fullmatch(value) is not None and datetime.fromisoformat(value[:19])
    except ValueError:
        known = False
    if not known:
        raise ValueError("a date-time in UTC that exists is needed, such as 2024-06-23T18:30:00Z")
    return value


@cache
def _zones() -> frozenset[str]:
    """Asked for once: `available_timezones` walks the file system, 6 ms a time."""
    return frozenset(available_timezones())


def _zone(value: str) -> str:
    if value not in _zones():
        raise ValueError("an IANA time zone is needed, such as Europe/London")
    return value


def _sha256(value: str) -> str:
    try:
        digest = base64.b64decode(value, validate=True)
    except ValueError as cause:
        raise ValueError("standard, padded Base64 is needed") from cause
    if len(digest) != 32:
        raise ValueError("a SHA-256 has 32 bytes")
    if base64.b64encode(digest).decode() != value:
        raise ValueError("standard, padded Base64 is needed, with no bits over")
    return value


Text = Annotated[str, AfterValidator(_said)]
Texts = Annotated[list[Text], Field(min_length=1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class OpenUpload(_Body):
    """`POST /v3/uploads`."""

    total_size: Uint32
    hash_sum: Annotated[str, AfterValidator(_sha256)]


class CreateTasks(_Body):
    """`POST /v3/orgs/{organization_path}/tasks`; every field is optional. None stands for absent, never for null."""

    upload_id: Text | None = None
    auto_complete: bool | None = None
    investigation_id: Text | None = None
    device_id: Text | None = None
    indications: Texts | None = None
    searching_tags: Texts | None = None
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


Body = TypeVar("Body", OpenUpload, CreateTasks)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return made


def _no_number(_: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


def document(content_type: str, content: bytes) -> dict[str, Any]:
    """A JSON object as RFC 8259 has it: UTF-8, no NaN, no name twice. Raises Refusal 415 and 400."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body must be application/json")
    try:
        found = _JSON.decode(content.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise Refusal(400, "the body is not JSON in UTF-8, or says a name twice") from cause
    if not isinstance(found, dict):
        raise Refusal(400, "the body is not a JSON object")
    return found


def validated(model: type[Body], found: dict[str, Any]) -> Body:
    """The body as the documentation has it. Raises Refusal 400 with the first field that is wrong, not its value."""
    for name, value in found.items():
        if value is None:
            raise Refusal(400, f"{name}: null; leave out what is not known")
    try:
        return model.model_validate(found)
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, f"{place}: {first['msg']}") from problem


def unsigned(text: str, most: int, name: str) -> int:
    """A decimal number of a path or query, plain digits alone. Raises Refusal 400."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= most):
        raise Refusal(400, f"{name}: an unsigned {most.bit_length()}-bit integer is needed")
    return int(text)
