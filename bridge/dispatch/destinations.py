"""Every destination: none holds up another, but those that share a token share its rate limit."""

from collections.abc import Iterator, Mapping, Sequence

import structlog

from bridge.clock import Clock
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.destination import Destination
from bridge.dispatch.insisting import insist
from bridge.dispatch.policy import OF_DESTINATION, Decision, PauseDestination, Reason, Retry
from bridge.errors import SettingsError, StoreError
from bridge.settings import CardioSettings
from bridge.store import destinations, line
from bridge.store.port import Notice, Store, Transaction

log = structlog.get_logger()

_ALARMS = (Reason.TOKEN_REFUSED, Reason.NOT_ALLOWED, Reason.WRONG_ADDRESS)
"""Reasons for which somebody must do something: time alone mends none of them."""


class Destinations(Mapping[str, Destination]):
    """Every destination by its name, in the order of the settings; the first is where a route says nothing else."""

    def __init__(self, settings: CardioSettings, store: Store, clock: Clock) -> None:
        self._all = {name: Destination(one, clock, store.dispatchers) for name, one in settings.all().items()}
        self._store = store
        self._clock = clock
        store.subscribe(self.hear)

    def __getitem__(self, name: str) -> Destination:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def first(self) -> Destination:
        return next(iter(self._all.values()))

    def client(self, name: str) -> CardioClient:
        """The client for a message's destination; the first one's where the message has none. Raises SettingsError
        where the destination exists no more.
        """
        if name and name not in self._all:
            raise SettingsError(f"cardio: there is no destination {name} any more; name one so in cardio.destinations")
        return (self._all[name] if name else self.first).client

    async def aclose(self) -> None:
        """Close every connection."""
        for one in self._all.values():
            await one.client.aclose()

    def stop(self) -> None:
        """Nothing more is waited for."""
        for one in self._all.values():
            one.stop()

    async def begin(self) -> None:
        """What a start knows: all are taken to be up, and a rate limit goes on to its end (F14)."""

        def work(tx: Transaction) -> dict[str, int]:
            destinations.begin(tx, list(self._all), at=self._clock.now())
            return line.limited_until(tx.conn, Reason.RATE_LIMITED)

        limits = await insist(self._clock, "destination.not_noted", lambda: self._store.write(work))
        now, monotonic = self._clock.now().timestamp() * 1000, self._clock.monotonic()
        for name, until in limits.items():
            seconds = min(until - now, line.LONGEST_WAIT) / 1000  # a clock that was set back makes it no longer (F25)
            if name in self._all and seconds > 0:
                self.limit(self._all[name], monotonic + seconds)

    def limit(self, destination: Destination, until: float) -> None:
        """Nobody who has this token calls before that moment."""
        token = destination.token()
        for one in self._all.values():
            if one is destination or (token is not None and one.token() == token):
                one.health = one.health.limited(until)

    async def note(self, destination: Destination, decision: Decision) -> None:
        """What a call's outcome makes of the destination's health, and the doors hear of it."""
        now = self._clock.monotonic()
        destination.health = destination.health.after(decision, now)
        match decision:
            case Retry(after=seconds, reason=Reason.RATE_LIMITED, pause_destination=True):
                self.limit(destination, now + seconds)
            case PauseDestination() | Retry(pause_destination=True):
                destination.refused()
        await self._tell(destination)

    def hear(self, notices: Sequence[Notice]) -> None:
        """Another dispatcher noted otherwise, and may have ended since: the next outcome says anew what it is."""
        for name, down in (notice.value for notice in notices if notice.topic == "destination"):
            one = self._all.get(name)
            if one is not None and one.noted is not None and one.noted[0] != down:
                one.noted = None

    async def _tell(self, destination: Destination) -> None:
        health = destination.health
        reason = health.reason if health.known_down else None
        known = (health.known_down, reason.value if reason is not None else "")
        if known == destination.noted:
            return
        if destination.noted is None and not health.known_down and health.doubts:
            return  # what is in doubt itself gainsays nobody
        if not health.known_down:
            log.warning("destination.up", destination=destination.name)
        elif reason in _ALARMS:
            log.error("destination.stopped", destination=destination.name, reason=known[1])
        else:
            log.warning("destination.down", destination=destination.name, reason=known[1])
        destination.noted = known
        try:
            await self._store.write(lambda tx: self._note(tx, destination.name, *known))
        except StoreError as problem:  # the outcome of a POST is in hand: this must not come between
            destination.noted = None
            log.error("destination.not_noted", destination=destination.name, error=type(problem).__name__)

    def _note(self, tx: Transaction, name: str, down: bool, reason: str) -> None:
        now = self._clock.now()
        destinations.note(tx, name, down=down, at=now, reason=reason)
        if not down:  # what it kept waiting goes out with the rest, and not each at a time of its own
            line.hurry(tx, OF_DESTINATION, at=now, destination=name)
