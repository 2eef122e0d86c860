"""Who may sign in, and the sessions and tokens that let them in. Secrets are here as their hashes alone.

Names are stored as they are compared: folded by whoever makes the row. A row of a person is never taken away, since
the audit trail names it; a person who may not come in any more is disabled.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from bridge.errors import ActionRefused
from bridge.store.port import Transaction
from bridge.store.schema import millis, moment, person, session

ADMIN = "admin"
BROWSER, TOKEN = "browser", "token"
KEPT = timedelta(days=30)
"""How long a row of a browser's session is kept behind its beginning; the longest session is shorter."""


@dataclass(frozen=True, slots=True)
class Person:
    """One row of `person`; times are aware, UTC."""

    id: int
    name: str
    role: str
    password: str  # Argon2id hash; empty where the provider alone lets in
    subject: str | None
    created_at: datetime
    disabled: bool
    failures: int
    locked_until: datetime

    @property
    def is_local(self) -> bool:
        """Whether a password of ours lets in."""
        return self.subject is None


@dataclass(frozen=True, slots=True)
class Session:
    """One row of `session` with whose it is."""

    id: int
    kind: str
    label: str
    created_at: datetime
    seen_at: datetime
    person_id: int
    name: str
    role: str


_BY_NAME = sa.select(person).where(person.c.name == sa.bindparam("name"))
_SESSIONS = (
    sa.select(session, person.c.name, person.c.role)
    .join(person, person.c.id == session.c.person_id)
    .where(session.c.ended_at.is_(None), sa.not_(person.c.disabled))
    .order_by(session.c.id)
)
_ENABLED_ADMINS = sa.select(person.c.id).where(person.c.role == ADMIN, sa.not_(person.c.disabled))


def _person(row: Any) -> Person:
    return Person(
        id=row.id,
        name=row.name,
        role=row.role,
        password=row.password,
        subject=row.subject,
        created_at=moment(row.created_at),
        disabled=bool(row.disabled),
        failures=row.failures,
        locked_until=moment(row.locked_until),
    )


def _session(row: Any) -> Session:
    return Session(
        id=row.id,
        kind=row.kind,
        label=row.label,
        created_at=moment(row.created_at),
        seen_at=moment(row.seen_at),
        person_id=row.person_id,
        name=row.name,
        role=row.role,
    )


def everybody(conn: sa.Connection) -> list[Person]:
    """All persons by name, those that are disabled as well."""
    return [_person(row) for row in conn.execute(sa.select(person).order_by(person.c.name))]


def by_name(conn: sa.Connection, name: str) -> Person | None:
    """The person of that folded name."""
    row = conn.execute(_BY_NAME, {"name": name}).first()
    return None if row is None else _person(row)


def by_subject(conn: sa.Connection, subject: str) -> Person | None:
    """The person whom the provider knows as that."""
    row = conn.execute(sa.select(person).where(person.c.subject == subject)).first()
    return None if row is None else _person(row)


def by_id(conn: sa.Connection, person_id: int) -> Person:
    """The person of that row. Raises ActionRefused where there is none."""
    row = conn.execute(sa.select(person).where(person.c.id == person_id)).first()
    if row is None:
        raise ActionRefused("there is no such person")
    return _person(row)


def has_admin(conn: sa.Connection) -> bool:
    """Whether anybody who can come in is an admin."""
    return conn.execute(_ENABLED_ADMINS.limit(1)).first() is not None


def make(tx: Transaction, name: str, role: str, *, at: datetime, password: str = "", subject: str | None = None) -> int:
    """A new person; `name` is folded already. Returns the row's id.

    Raises ActionRefused where the name is taken.
    """
    if by_name(tx.conn, name) is not None:
        raise ActionRefused(f"there is a person called {name} already, perhaps a disabled one")
    row = {"name": name, "role": role, "password": password, "subject": subject, "created_at": millis(at)}
    made = tx.conn.execute(person.insert().returning(person.c.id), row)
    return int(made.scalar_one())


