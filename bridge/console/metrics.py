"""`/metrics`: Prometheus' text format. No label carries a patient or an order, and none grows with the traffic."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import logs
from bridge.clock import Clock
from bridge.domain.states import State
from bridge.errors import StoreError
from bridge.settings import Rule
from bridge.store import alarms, outbound, untold
from bridge.store.gauges import Gauges, gauges
from bridge.store.payloads import Payloads
from bridge.store.port import Connection, Store

log = structlog.get_logger()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHARE = 20
"""A look into a large store takes a twentieth of the time at the most: what was seen holds for that much longer."""
_LONGEST = 60.0
"""Seconds for which it holds at the most."""
_PATIENCE = 5.0
"""Seconds that a scrape waits for the store; Prometheus gives up after 10 ("scrape_timeout")."""
_TOLD = dict.fromkeys((outbound.WAITING, outbound.SENT, outbound.HELD, untold.DROPPED), 0)
"""What becomes of messages and reports of our own."""


class Metrics:
    """Made anew at each question, from what the store, the disk and the process are now."""

    def __init__(self, store: Store, payloads: Payloads, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: _Seen | None = None
        self._until = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._was_late = False
        self._registry = CollectorRegistry()
        self._registry.register(_Families(lambda: self._seen, payloads))
        ProcessCollector(registry=self._registry)  # memory, open files, CPU of this process

    async def text(self) -> bytes:
        """What a scrape gets; where the store cannot be read, that, and what is known without it."""
        if self._looking is None and time.monotonic() >= self._until:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            _, late = await asyncio.wait({self._looking}, timeout=_PATIENCE)
            if late:  # one look at a time: the next scrape waits for the same one, and no more for what was seen before
                self._seen = None if self._was_late else self._seen
                self._was_late = True
        return generate_latest(self._registry)

    async def _look(self) -> None:
        try:
            self._seen, took = await self._store.read(self._count)
            self._until = time.monotonic() + min(_LONGEST, _SHARE * took)
        except StoreError:
            self._seen = None
        except Exception as problem:  # noqa: BLE001  edge: nothing old is served for now, whatever it was
            log.error("metrics.not_counted", error=type(problem).__name__)
            self._seen = None
        finally:
            self._looking, self._was_late = None, False

    def _count(self, conn: Connection) -> tuple["_Seen", float]:
        """Everything, and the seconds that it took: those of waiting for a connection do not count."""
        began = time.monotonic()
        seen = _Seen(gauges(conn, at=self._clock.now()), alarms.counts(conn))
        return seen, time.monotonic() - began


@dataclass(frozen=True, slots=True)
class _Seen:
    store: Gauges
    alarms: Mapping[str, int]


@dataclass(frozen=True)
class _Families(Collector):
    seen: Callable[[], _Seen | None]
    payloads: Payloads

    def collect(self) -> Iterator[Metric]:
        """Each family. What is the store's is absent while it cannot be read, so that nothing old is taken for now."""
        seen = self.seen()
        yield _one("bridge_store_up", "1 where the store can be read.", int(seen is not None))
        if seen is not None:
            yield from _of_store(seen.store)
            rules = {rule.value: seen.alarms.get(rule.value, 0) for rule in Rule if rule is not Rule.TEST}
            yield _labelled("bridge_alarms", "Alarms that are on, by rule.", "rule", rules)
        yield _one(
            "bridge_room_bytes", "Free above store.min_free; below 0 nothing new is taken.", self.payloads.free()
        )
        yield _one("bridge_ballast_missing_bytes", "What was given up on a full disk.", self.payloads.ballast_missing())
        dropped = CounterMetricFamily("bridge_log_lines_dropped", "Log lines that never came out.")
        dropped.add_metric([], logs.SINK.dropped)
        yield dropped


def _of_store(now: Gauges) -> Iterator[Metric]:
    """A state that no message is in is there as 0, so that its absence means nothing."""
    states = {state.value: now.states.get(state, 0) for state in State}
    yield _labelled("bridge_messages", "Messages by state.", "state", states)
    yield _one("bridge_in_doubt", "Messages with a POST whose outcome is not known.", now.doubts)
    yield _one("bridge_in_doubt_oldest_seconds", "Age of the oldest doubt.", now.oldest_doubt)
    yield _one("bridge_held", "Messages that a person must look at.", states[State.HELD])
    queue = {**dict.fromkeys(now.down, 0), **now.queue}
    yield _labelled("bridge_queue", "Messages to be sent, by destination.", "destination", queue)
    yield _one("bridge_queue_oldest_seconds", "Time since the oldest of them was received.", now.oldest_ready)
    up = {name: int(not down) for name, down in now.down.items()}
    yield _labelled("bridge_destination_up", "1 where the destination is sent to.", "destination", up)
    yield _labelled("bridge_outbound", "HL7 messages of our own by state.", "state", {**_TOLD, **now.outbound})
    yield _labelled("bridge_commitment", "Storage commitment reports by state.", "state", {**_TOLD, **now.commitment})
    yield _one("bridge_anomalies", "Tasks that a person must settle.", now.anomalies)
    yield _one("bridge_watched", "Tasks whose processing is waited for.", now.watched)
    yield _one("bridge_quarantine", "1 where nothing is sent until a person releases it.", int(now.quarantine))
    yield _labelled("bridge_workers", "Processes at work on the store, by role.", "role", now.workers)


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
