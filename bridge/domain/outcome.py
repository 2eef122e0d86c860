"""What a call of the Cardio API came to, as values. `dispatch.policy` decides what each one means.

The one question that matters for a task POST is whether it can have been applied (failures.md §3.3).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered2xx:
    """A success with a body that could be read. `task_ids` are unsigned 64-bit integers."""

    task_ids: tuple[int, ...] = ()
    upload_id: str = ""


@dataclass(frozen=True, slots=True)
class BrokenAnswer:
    """A 2xx whose body was not what is documented: applied, result unknown."""

    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The API answered with an error status. `text` is its own words, for the operator only."""

    status: int
    text: str
    retry_after: float | None = None  # seconds, where the header came and could be read


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request left us: provably not applied."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Bytes left us and no answer came: it may have been applied."""

    detail: str


Outcome = Answered2xx | BrokenAnswer | Refused | NotSent | Unknown
