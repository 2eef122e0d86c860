"""What other processes committed, told here as if it had been committed here.

Ids of events are committed in order, since one transaction writes at a time: whoever has seen the rows up to one id
misses none by looking behind it. So a NOTIFY is only a word to look at once, and a look every `poll` seconds is enough
alone, as through a pooler (PgBouncer) that hands no words on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
import structlog

from bridge.domain.states import SETTLED, State
from bridge.store.port import Notice
from bridge.store.postgres_engine import listening

log = structlog.get_logger()

CHANNEL = "bridge"
TOPICS = frozenset({"outbound", "commitment", "alarm", "destination", "duty", "ready"})
"""What is told by its topic alone: no event says it, or none that names the message."""
SLICE = 0.25
"""Seconds between two looks at whether this process ends."""
AGAIN = 1.0
MOST = 1000
"""Events of one look."""
_LOOK = (
    "SELECT e.id, e.message_id, e.state, m.destination, m.answer FROM event e JOIN message m ON m.id = e.message_id "
    "WHERE e.id > %s ORDER BY e.id LIMIT %s"
)
_HEALTH = "SELECT name, down FROM destination"


class Follower:
    """One thread that looks. `heard` is called in it with notices; it must hand them to the loop."""

    def __init__(self, address: sa.URL, poll: float, own: str, heard: Callable[[Sequence[Notice]], object]) -> None:
        self._address = address
        self._poll = poll
        self._own = own
        self._heard = heard
        self._cursor = 0
        self._health: dict[str, bool] = {}
        self._skipping = threading.Lock()
        self._ranges: deque[tuple[int, int]] = deque()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, cursor: int) -> None:
        """Everything up to this event was seen."""
        self._cursor = cursor

    def start(self) -> None:
        """Follow, until `stop`."""
        self._thread = threading.Thread(target=self._run, name="store-follower", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more. The next word on the channel, this process's own as well, wakes it to see that."""
        self._ending.set()

    def stop(self) -> None:
        """No more, and the thread is over."""
        self.end()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def skip(self, after: int, upto: int) -> None:
        """The events behind `after` up to `upto` are this process's own, and told by itself."""
        if upto > after:
            with self._skipping:
                self._ranges.append((after, upto))

    def unskip(self, after: int) -> None:
        """They were not committed: a server that crashed meanwhile may give their numbers to others."""
        with self._skipping:
            while self._ranges and self._ranges[-1][0] >= after:
                self._ranges.pop()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with listening(self._address) as conn:
                    conn.execute(f"LISTEN {CHANNEL}")
                    self._tell(conn, {"ready", "destination", "outbound", "commitment"})  # whatever was missed
                    while not self._ending.is_set():
                        self._tell(conn, self._words(conn))
            except psycopg.Error as problem:
                log.warning("store.not_followed", error=type(problem).__name__)
                self._ending.wait(AGAIN)

    def _words(self, conn: psycopg.Connection[Any]) -> set[str]:
        """The topics that others told; returns when there is a word of them, or when it is time to look. Its own word
        of a destination counts too: else another's, behind it, were none to who knows but the one before it.
        """
        by = time.monotonic() + self._poll
        while not self._ending.is_set() and (left := by - time.monotonic()) > 0:
            topics: set[str] = set()
            spoken = False
            for word in conn.notifies(timeout=min(left, SLICE), stop_after=1):
                who, _, said = word.payload.partition(" ")
                told = set(said.split(",")) & (TOPICS if who != self._own else {"destination"})
                spoken = spoken or who != self._own or bool(told)
                topics |= told
            if spoken:
                return topics
        return set()

    def _tell(self, conn: psycopg.Connection[Any], topics: set[str]) -> None:
        notices = list(self._events(conn))
        if notices:
            topics |= {"outbound", "commitment"}
        if topics or notices:
            notices += self._destinations(conn)
        notices += [Notice(topic) for topic in sorted(topics - {"destination"})]
        if notices:
            self._heard(notices)

    def _events(self, conn: psycopg.Connection[Any]) -> Iterator[Notice]:
        """What befell messages in other processes, in its order."""
        while True:
            rows = conn.execute(_LOOK, (self._cursor, MOST)).fetchall()
            for number, message_id, state, destination, answer in rows:
                if self._is_own(number):
                    continue
                if state == State.RECEIVED:
                    yield Notice("received", message_id)
                elif state == State.READY:
                    yield Notice("ready", message_id, destination)
                elif state in SETTLED:
                    yield Notice("settled", message_id, answer)
            if rows:
                self._cursor = rows[-1][0]
            if len(rows) < MOST:
                return

    def _is_own(self, number: int) -> bool:
        with self._skipping:
            while self._ranges and self._ranges[0][1] < number:
                self._ranges.popleft()
            return bool(self._ranges) and self._ranges[0][0] < number

    def _destinations(self, conn: psycopg.Connection[Any]) -> list[Notice]:
        before, self._health = self._health, dict(conn.execute(_HEALTH).fetchall())
        changed = {name: down for name, down in self._health.items() if before.get(name) != down}
        return [Notice("destination", value=(name, down)) for name, down in changed.items()]
