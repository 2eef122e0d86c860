"""What an outcome of the Cardio API means for the message: one pure table (failures.md §3.3).

The loop that sends has no opinion of its own; it does what stands here.
"""

from dataclasses import dataclass
from enum import StrEnum

from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Outcome, Refused

RETRY_AFTER = (1.0, 900.0)
"""Seconds that a Retry-After is taken for at the least and at the most (F14)."""
BACKOFF_FIRST, BACKOFF_MOST = 1.0, 300.0


class Step(StrEnum):
    """The call that was made."""

    OPEN_UPLOAD = "open_upload"
    CHUNK = "chunk"
    CREATE = "create"


class Reason(StrEnum):
    """Why a message is where it is; the console groups by it."""

    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"
    TOKEN_REFUSED = "token_refused"  # noqa: S105  a reason, no secret
    NOT_ALLOWED = "not_allowed"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    UPLOAD_LOST = "upload_lost"
    API_REFUSED = "api_refused"
    ANSWER_LOST = "answer_lost"
    ANSWER_BROKEN = "answer_broken"
    NOT_ONE_TASK = "not_one_task"
    WRONG_ADDRESS = "wrong_address"
    UNDOCUMENTED_ANSWER = "undocumented_answer"
    STOOD_STILL = "stood_still"


OF_DESTINATION = (Reason.UNREACHABLE, Reason.TOKEN_REFUSED, Reason.NOT_ALLOWED, Reason.WRONG_ADDRESS)
"""Reasons that are the destination's and no message's: they are over when it is back."""


@dataclass(frozen=True, slots=True)
class Proceed:
    """The step is done."""

    upload_id: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """The task is there."""

    task_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Nothing was applied: again after so many seconds. `pause_destination`: so does everything else."""

    after: float
    reason: Reason
    pause_destination: bool = False


@dataclass(frozen=True, slots=True)
class PauseDestination:
    """The token is refused: nothing goes out but one probe now and then (F15, F16)."""

    reason: Reason
    probe_after: float = 60.0


@dataclass(frozen=True, slots=True)
class NewUpload:
    """The upload session is of no use: open a new one and start at offset 0 (F21, F22)."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Reject:
    """The API said no to this message; its neighbours flow (F17)."""

    reason: Reason
    api_text: str
    status: int


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A task may exist: a person must look, nothing is sent again (F12).

    `pause_destination`: the next task would meet the same fate, so one probe at a time goes out.
    """

    reason: Reason
    pause_destination: bool = False


Decision = Proceed | Created | Retry | PauseDestination | NewUpload | Reject | InDoubt


def backoff(attempt: int, jitter: float) -> float:
    """Full jitter: somewhere between 0 and the doubled time, 5 minutes at the most; never less than 0.2 s."""
    most = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(attempt - 1, 16))
    return max(0.2, most * jitter)


_WRONG_ADDRESS = frozenset({301, 302, 303, 307, 308, 404, 405, 410})
"""Answers that say of the address, not of the message, that it is wrong: whatever is sent next gets them too."""
_SESSION_GONE = frozenset({400, 404, 409, 410})
"""Answers to a chunk that a new upload session mends; 400 is the documented one (F21, F22)."""
_AGAIN = frozenset({408, 425})
"""Client errors that mean "again", by their definition (RFC 9110 §15.5.9, RFC 8470 §5.2)."""


def decide(
    step: Step,
    outcome: Outcome,
    *,
    attempt: int,
    jitter: float,
    expected: int = 1,
    unavailable_is_not_applied: bool = False,
) -> Decision:
    """The one table. `attempt` counts from 1, `jitter` is in [0, 1), `expected` is the number of records sent.

    Not applied are a request that never left and the refusals that the API documents: 400, 401, 403, 415, 429.
    """
    match outcome:
        case NotSent():
            return Retry(backoff(attempt, jitter), Reason.UNREACHABLE, pause_destination=True)
        case Refused(status=429, retry_after=seconds):
            return Retry(_asked(seconds, max(attempt, 2), jitter), Reason.RATE_LIMITED, pause_destination=True)
        case Refused(status=401):
            return PauseDestination(Reason.TOKEN_REFUSED)
        case Refused(status=403):
            return PauseDestination(Reason.NOT_ALLOWED)
        case Refused(status=503, retry_after=seconds) if step is not Step.CREATE or unavailable_is_not_applied:
            return Retry(_asked(seconds, attempt, jitter), Reason.UNAVAILABLE)
    return _create(outcome, expected) if step is Step.CREATE else _upload(step, outcome, attempt, jitter)


def _create(outcome: Outcome, expected: int) -> Decision:
    """Anything undocumented may have been applied: gateways answer 502 and 504 after the origin has acted (F19).

    So may a 404: most likely the organization's path is wrong and nothing was done, but no document says so, and the
    price is one message for a person to settle. That it stays at one is what the pause is for.
    """
    match outcome:
        case Answered2xx(task_ids=ids):
            return Created(ids) if len(ids) == expected else InDoubt(Reason.NOT_ONE_TASK)
        case BrokenAnswer():
            return InDoubt(Reason.ANSWER_BROKEN)
        case Refused(status=400 | 415 as status, text=text):
            return Reject(Reason.API_REFUSED, text, status)
        case Refused(status=status) if status in _WRONG_ADDRESS:
            return InDoubt(Reason.WRONG_ADDRESS, pause_destination=True)
        case Refused(status=status) if status >= 500:
            return InDoubt(Reason.SERVER_ERROR)
        case Refused():
            return InDoubt(Reason.UNDOCUMENTED_ANSWER)
        case _:
            return InDoubt(Reason.ANSWER_LOST)


def _upload(step: Step, outcome: Outcome, attempt: int, jitter: float) -> Decision:
    """Uploads make nothing by themselves: they may be repeated (F18)."""
    match outcome:
        case Answered2xx(upload_id=upload_id):
            return Proceed(upload_id)
        case Refused(status=status) if step is Step.CHUNK and status in _SESSION_GONE:
            return NewUpload(Reason.UPLOAD_LOST)
        case Refused(status=status) if status in _WRONG_ADDRESS:
            return PauseDestination(Reason.WRONG_ADDRESS)
        case Refused(status=status, text=text) if 400 <= status < 500 and status not in _AGAIN:
            return Reject(Reason.API_REFUSED, text, status)
        case Refused():
            return Retry(backoff(attempt, jitter), Reason.SERVER_ERROR)
        case BrokenAnswer():
            return Retry(backoff(attempt, jitter), Reason.ANSWER_BROKEN)
        case _:
            return Retry(backoff(attempt, jitter), Reason.ANSWER_LOST)


def _asked(retry_after: float | None, attempt: int, jitter: float) -> float:
    """The seconds that the API asked for, within bounds; our own where it asked for none (F14)."""
    low, high = RETRY_AFTER
    return min(max(backoff(attempt, jitter) if retry_after is None else retry_after, low), high)