def set_role(tx: Transaction, who: Person, role: str) -> None:
    """Another role. Raises ActionRefused where nobody would be admin any more."""
    if role != ADMIN:
        _others_are_admin(tx.conn, who)
    tx.conn.execute(person.update().where(person.c.id == who.id), {"role": role})


def follow_role(tx: Transaction, who: Person, role: str) -> None:
    """The role that the provider says, whatever it leaves us with: the set-up begins anew where nobody is admin."""
    tx.conn.execute(person.update().where(person.c.id == who.id), {"role": role})


def set_disabled(tx: Transaction, who: Person, *, disabled: bool) -> None:
    """Out, or in again. Raises ActionRefused where nobody would be admin any more."""
    if disabled:
        _others_are_admin(tx.conn, who)
    tx.conn.execute(person.update().where(person.c.id == who.id), {"disabled": disabled})


def _others_are_admin(conn: sa.Connection, who: Person) -> None:
    if who.role != ADMIN or who.disabled:
        return
    if conn.execute(_ENABLED_ADMINS.where(person.c.id != who.id).limit(1)).first() is None:
        raise ActionRefused(f"{who.name} is the last admin: make another one first")


def set_password(tx: Transaction, person_id: int, password: str) -> None:
    """Another hash; what was counted against the old one is forgotten."""
    values = {"password": password, "failures": 0, "locked_until": 0}
    tx.conn.execute(person.update().where(person.c.id == person_id), values)


def count_failure(tx: Transaction, person_id: int, failures: int, locked_until: datetime | None) -> None:
    """So many wrong passwords in a row; none: zero."""
    values = {"failures": failures, "locked_until": millis(locked_until) if locked_until else 0}
    tx.conn.execute(person.update().where(person.c.id == person_id), values)


def begin(tx: Transaction, person_id: int, secret: str, *, at: datetime, kind: str = BROWSER, label: str = "") -> int:
    """A session or a token, known by the hash of its secret. Returns the row's id."""
    row = {"secret": secret, "kind": kind, "person_id": person_id, "label": label}
    row |= {"created_at": millis(at), "seen_at": millis(at)}
    old = sa.and_(session.c.kind == BROWSER, session.c.created_at < millis(at - KEPT))
    tx.conn.execute(session.delete().where(old))
    return int(tx.conn.execute(session.insert().returning(session.c.id), row).scalar_one())


def session_of(conn: sa.Connection, secret: str) -> Session | None:
    """The session behind a secret's hash: not ended, and of a person who is not disabled."""
    row = conn.execute(_SESSIONS.where(session.c.secret == secret)).first()
    return None if row is None else _session(row)


def session_by_id(conn: sa.Connection, session_id: int) -> Session | None:
    """As `session_of`, by its row."""
    row = conn.execute(_SESSIONS.where(session.c.id == session_id)).first()
    return None if row is None else _session(row)


def sessions_of(conn: sa.Connection, person_id: int) -> list[Session]:
    """What lets a person in, oldest first; some may be idle for too long already."""
    return [_session(row) for row in conn.execute(_SESSIONS.where(session.c.person_id == person_id))]


def tokens(conn: sa.Connection) -> list[Session]:
    """Everybody's tokens, oldest first."""
    return [_session(row) for row in conn.execute(_SESSIONS.where(session.c.kind == TOKEN))]


def seen(tx: Transaction, session_id: int, *, at: datetime) -> None:
    """Somebody was there."""
    tx.conn.execute(session.update().where(session.c.id == session_id), {"seen_at": millis(at)})


def end(tx: Transaction, session_id: int, *, at: datetime) -> bool:
    """It lets nobody in any more. Whether it did before."""
    mine = session.update().where(session.c.id == session_id, session.c.ended_at.is_(None))
    return tx.conn.execute(mine, {"ended_at": millis(at)}).rowcount == 1


def end_all(tx: Transaction, person_id: int, *, at: datetime) -> int:
    """Every session and token of a person ends. How many did."""
    mine = session.update().where(session.c.person_id == person_id, session.c.ended_at.is_(None))
    return int(tx.conn.execute(mine, {"ended_at": millis(at)}).rowcount)
