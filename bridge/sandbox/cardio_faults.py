"""Faults to play: what to do to which call, how often. Nothing is played unless somebody asked for it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

KINDS = {
    "latency": "wait `seconds`, then do it and answer, even if the client has left",
    "429": "rate limit; `retry_after` is the header where it is given",
    "400": "refused as invalid",
    "401": "token refused",
    "403": "token not allowed here",
    "415": "refused as not JSON",
    "5xx_before": "`status` (500), nothing applied",
    "5xx_after": "`status` (500), after it was applied",
    "status": "any `status` (such as 307 with a `location`, 408, 409); applied unless `applied` is false",
    "lost_answer": "applied, then the connection is closed without a byte",
    "drop_before": "all of the request is read, then the connection is closed without a byte; nothing applied",
    "drop_at_once": "the connection is closed before the body is read; nothing applied",
    "silent": "never answers; applied unless `applied` is false",
    "drip": "applied, then the answer comes a byte every `seconds`",
    "cut_body": "applied, then 2xx with half of the body that its length promises",
    "broken_body": "applied, then 2xx with a `body` that is no JSON",
    "long_body": "applied, then a right answer, blown up to `size` bytes (2 MiB)",
    "wrong_ids": "applied, then 2xx with the `ids` given; on tasks only",
    "forget_upload": "the upload session of this call is gone, as if its time were over",
}
"""Every fault there is, in words."""


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"known are {', '.join(KINDS)}")
    return kind


class Fault(BaseModel):
    """One fault. It lets `skip` calls pass, then plays on each `every`-th that fits, `times` times (None: for ever).

    `reset` closes with a TCP RST where a connection is closed.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Annotated[str, AfterValidator(_known)]
    on: Literal["uploads", "chunks", "tasks", "status", "downloads", "*"] = "*"
    times: Annotated[int, Field(ge=1)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    every: Annotated[int, Field(ge=1)] = 1
    seconds: Annotated[float, Field(ge=0)] = 0.0
    status: Annotated[int, Field(ge=200, le=599)] = 500
    retry_after: str | int | None = None
    location: str | None = None
    ids: list[Any] = []
    applied: bool = True
    body: str = '{"created_task'
    size: Annotated[int, Field(ge=0)] = 2 * 1024 * 1024
    reset: bool = False

    def fits(self, call: str) -> bool:
        """Whether it can be played on that call."""
        if self.kind == "wrong_ids" and call != "tasks":
            return False
        return self.on in {call, "*"}


_LIST = TypeAdapter(list[Fault])


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seen: int = 0
    played: int = 0

    def due(self) -> bool:
        """Counts one fitting call, and whether the fault falls on it."""
        self.seen += 1
        beyond = self.seen - self.fault.skip
        if beyond < 1 or beyond % self.fault.every:
            return False
        self.played += 1
        return True

    def spent(self) -> bool:
        return self.fault.times is not None and self.played >= self.fault.times


class Faults:
    """The faults in force, in the order in which they were asked for. A call plays the first that is due, and any
    latency besides.
    """

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, kind: str, **options: Any) -> None:
        """Ask for a fault. Raises ValueError for what it does not know."""
        self._armed.append(_Armed(Fault(kind=kind, **options)))

    def replace(self, wanted: bytes) -> None:
        """Exactly these, as a JSON list. Raises ValueError, and changes nothing then."""
        self._armed = [_Armed(fault) for fault in _LIST.validate_json(wanted)]

    def clear(self) -> None:
        """None."""
        self._armed = []

    def listed(self) -> list[dict[str, Any]]:
        """Those in force, as JSON values, with how often each was played."""
        return [
            {**a.fault.model_dump(exclude_defaults=True), "on": a.fault.on, "played": a.played} for a in self._armed
        ]

    def take(self, call: str) -> tuple[float, Fault | None]:
        """Seconds of latency, and the fault to play, for one call; counts them down."""
        if not self._armed:
            return 0.0, None
        latency = 0.0
        played: Fault | None = None
        for armed in list(self._armed):
            slow = armed.fault.kind == "latency"
            if (played is not None and not slow) or not armed.fault.fits(call) or not armed.due():
                continue
            if slow:
                latency += armed.fault.seconds
            else:
                played = armed.fault
            if armed.spent():
                self._armed.remove(armed)
        return latency, played
