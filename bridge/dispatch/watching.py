"""Tasks that were created are looked at until they are processed, or too late (F38), and each of them once (§3.6).

The API has no failed state, so the deadline is our own. A draft has nothing to process: whether it exists is all that
is asked. One question at a time, with a pause behind it, and none to a destination that is down: a look never stands in
the way of a task.
"""

import structlog

from bridge.clock import Clock
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.cardio.response import TaskStatus
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.policy import RETRY_AFTER
from bridge.domain.outcome import BrokenAnswer, Outcome, Refused
from bridge.errors import StoreError
from bridge.store import anomalies, watched
from bridge.store.port import Store, Transaction
from bridge.store.watched import Watched

log = structlog.get_logger()

PACE = 0.5
"""Seconds between two questions."""
NOT_NOW = 60.0
"""Seconds that a destination is left alone after an answer that was none."""
NOT_PROCESSED = "not_processed"
GONE = "task_gone"


class Watching:
    """Asks for the status of what was created."""

    def __init__(self, store: Store, destinations: Destinations, clock: Clock) -> None:
        self._store = store
        self._destinations = destinations
        self._clock = clock
        self._left_alone: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                one = await self._next()
                if one is not None:
                    await self._look(one)
            except StoreError as problem:  # a full disk: the look is made again
                log.error("task.not_watched", error=type(problem).__name__)
                one = None
            await self._clock.sleep(PACE if one is not None else watched.FIRST_LOOK / 4)

    async def _next(self) -> Watched | None:
        now = self._clock.monotonic()
        self._left_alone = {name: until for name, until in self._left_alone.items() if until > now}
        return await self._store.read(
            lambda conn: watched.due(conn, at=self._clock.now(), without=tuple(self._left_alone))
        )

    async def _look(self, one: Watched) -> None:
        destination = self._destinations.get(one.destination) if one.destination else self._destinations.first
        if destination is None:  # it is not configured any more
            self._left_alone[one.destination] = self._clock.monotonic() + watched.LONGEST
            return
        now = self._clock.monotonic()
        if (stopped := destination.stopped()) is not None:
            self._left_alone[one.destination] = now + stopped.after
            return
        within = destination.settings.processed_within
        if not within:
            await self._store.write(lambda tx: watched.over(tx, one, seen={"watched": False}))
            return
        said = await self._status(destination.client, one)
        if isinstance(said, Refused) and said.status == 429:  # it is for all who have this token (F14)
            self._destinations.limit(destination, now + _pause(said))
        await self._store.write(lambda tx: self._judge(tx, one, said, within))

    @staticmethod
    async def _status(client: CardioClient, one: Watched) -> TaskStatus | Outcome:
        """What is said of the first of its tasks that is not processed; of the last one where all are."""
        said: TaskStatus | Outcome | None = None
        for task_id in one.task_ids:
            said = await client.task_status(task_id)
            if not isinstance(said, TaskStatus) or not said.processed:
                break
        return said or BrokenAnswer(0, "it has no id")

    def _judge(self, tx: Transaction, one: Watched, said: TaskStatus | Outcome, within: float) -> None:
        """What its status says of it, or that it cannot be known now."""
        now = self._clock.now()
        if isinstance(said, TaskStatus):
            if said.processed or one.purpose == "draft":
                watched.over(tx, one, seen=_seen(said))
            elif (now - one.created_at).total_seconds() >= within:
                self._alarm(tx, one, NOT_PROCESSED)
                watched.over(tx, one, seen=_seen(said))
            else:
                watched.again(tx, one, at=now, seconds=_interval(one.looks), seen=_seen(said))
        elif isinstance(said, Refused) and said.status == 404:
            self._alarm(tx, one, GONE)
            watched.over(tx, one, seen={"status": 404})
        else:
            pause = _pause(said)
            self._left_alone[one.destination] = self._clock.monotonic() + pause
            watched.again(tx, one, at=now, seconds=max(pause, _interval(one.looks)), seen={})

    def _alarm(self, tx: Transaction, one: Watched, reason: str) -> None:
        """For a person: listed once, and said."""
        log.error("task.alarm", message=one.message_id, reason=reason)
        anomalies.note(
            tx,
            message_id=one.message_id,
            task_message_id=one.message_id,
            reason=reason,
            task_ids=one.task_ids,
            at=self._clock.now(),
        )


def _interval(looks: int) -> float:
    """Seconds to the next look: twice as long each time."""
    return min(watched.FIRST_LOOK * 2.0 ** min(looks, 16), watched.LONGEST)


def _pause(said: Outcome) -> float:
    """Seconds that a destination is left alone: those that it asked for, within bounds."""
    asked = said.retry_after if isinstance(said, Refused) and said.retry_after is not None else NOT_NOW
    return min(max(asked, RETRY_AFTER[0]), RETRY_AFTER[1])


def _seen(said: TaskStatus | Outcome) -> dict[str, object]:
    if not isinstance(said, TaskStatus):
        return {}
    return {"processed": said.processed, "report": said.report_available, "severity": said.severity}
