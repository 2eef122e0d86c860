"""The first admin: let in by a token that lies beside the store, where its owner alone can read it."""

import asyncio
import contextlib
import hmac
import os
from pathlib import Path

import structlog

from bridge.clock import Clock
from bridge.console.access.names import person_name
from bridge.console.access.passwords import Passwords, require_good
from bridge.console.access.sessions import Fresh, Sessions, fresh_secret
from bridge.errors import ActionRefused, SettingsError
from bridge.store import audit, people
from bridge.store.durable import write_whole
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

_MOST = 200
"""Bytes of the file that are looked at."""


class SetUp:
    """Whether the first admin is still to be made, and how he is."""

    def __init__(self, path: Path, store: Store, passwords: Passwords, sessions: Sessions, clock: Clock) -> None:
        self.path = path
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._clock = clock
        self._due = True

    @property
    def hint(self) -> str:
        """What to do, for whoever started the service. The token itself is in the file alone."""
        return f"nobody can sign in yet: open /set-up of the console with the token in {self.path}"

    async def prepare(self) -> bool:
        """At the start: whether it is due; the token is there then, and else it is gone. Raises SettingsError."""
        if not await self.is_due():
            return False
        log.warning("console.set_up_due", action=self.hint)
        return True

    async def is_due(self) -> bool:
        """Whether nobody is admin. Once somebody is, it is not asked again: the last one cannot be taken away, but by
        the provider's groups, which a start sees.
        """
        if not self._due:
            return False
        self._due = not await self._store.read(people.has_admin)
        await asyncio.to_thread(self._keep if self._due else self._remove)
        return self._due

    async def first_admin(self, token: str, name: str, password: str, *, address: str) -> Fresh:
        """Make him, and sign him in. Of two at the same moment one comes in.

        Raises ActionRefused, and then nothing is used up.
        """
        called = person_name(name)
        require_good(password, called)
        if not hmac.compare_digest(await asyncio.to_thread(self._read), token.strip().encode("utf-8", "replace")):
            raise ActionRefused(f"this is not the token in {self.path.name}; it lies beside the database")
        stored = await self._passwords.hashed(password)

        def work(tx: Transaction) -> Fresh:
            if people.has_admin(tx.conn):
                raise ActionRefused("the set-up is done already: sign in")
            at = self._clock.now()
            made = people.make(tx, called, people.ADMIN, at=at, password=stored)
            audit.note(tx, at=at, actor=called, action="set_up", detail={"address": address, "role": people.ADMIN})
            return self._sessions.begin(tx, made)

        fresh = await self._store.write(work)
        self._due = False
        await asyncio.to_thread(self._remove)
        return fresh

    def _read(self) -> bytes:
        """The token; something that nobody can say where there is none."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            if found := file.read(_MOST).strip():
                return found
        return os.urandom(32)

    def _keep(self) -> None:
        try:
            if self.path.exists() and self.path.stat().st_size:
                return
            write_whole(self.path, (fresh_secret() + "\n").encode("ascii"))
        except OSError as cause:
            raise SettingsError(f"{self.path} cannot be written: {cause.strerror}") from cause

    def _remove(self) -> None:
        """A token that is left over lets nobody in; it is taken away all the same."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
