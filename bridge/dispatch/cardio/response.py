"""What the Cardio API said, as far as it came, and its reading into an `Outcome` (cardio_api.md, failures.md §3.3).

Pure: the two ways of sending (`client`, `exchange`) both end here.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from bridge.domain.outcome import Answered2xx, BrokenAnswer, Outcome, Refused
from bridge.domain.task import UINT64_MAX

MOST_BODY = 1 << 20
"""Bytes of an answer that are read at the most; no documented answer comes near (failures.md §4)."""
_MOST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Response:
    """A status with what came after it. `flaw` says why the body is not whole, or is empty where it is.

    `retry_after` and `date` are the header fields of these names as sent, or empty.
    """

    status: int
    body: bytes = b""
    flaw: str = ""
    retry_after: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """The answer to a status question (cardio_api.md §4). An empty `severity` is not assigned, which is not NONE."""

    creation_time: datetime
    processed: bool
    report_available: bool
    severity: str = ""


def outcome_of(response: Response, read: Callable[[bytes], Answered2xx | None]) -> Outcome:
    """The outcome of a call that got at least a status line.

    The status alone decides whether it was a refusal, so a refusal whose text was cut off is one. A success needs its
    body, whole: without it the call was applied and its result is unknown.
    """
    if not 200 <= response.status < 300:
        return Refused(response.status, words(response.body), seconds_to_wait(response))
    answered = None if response.flaw else read(response.body)
    return answered or BrokenAnswer(response.status, response.flaw or words(response.body))


def read_upload_id(body: bytes) -> Answered2xx | None:
    """The answer to opening an upload (§1)."""
    upload_id = _document(body).get("upload_id")
    if not isinstance(upload_id, str) or not upload_id or _storable(upload_id) != upload_id:
        return None
    return Answered2xx(upload_id=upload_id)


def read_task_ids(body: bytes) -> Answered2xx | None:
    """The answer to a task POST (§3): unsigned 64-bit integers, exactly (F23). How many is for the policy to judge.

    `true`, `1.0`, `"1"` and 2^64 are no ids; one of them makes the whole answer unreadable.
    """
    found = _document(body).get("created_task_ids")
    if not isinstance(found, list) or not all(type(i) is int and 0 <= i <= UINT64_MAX for i in found):
        return None
    return Answered2xx(task_ids=tuple(found))


def read_nothing(_: bytes) -> Answered2xx:
    """A success whose body says nothing that we need (§2)."""
    return Answered2xx()


def read_status(body: bytes) -> TaskStatus | None:
    """The answer to a status question (§4)."""
    said = _document(body)
    try:
        created = datetime.fromisoformat(said["creation_time"])
    except (KeyError, TypeError, ValueError):
        return None
    processed, available, severity = said.get("processed"), said.get("report_available"), said.get("severity") or ""
    if not (isinstance(processed, bool) and isinstance(available, bool) and isinstance(severity, str)):
        return None
    return TaskStatus(created, processed, available, severity) if created.tzinfo else None


def words(body: bytes) -> str:
    """The API's own words: a bare JSON string, else the text as it is, cut. For the operator only."""
    text = body.decode("utf-8", "replace")
    said = _json(body)
    return _storable(said if isinstance(said, str) else text)[:_MOST_TEXT]


def _storable(text: str) -> str:
    """JSON can name half of a surrogate pair, which no encoding can hold."""
    return text.encode("utf-8", "replace").decode()


def seconds_to_wait(response: Response) -> float | None:
    """Retry-After in seconds (RFC 9110 §10.2.3: a number or a date); None where there is none that can be read.

    A date is taken against the answer's own Date, so that a wrong clock on either side does no harm (F25).
    """
    value = response.retry_after.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    return max(0.0, (until - (_http_date(response.date) or datetime.now(UTC))).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):  # it was written for mail, and trusts its input
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _document(body: bytes) -> dict[str, Any]:
    said = _json(body)
    return said if isinstance(said, dict) else {}


def _json(body: bytes) -> Any:
    """None where it is no JSON: not UTF-8, a number of over 4,300 digits, or nested without end."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
