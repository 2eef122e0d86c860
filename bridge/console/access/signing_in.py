"""Sign-in by name and password: one answer for whatever is wrong, one verification whoever is asked for.

What is decided is decided in one transaction behind the verification: of many guesses at once none counts that would
not have counted alone, and a lock that was set meanwhile holds.
"""

from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock
from bridge.console.access.attempts import lock_after
from bridge.console.access.names import folded
from bridge.console.access.passwords import Passwords
from bridge.console.access.sessions import Fresh, Sessions
from bridge.errors import BridgeError
from bridge.store import audit, people
from bridge.store.people import Person
from bridge.store.port import Store, Transaction

NOBODY = "unknown"
"""The actor of a refused sign-in whose name is nobody's: what was typed may be a password."""


class NotLetIn(BridgeError):
    """Wrong name, wrong password, locked or disabled: it is not said which."""

    def __init__(self) -> None:
        super().__init__("The name or the password is not right, or it was wrong too often: then wait a while.")


@dataclass(frozen=True, slots=True)
class SigningIn:
    """The way in with a password."""

    store: Store
    passwords: Passwords
    sessions: Sessions
    clock: Clock

    async def by_password(self, name: str, password: str, *, address: str, before: int = 0) -> Fresh:
        """A session for whoever this is. `before` is the session that the browser had, which ends.

        Raises NotLetIn, and Busy.
        """
        called = folded(name[:200])
        found = await self.store.read(lambda conn: people.by_name(conn, called))
        fits = await self.passwords.fits(found.password if found else "", password)
        anew = ""
        if found and fits and self.passwords.is_outdated(found.password):
            anew = await self.passwords.hashed(password)
        fresh = await self.store.write(lambda tx: self._settle(tx, found, address, before, anew, fits=fits))
        if fresh is None:
            raise NotLetIn
        if before:
            self.sessions.changed()
        return fresh

    def _settle(
        self, tx: Transaction, asked: Person | None, address: str, before: int, anew: str, *, fits: bool
    ) -> Fresh | None:
        now = self.clock.now()
        if asked is None:
            self._refuse(tx, NOBODY, address, "no such person")
            return None
        found = people.by_id(tx.conn, asked.id)
        why = self._why_not(found, asked, fits=fits)
        if why == "wrong password":
            failures = found.failures + 1
            lock = lock_after(failures)
            people.count_failure(tx, found.id, failures, now + lock if lock else None)
            more = {"in_a_row": failures, **({"locked_seconds": int(lock.total_seconds())} if lock else {})}
            self._refuse(tx, found.name, address, why, **more)
            return None
        if why:
            self._refuse(tx, found.name, address, why)
            return None
        if anew:
            people.set_password(tx, found.id, anew)
        elif found.failures:
            people.count_failure(tx, found.id, 0, None)
        if before:
            people.end(tx, before, at=now)
        audit.note(tx, at=now, actor=found.name, action="sign_in", detail={"address": address, "by": "password"})
        return self.sessions.begin(tx, found.id)

    def _why_not(self, found: Person, asked: Person, *, fits: bool) -> str:
        if found.disabled:
            return "disabled"
        if not found.password:
            return "no password: signs in by the provider"
        if self.clock.now() < found.locked_until:
            return "locked"
        if found.password != asked.password:
            return "the password was changed meanwhile"
        return "" if fits else "wrong password"

    def _refuse(self, tx: Transaction, actor: str, address: str, why: str, **more: Any) -> None:
        detail = {"address": address, "why": why, **more}
        at = self.clock.now()
        audit.note(tx, at=at, actor=actor, action="sign_in_refused", outcome=audit.REFUSED, detail=detail)

    async def out(self, session: int, name: str) -> None:
        """Sign-out: the session lets nobody in any more."""

        def work(tx: Transaction) -> None:
            at = self.clock.now()
            if people.end(tx, session, at=at):
                audit.note(tx, at=at, actor=name, action="sign_out")

        await self.store.write(work)
        self.sessions.changed()
