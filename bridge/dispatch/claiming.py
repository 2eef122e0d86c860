"""The line, taken in hand: of each destination what it has places for, in order within each patient."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import structlog

from bridge.clock import Clock
from bridge.dispatch.deciding import Post
from bridge.dispatch.destination import Room
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.in_hand import InHand, Taken
from bridge.dispatch.policy import OF_DESTINATION
from bridge.errors import CommitUnknown, StoreError
from bridge.store import line
from bridge.store.port import Connection, Store, Transaction

log = structlog.get_logger()

LONGEST_LOOK = 30.0
"""Seconds after which the line is looked at even where nobody said that something is in it."""
BEHIND = 1.0
"""Seconds until another look where what is due stands behind something else."""
AT_ONCE = 8
"""Messages of a destination that are claimed in one transaction, with their first intentions: bounds how long others
wait behind it, and how many are in doubt where the process ends before it sends the first of them."""
ASTRAY = 8
"""Messages without a way that are taken in hand at once."""


class Claiming:
    """Looks for what can be done now, and claims it. `begin` writes the first intention of a message of orders."""

    def __init__(
        self,
        store: Store,
        destinations: Destinations,
        order_wait: float,
        clock: Clock,
        begin: Callable[[Transaction, InHand], Post | None],
    ) -> None:
        self.astray = True  # whether something without a way may stand in line
        self.is_over = False  # whether nothing more is to be claimed
        self._store = store
        self._destinations = destinations
        self._order_wait = order_wait
        self._clock = clock
        self._begin = begin
        self._apart = False  # whether what is claimed next begins in transactions of its own

    def offers(self) -> dict[str, Room]:
        """The places that are free, of each destination to which something may be sent; `claim` is to be asked."""
        offers: dict[str, Room] = {}
        for name, one in self._destinations.items():
            one.backlog, one.due, one.paused_until = True, None, one.look_again()
            if one.paused_until is None and (room := one.room()).total > 0:
                offers[name], one.asking = room, True
        return offers

    async def claim(self, offers: dict[str, Room]) -> list[Taken] | None:
        """What is in hand now. None: it could not be claimed, and is worth another try."""
        try:
            with self._asking(offers) as renewed:
                worth = self._store.alone or self.astray or renewed or await self._is_claimable(offers)
                if self.is_over or not worth:
                    return []
                claimed = await self._store.write(functools.partial(self._claim, offers=offers, renewed=renewed))
        except StoreError as problem:  # a full disk, or what one of them needs cannot be read: it is tried again
            log.error("line.not_claimed", error=type(problem).__name__)
            self._apart = True
            await self._clock.sleep(1.0)
            return None
        except CommitUnknown:
            raise
        except Exception as problem:  # one of them cannot be begun: each begins by itself, and that one is held
            if self._apart:
                raise
            log.warning("line.claimed_apart", error=type(problem).__name__)
            self._apart = True
            return None
        self._apart = False
        return claimed

    @contextlib.contextmanager
    def _asking(self, offers: dict[str, Room]) -> Iterator[list[str]]:
        """While the line is asked: of these destinations, those that have another token since theirs was refused."""
        renewed = [name for name in offers if self._destinations[name].renewed]
        for name in renewed:
            self._destinations[name].renewed = False
        try:
            yield renewed
        except BaseException:
            for name in renewed:
                self._destinations[name].renewed = True
            raise
        finally:
            for name in offers:
                self._destinations[name].asking = False

    async def _is_claimable(self, offers: dict[str, Room]) -> bool:
        """Whether it is worth a turn to write, which keeps all other processes waiting."""
        now, monotonic = self._clock.now(), self._clock.monotonic()

        def look(conn: Connection) -> bool:
            for name, room in offers.items():
                one, smaller = self._destinations[name], room.smaller()
                if line.is_claimable(conn, at=now, destination=name, smaller=smaller, order_wait=self._order_wait):
                    return True
                one.backlog, one.due = line.waits(conn, name), _due(conn, name, now, monotonic)
            return False

        return await self._store.read(look)

    def _claim(self, tx: Transaction, offers: dict[str, Room], renewed: Sequence[str]) -> list[Taken]:
        """What can be done now, of each destination; of one where there is nothing, when something will be."""
        now, monotonic, taken = self._clock.now(), self._clock.monotonic(), list[line.Claimed]()
        for name in renewed:  # what the last token cost is tried with the new one
            line.hurry(tx, OF_DESTINATION, at=now, destination=name)
        if self.astray:
            known = list(self._destinations)
            taken += line.claim_astray(tx, self._store.worker, ASTRAY, known, at=now)
            self.astray = bool(taken) or bool(line.astray(tx.conn, known, but=line.GONE))
        for name, room in offers.items():
            one = self._destinations[name]
            before = len(taken)
            while (most := min(room.at_once(), AT_ONCE - len(taken) + before)) > 0:
                smaller = room.smaller()
                found = line.claim(
                    tx,
                    self._store.worker,
                    most,
                    at=now,
                    destination=name,
                    smaller=smaller,
                    order_wait=self._order_wait,
                )
                for each in found:
                    room.take(each)
                taken += found
                if len(found) < most:
                    break
            one.backlog = line.waits(tx.conn, name)
            one.due = None if len(taken) > before else _due(tx.conn, name, now, monotonic)
        return [self._taken(tx, each) for each in taken]

    def _taken(self, tx: Transaction, claimed: line.Claimed) -> Taken:
        """A message of orders begins in the transaction that claims it: one commit, not two."""
        work = InHand(claimed, claimed.state)
        if self._apart or claimed.kind != "hl7" or claimed.destination not in self._destinations:
            return Taken(work, None, is_begun=False)
        return Taken(work, self._begin(tx, work))

    def quiet(self) -> float:
        """Seconds until something can be done, as far as the last look showed it."""
        now, least = self._clock.monotonic(), LONGEST_LOOK
        for one in self._destinations.values():
            if one.paused_until is not None:
                least = min(least, one.paused_until - now)
            elif one.due is not None:
                seconds = one.due - now
                one.backlog = one.backlog or seconds <= 0
                least = min(least, seconds if seconds > 0 else BEHIND)
        return max(least, 0.01)

    def waits(self) -> bool:
        """Whether something may stand in line: a look says when, also of one that is paused since the last."""
        return self.astray or any(one.backlog for one in self._destinations.values())


def _due(conn: Connection, name: str, now: datetime, monotonic: float) -> float | None:
    """When what waits to go there is due (monotonic): a clock that is set after the look has no part in it (F25)."""
    due = line.next_due(conn, name)
    return None if due is None else monotonic + due / 1000 - now.timestamp()
