"""A profile read: own time less what the profiler itself took, by function and by room of the house."""

import cProfile
import pstats
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Function = tuple[str, int, str]
Entry = tuple[int, int, float, float, dict[Function, tuple[int, int, float, float]]]

WAIT = "(waiting for the disk: commit)"
STATEMENTS = "store: statements run"
REST = "called by the event loop itself"
ROOMS = (
    ("HTTP: the task POST", ("bridge/dispatch/cardio/",)),
    ("answer building", ("bridge/formats/hl7/answer.py", "bridge/dispatch/answers.py")),
    ("MLLP, intake, replies", ("bridge/receive/", "bridge/formats/hl7/mllp.py", "bridge/formats/hl7/batch.py")),
    ("composing the task", ("bridge/mapping/compose.py", "bridge/domain/task.py")),
    ("mapping, understanding", ("bridge/mapping/", "bridge/dispatch/understand.py")),
    ("reading HL7: split, find, unescape", ("bridge/formats/", "bridge/domain/found.py")),
    (STATEMENTS, ("bridge/store/prepared.py", "sqlalchemy/")),
    ("store: begin, end, hand-over", ("bridge/store/sqlite.py", "tests/bench/cost_serve.py")),
    ("store: rows made and read", ("bridge/store/",)),
    ("dispatch: books, rules, states", ("bridge/dispatch/", "bridge/domain/")),
)
"""Own time belongs to the nearest of these that asked for it: what a library does is its caller's."""


@cache
def room_of(function: Function) -> str:
    """The room; empty for a library's function."""
    path, _, name = function
    if "sqlite3." in name:
        return WAIT if "'commit'" in name else STATEMENTS
    return next((room for room, parts in ROOMS if any(part in path for part in parts)), "")


def name_of(function: Function) -> str:
    """A short name."""
    path, line, name = function
    return name if path == "~" else f"{'/'.join(Path(path).parts[-3:])}:{name}" + (f":{line}" if "<" in name else "")


@dataclass(frozen=True, slots=True)
class Overhead:
    """Seconds that the profiler adds to a call: within it, and within its caller."""

    inside: float
    outside: float


def overhead(calls: int = 100_000) -> Overhead:
    """Measured on functions that do nothing."""

    def nothing() -> None:
        pass

    def many() -> None:
        for _ in range(calls):
            nothing()

    began = time.perf_counter()
    many()
    plain = time.perf_counter() - began
    profile = cProfile.Profile()
    profile.runcall(many)
    own = {f[2]: e[2] for f, e in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    return Overhead(own["nothing"] / calls, max(own["many"] - plain, 0.0) / calls)


class Profile:
    """Own seconds of each function."""

    def __init__(self, path: Path, took: Overhead) -> None:
        self.entries: dict[Function, Entry] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
        made: dict[Function, int] = {}
        for entry in self.entries.values():
            for caller, (calls, *_) in entry[4].items():
                made[caller] = made.get(caller, 0) + calls
        self.own = {
            f: max(e[2] - e[1] * took.inside - made.get(f, 0) * took.outside, 0.0) for f, e in self.entries.items()
        }
        self._shares: dict[Function, dict[str, float]] = {}

    def calls(self, *names: str) -> int:
        """How often any of these was called."""
        return sum(e[1] for f, e in self.entries.items() if name_of(f).endswith(names))

    def rooms(self) -> dict[str, float]:
        """Own time by room."""
        spent: dict[str, float] = {}
        for function, own in self.own.items():
            for room, share in self._rooms_of(function, frozenset()).items():
                spent[room] = spent.get(room, 0.0) + own * share
        return spent

    def _rooms_of(self, function: Function, above: frozenset[Function]) -> dict[str, float]:
        """Which rooms a function works for, by the calls of its callers."""
        if room := room_of(function):
            return {room: 1.0}
        if function in self._shares:
            return self._shares[function]
        callers = {c: e[2] for c, e in self.entries[function][4].items() if c not in above and c != function}
        whole = sum(callers.values())
        if not whole:
            return {REST: 1.0}
        shares: dict[str, float] = {}
        for caller, weight in callers.items():
            for room, share in self._rooms_of(caller, above | {function}).items():
                shares[room] = shares.get(room, 0.0) + share * weight / whole
        if not above:
            self._shares[function] = shares
        return shares

    def deep(self) -> dict[Function, float]:
        """Seconds of our functions with all that they called, less the profiler's part as the whole was."""
        raw = sum(e[2] for e in self.entries.values())
        factor = sum(self.own.values()) / raw
        return {f: e[3] * factor for f, e in self.entries.items() if "bridge/" in f[0] and "tests/" not in f[0]}
