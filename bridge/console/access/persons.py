"""What admins do with persons, and what each does with his own password, sessions and tokens. All of it is audited."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock
from bridge.console.access.attempts import Attempts
from bridge.console.access.names import person_name
from bridge.console.access.passwords import Passwords, invented, require_good
from bridge.console.access.sessions import Fresh, Sessions
from bridge.console.access.visitor import Role, Visitor
from bridge.errors import ActionRefused
from bridge.store import audit, people
from bridge.store.people import Person
from bridge.store.port import Store, T, Transaction

LONGEST_LABEL = 100


@dataclass(frozen=True, slots=True)
class Persons:
    """The acts, each one transaction with its audit row. Each raises ActionRefused, and then nothing is changed."""

    store: Store
    passwords: Passwords
    sessions: Sessions
    attempts: Attempts
    clock: Clock

    async def make(self, by: Visitor, name: str, role: Role, password: str) -> tuple[str, str]:
        """A new local person. Returns the name and, where no password was given, the one that was made up."""
        called = person_name(name)
        made_up = "" if password else invented()
        require_good(password or made_up, called)
        stored = await self.passwords.hashed(password or made_up)

        def work(tx: Transaction) -> None:
            people.make(tx, called, role.word, at=self.clock.now(), password=stored)
            self._note(tx, by, "person_made", person=called, role=role.word)

        await self.store.write(work)
        return called, made_up

    async def change_role(self, by: Visitor, person: int, role: Role) -> str:
        """Another role; whoever has it signs in anew."""

        def work(tx: Transaction, who: Person) -> None:
            if not who.is_local:
                raise ActionRefused(f"the role of {who.name} is what the provider's groups say")
            people.set_role(tx, who, role.word)
            self._note(tx, by, "role_changed", person=who.name, before=who.role, role=role.word)

        return await self._of_person(person, work, ends=True)

    async def disable(self, by: Visitor, person: int, *, disabled: bool) -> str:
        """Out at once, or in again."""

        def work(tx: Transaction, who: Person) -> None:
            people.set_disabled(tx, who, disabled=disabled)
            self._note(tx, by, "person_disabled" if disabled else "person_enabled", person=who.name)

        return await self._of_person(person, work, ends=disabled)

    async def reset_password(self, by: Visitor, person: int, password: str) -> tuple[str, str]:
        """A new password for somebody else, which also unlocks. Returns name and password as `make` does."""
        found = await self.store.read(lambda conn: people.by_id(conn, person))
        made_up = "" if password else invented()
        require_good(password or made_up, found.name)
        stored = await self.passwords.hashed(password or made_up)

        def work(tx: Transaction, who: Person) -> None:
            if not who.is_local:
                raise ActionRefused(f"{who.name} signs in by the provider and has no password here")
            people.set_password(tx, who.id, stored)
            self._note(tx, by, "password_changed", person=who.name)

        return await self._of_person(person, work, ends=True), made_up

    async def change_own_password(self, me: Visitor, old: str, new: str) -> Fresh:
        """A new password for oneself. Everything of before ends; the browser at hand goes on with a new session."""
        found = await self.store.read(lambda conn: people.by_id(conn, me.person))
        if not found.is_local:
            raise ActionRefused("you sign in by the provider: your password is there")
        require_good(new, found.name)
        if wait := self.attempts.count(f"person {me.person}"):
            raise ActionRefused(f"that was tried too often; wait {wait} seconds")
        if not await self.passwords.fits(found.password, old):
            await self.store.write(
                lambda tx: self._note(tx, me, "password_changed", audit.REFUSED, why="wrong password")
            )
            raise ActionRefused("the old password is not right")
        stored = await self.passwords.hashed(new)

        def work(tx: Transaction) -> Fresh:
            if people.by_id(tx.conn, me.person).password != found.password:
                raise ActionRefused("the password was changed meanwhile; sign in anew")
            people.set_password(tx, me.person, stored)
            self._note(tx, me, "password_changed", person=me.name)
            people.end_all(tx, me.person, at=self.clock.now())
            return self.sessions.begin(tx, me.person)

        fresh = await self.store.write(work)
        self.sessions.changed()
        return fresh

    async def make_token(self, me: Visitor, label: str) -> Fresh:
        """A token for a script of one's own; it has its person's role."""
        plain = " ".join(label.split())
        if not 1 <= len(plain) <= LONGEST_LABEL or not plain.isprintable():
            raise ActionRefused(f"say in 1 to {LONGEST_LABEL} characters what the token is for")

        def work(tx: Transaction) -> Fresh:
            fresh = self.sessions.begin_token(tx, me.person, plain)
            self._note(tx, me, "token_made", session=fresh.id, label=plain)
            return fresh

        return await self.store.write(work)

    async def end(self, by: Visitor, session: int) -> None:
        """A session or token lets nobody in any more: one's own, or as an admin anybody's."""

        def work(tx: Transaction) -> None:
            found = people.session_by_id(tx.conn, session)
            if found is None or (found.person_id != by.person and not by.may(Role.ADMIN)):
                raise ActionRefused("there is no such session or token, or it has ended already")
            people.end(tx, session, at=self.clock.now())
            is_token = found.kind == people.TOKEN
            more = {"label": found.label} if is_token else {}
            self._note(tx, by, "token_ended" if is_token else "session_ended", session=session, of=found.name, **more)

        await self.store.write(work)
        self.sessions.changed()

    async def _of_person(self, person: int, work: Callable[[Transaction, Person], T], *, ends: bool) -> str:
        def whole(tx: Transaction) -> str:
            who = people.by_id(tx.conn, person)
            work(tx, who)
            if ends:
                people.end_all(tx, person, at=self.clock.now())
            return who.name

        name = await self.store.write(whole)
        self.sessions.changed()
        return name

    def _note(self, tx: Transaction, by: Visitor, action: str, outcome: str = audit.DONE, **detail: Any) -> None:
        audit.note(tx, at=self.clock.now(), actor=by.name, action=action, outcome=outcome, detail=detail)
