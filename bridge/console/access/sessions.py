"""Sessions of browsers and tokens of scripts: made, found by their secret, idle, over.

The store has the SHA-256 of a secret alone: 256 random bits need no salt and no slow hash.
"""

import asyncio
import contextlib
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.clock import Clock
from bridge.console.access.visitor import Role, Visitor
from bridge.console_settings import ConsoleSettings
from bridge.errors import StoreError
from bridge.store import people
from bridge.store.people import Session
from bridge.store.port import Connection, Store, Transaction

TOKEN_PREFIX = "bridge_"  # noqa: S105  what a token begins with, so that it is known for one where it leaks
WRITTEN = 60.0
"""Seconds between two writes of when a session was seen last."""
MOST_SEEN = 1000
"""Sessions remembered before those that are over are forgotten."""
LOOKED_AT = 5.0
"""Seconds between two looks whether the session of an open stream still stands."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A session or token that was made just now; its secret is nowhere else."""

    id: int
    secret: str


def fresh_secret() -> str:
    """256 bits."""
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """What the store knows of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Sessions:
    """The sessions of one console. When each was seen last is in memory, and once a minute in the store."""

    def __init__(self, store: Store, settings: ConsoleSettings, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._idle = timedelta(seconds=settings.idle_timeout)
        self._longest = timedelta(seconds=settings.longest_session)
        self._seen: dict[int, datetime] = {}
        self._ended = asyncio.Event()

    def begin(self, tx: Transaction, person_id: int) -> Fresh:
        """A session for a browser, in the transaction that let somebody in."""
        secret = fresh_secret()
        return Fresh(people.begin(tx, person_id, fingerprint(secret), at=self._clock.now()), secret)

    def begin_token(self, tx: Transaction, person_id: int, label: str) -> Fresh:
        """A token for scripts."""
        secret = TOKEN_PREFIX + fresh_secret()
        at = self._clock.now()
        made = people.begin(tx, person_id, fingerprint(secret), at=at, kind=people.TOKEN, label=label)
        return Fresh(made, secret)

    async def visitor_by(self, secret: str, kind: str, *, is_click: bool) -> Visitor | None:
        """Who holds that secret; None where it lets nobody in (any more). A click is a sign of life."""
        found = await self._store.read(lambda conn: people.session_of(conn, fingerprint(secret)))
        if found is None or found.kind != kind or not self.stands(found):
            return None
        if is_click:
            await self._note(found)
        return Visitor(found.name, Role[found.role.upper()], found.id, found.kind == people.TOKEN, found.person_id)

    def stands(self, found: Session) -> bool:
        """Whether it is neither idle nor too old. A token is neither: it is ended."""
        if found.kind == people.TOKEN:
            return True
        now = self._clock.now()
        return now - self._last_seen(found) < self._idle and now - found.created_at < self._longest

    def standing(self, conn: Connection, person_id: int) -> list[Session]:
        """A person's sessions and tokens that let him in."""
        return [one for one in people.sessions_of(conn, person_id) if self.stands(one)]

    def _last_seen(self, found: Session) -> datetime:
        return max(found.seen_at, self._seen.get(found.id, found.seen_at))

    async def _note(self, found: Session) -> None:
        now = self._clock.now()
        if len(self._seen) > MOST_SEEN:
            self._seen = {one: at for one, at in self._seen.items() if now - at < self._idle}
        self._seen[found.id] = now
        if (now - found.seen_at).total_seconds() < min(WRITTEN, self._idle.total_seconds() / 4):
            return
        with contextlib.suppress(StoreError):  # with a full disk the console is needed more than ever
            await self._store.write(lambda tx: people.seen(tx, found.id, at=now))

    def changed(self) -> None:
        """Behind a commit that ended sessions: whoever waits for that looks again."""
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()

    async def until_over(self, session_id: int) -> None:
        """Returns when a session lets nobody in any more, or when that cannot be told."""
        while True:
            signal = self._ended
            try:
                found = await self._store.read(lambda conn: people.session_by_id(conn, session_id))
            except StoreError:
                return
            if found is None or not self.stands(found):
                self._seen.pop(session_id, None)
                return
            await self._clock.wait(signal, LOOKED_AT)
