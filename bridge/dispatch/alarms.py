"""What a person should hear of by himself: old doubts, a long line, work that waits (failures.md §3.4, §4, F13).

An alarm is a log event, said once: a doubt's for its message, a line's until it is well again.
"""

from datetime import datetime, timedelta

import structlog

from bridge.clock import Clock
from bridge.errors import StoreError
from bridge.store import gauges
from bridge.store.port import Connection, Store

log = structlog.get_logger()

EVERY = 15.0
"""Seconds between two looks."""
OLD = timedelta(minutes=15)
OLD_STAT = timedelta(minutes=5)
"""Age at which a doubt is one for a person: of any order, and of one that is urgent (STAT)."""
LONG = 1000
"""Messages that wait for one destination."""
WAITED = timedelta(minutes=15)
"""Age of the oldest message that waits to be sent."""


class Alarms:
    """Looks at the store now and then."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._said: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                found = await self._store.read(lambda conn: _found(conn, self._clock.now()))
            except StoreError as problem:
                log.error("alarm.not_read", error=type(problem).__name__)
            else:
                self._say(found)
            await self._clock.sleep(EVERY)

    def _say(self, found: dict[tuple[str, str], dict[str, object]]) -> None:
        for what, fields in found.items():
            if what not in self._said:
                log.error(what[0], **fields)
        self._said = set(found)  # what is well again may be said anew


def _found(conn: Connection, now: datetime) -> dict[tuple[str, str], dict[str, object]]:
    """Each alarm that is due, by its event and what it is about."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for doubt in gauges.doubts(conn):
        age = now - doubt.since
        if age >= (OLD_STAT if doubt.stat else OLD):
            found["doubt.old", str(doubt.message_id)] = {"message": doubt.message_id, "seconds": _seconds(age)}
    for name, number in gauges.queue(conn).items():
        if number >= LONG:
            found["queue.long", name] = {"part": name, "number": number}
    oldest = gauges.oldest_ready(conn)
    if oldest is not None and now - oldest >= WAITED:
        found["queue.old", ""] = {"seconds": _seconds(now - oldest)}
    return found


def _seconds(age: timedelta) -> int:
    return round(age.total_seconds())
