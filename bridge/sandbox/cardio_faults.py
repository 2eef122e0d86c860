"""Faults to play: what to do to which call, how often. Nothing is played unless somebody asked for it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CALLS = ("uploads", "chunks", "tasks", "status", "*")
KINDS = {
    "latency": "answer after `seconds`",
    "429": "rate limit; `retry_after` is the header where it is given",
    "400": "refused as invalid",
    "401": "token refused",
    "403": "token not allowed here",
    "415": "refused as not JSON",
    "5xx_before": "`status` (500), nothing applied",
    "5xx_after": "`status` (500), after it was applied",
    "lost_answer": "applied, then the connection is closed without a byte",
    "drop_before": "the connection is closed without a byte, nothing applied",
    "silent": "never answers; applied unless `applied` is false",
    "broken_body": "2xx with a body that is no JSON, after it was applied",
    "wrong_ids": "2xx with the `ids` given, after it was applied",
}
"""Every fault there is, in words."""


@dataclass(slots=True)
class Fault:
    """One fault; `times` None is for ever."""

    kind: str
    on: str = "*"
    times: int | None = None
    seconds: float = 0.0
    status: int = 500
    retry_after: str | None = None
    ids: list[int] | None = None
    applied: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault {self.kind!r}: known are {', '.join(KINDS)}")
        if self.on not in CALLS:
            raise ValueError(f"call {self.on!r}: known are {', '.join(CALLS)}")


class Faults:
    """The faults in force, in the order in which they were asked for. A call plays the first that fits, and any
    latency besides.
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, kind: str, **options: Any) -> None:
        """Ask for a fault. Raises ValueError for an unknown kind or call, TypeError for an unknown option."""
        self._faults.append(Fault(kind, **options))

    def replace(self, wanted: list[Mapping[str, Any]]) -> None:
        """Exactly these."""
        self._faults = [Fault(**one) for one in wanted]

    def clear(self) -> None:
        """None."""
        self._faults = []

    def listed(self) -> list[dict[str, Any]]:
        """Those that are left, as JSON values."""
        return [asdict(f) for f in self._faults]

    def take(self, call: str) -> tuple[float, Fault | None]:
        """Seconds of latency, and the fault to play, for one call; counts them down."""
        if not self._faults:
            return 0.0, None
        latency, played = 0.0, None
        for fault in list(self._faults):
            if fault.on not in {call, "*"}:
                continue
            if fault.kind == "latency":
                latency += fault.seconds
            elif played is None:
                played = fault
            else:
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
        return latency, played
