"""Retention, carried out beside the work of the service: in small transactions, each with a pause behind it.

One call is a slice of some seconds. Whoever called it calls again behind the last message that was looked at, so that
a prune of a full store can be stopped at any moment, and a second one goes on where there is something left.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.errors import ActionRefused
from bridge.formats.hl7.bare import bare
from bridge.retention_settings import RetentionSettings
from bridge.store import audit, going, inbox, outdated, prune, quarantine
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction
from bridge.store.schema import moment

log = structlog.get_logger()

PAUSE = 0.02
"""Seconds between two steps beside a service: most of the writer's time is for what comes in."""
SLICE = 5.0
"""Seconds of one call."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a slice did, or would do. `after` goes on behind the last message that was looked at; None: all is done.

    `files` are recordings that were removed, `size` the bytes of all messages as they were received.
    """

    after: int | None
    messages: int = 0
    files: int = 0
    size: int = 0
    commitments: int = 0
    alarms: int = 0
    sessions: int = 0

    def __add__(self, more: "Pruned") -> "Pruned":
        mine, theirs = asdict(self), asdict(more)
        return Pruned(**{n: theirs[n] if n == "after" else mine[n] + theirs[n] for n in mine})

    @property
    def is_nothing(self) -> bool:
        """Whether nothing went."""
        return not any(many for name, many in asdict(self).items() if name != "after")


class Pruning:
    """Empties what is finished and old enough. `pause` in seconds: none where nobody else writes."""

    def __init__(
        self, store: Store, payloads: Payloads, settings: RetentionSettings, clock: Clock, *, pause: float = PAUSE
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._settings = settings
        self._clock = clock
        self._pause = pause

    def edges(self) -> dict[str, str]:
        """Up to when each kind goes, for people."""
        found = asdict(prune.upto(self._settings, self._clock.now()))
        return {name: moment(at).isoformat(timespec="seconds") for name, at in found.items() if at is not None}

    async def would(self, after: int, *, seconds: float) -> Pruned:
        """What can go, of those behind `after`; nothing is changed."""
        edges = prune.upto(self._settings, self._clock.now())
        until = time.monotonic() + seconds
        found = Pruned(after)
        while found.after is not None and time.monotonic() < until:
            window = await self._store.read(partial(prune.window, after=found.after, edges=edges))
            messages, files, size = await self._store.read(partial(prune.measured, ids=window.ids))
            found += Pruned(window.last, messages, files, size)
        if found.after is None:
            for kind in outdated.KINDS:
                many = await self._store.read(partial(outdated.count, kind=kind, edges=edges))
                found = replace(found, **{kind: many})
        return found

    async def some(self, after: int, *, by: str, seconds: float) -> Pruned:
        """Prune for so long, from the messages behind `after` on. Raises StoreError: then the next call goes on.

        What was pruned is in the audit trail, with who asked for it and up to when. Raises ActionRefused in quarantine:
        what became of the messages of an older copy is not known.
        """
        if why := await self._store.read(quarantine.reason):
            raise ActionRefused(f"prune: the store is in quarantine ({why}); release it first: bridge db release")
        edges = prune.upto(self._settings, self._clock.now())
        until = time.monotonic() + seconds
        done = Pruned(after)
        if not after:
            await self._note({"upto": self.edges()}, by)
        try:
            done += replace(await self._files(), after=after)
            while done.after is not None and time.monotonic() < until:
                window = await self._store.read(partial(prune.window, after=done.after, edges=edges))
                for ids in _parts(window.ids, prune.STEP):
                    done += replace(await self._step(ids, edges, by), after=done.after)
                done = replace(done, after=window.last)
            if done.after is None:
                for kind in outdated.KINDS:
                    done = replace(done, **{kind: await self._outdated(kind, edges)})
                done = replace(done, files=done.files + await asyncio.to_thread(self._waste))
        finally:
            if not done.is_nothing:
                await self._note({name: many for name, many in asdict(done).items() if many and name != "after"}, by)
        return done

    async def _step(self, ids: Sequence[int], edges: prune.Upto, by: str) -> Pruned:
        def work(tx: Transaction) -> prune.Emptied:
            emptied = prune.empty(tx, ids, edges, at=self._clock.now(), by=by, bare=bare)
            if emptied.going:
                going.add(tx, emptied.going)
            return emptied

        emptied = await self._store.write(work)
        removed = await self._files() if emptied.going else Pruned(0)
        await self._rest()
        return replace(removed, messages=emptied.messages, size=emptied.size)

    async def _files(self) -> Pruned:
        """Remove the files that no row names any more, those of an earlier prune that ended before it came to them too.

        A file that is named again stays.
        """
        left = await self._store.read(going.left)
        if not left:
            return Pruned(0)
        removed = await asyncio.to_thread(self._remove, left)
        await self._store.write(lambda tx: going.done(tx, left))
        return Pruned(0, files=removed)

    def _remove(self, left: Iterable[prune.Going]) -> int:
        return sum(self._remove_one(one) for one in left)

    def _remove_one(self, one: prune.Going) -> bool:
        def is_named(_: str) -> bool:
            return self._store.read_from_thread(lambda conn: prune.is_named(conn, one))

        return self._payloads.remove(one.payload, is_named)

    def _waste(self) -> int:
        """Remove files that no row names and that are old: a resend of what was pruned leaves one. How many."""
        known = self._store.read_from_thread(prune.payloads)
        if not known:  # it cannot be told from a database that is the wrong one
            return 0

        def is_known(name: str) -> bool:
            return name in known or self._store.read_from_thread(lambda conn: inbox.refers_to(conn, name))

        return self._payloads.waste(is_known)

    async def _outdated(self, kind: str, edges: prune.Upto) -> int:
        total = 0
        while many := await self._store.write(partial(outdated.step, kind=kind, edges=edges)):
            total += many
            await self._rest()
        return total

    async def _rest(self) -> None:
        if self._pause:
            await self._clock.sleep(self._pause)

    async def _note(self, detail: Mapping[str, Any], by: str) -> None:
        noted = await self._store.write(
            lambda tx: audit.note(tx, at=self._clock.now(), actor=by, action="prune", detail=detail)
        )
        log.info("store.pruned", audit=noted, number=detail.get("messages", 0))


def _parts(ids: Sequence[int], most: int) -> Iterable[Sequence[int]]:
    return (ids[at : at + most] for at in range(0, len(ids), most))
