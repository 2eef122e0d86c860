"""A turn to write on PostgreSQL: it is begun in one way to the server and back, and ended in one.

Whoever has the turn keeps all others waiting, on every host: what can be said together is said together.
"""

from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog
from psycopg import errors, sql

from bridge.errors import StoreError
from bridge.store import marks, migrate

log = structlog.get_logger()

LOCK = migrate.WRITERS
IDLE = 10.0
"""Seconds that a process may think inside a transaction, after which the server ends its session. A group takes
milliseconds. Whoever waits twice as long for his turn gives up, and nothing is kept."""
BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = 0; "
    f"SET LOCAL lock_timeout = {round(2 * IDLE * 1000)}; "
    f"SET LOCAL idle_in_transaction_session_timeout = {round(IDLE * 1000)}; "
    f"SELECT pg_advisory_xact_lock({LOCK})"
)
"""Each statement of it sees what was committed before the one before it was done: the lock comes first."""
_OWN = sql.SQL(
    "UPDATE worker SET commits = commits + 1, seen_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint "
    "WHERE name = {worker} AND gone_at IS NULL RETURNING commits, (SELECT max(id) FROM event), "
    "EXISTS (SELECT FROM mark WHERE name = {mark})"
)
_MARK = "SAVEPOINT work"
_NEXT_MARK = "RELEASE work; SAVEPOINT work"
_UNDO = "ROLLBACK TO work"
_END_IDLE = (
    "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid AND l.objsubid = 1 "
    "AND l.classid = %s AND l.objid = %s AND a.datname = current_database() "
    "AND (a.state LIKE 'idle in transaction%%' OR a.wait_event = 'ClientWrite') "
    "AND a.state_change < clock_timestamp() - %s * interval '1 second'"
)
"""A process that stands still while rows come to it leaves its session active, writing to a socket that is full: no
time-out of the server's ends that one. Its `state_change` is when the statement began."""
_WORD = sql.SQL("SELECT pg_notify('bridge', {word})")


class Own(NamedTuple):
    """A process's own row, as its turn finds it: how many of its commits took, this one included; the newest event of
    all; whether the store is in quarantine.
    """

    commits: int
    newest: int
    is_shut: bool


def take(conn: sa.Connection) -> None:
    """Wait for the turn. A turn that does not come is nobody's fault who waits: whoever has the lock and does nothing
    with it loses it, should the server not have ended its session by itself. Raises psycopg.Error.
    """
    _taken(conn, BEGIN)


def take_with_own(conn: sa.Connection, worker: str) -> Own | None:
    """`take`, and this process's own row, counted on; None where that is not there any more. The first work can begin,
    and be undone.
    """
    own = _OWN.format(worker=worker, mark=marks.QUARANTINE).as_string(None)
    cursor = _taken(conn, f"{BEGIN}; {own}; {_MARK}")
    while cursor.description is None or cursor.description[0].name != "commits":
        cursor.nextset()
    row = cursor.fetchone()
    return None if row is None else Own(row[0], row[1] or 0, row[2])


def _taken(conn: sa.Connection, words: str) -> Any:
    conn.begin()
    raw = _raw(conn)
    try:
        return raw.execute(words, prepare=False)
    except errors.LockNotAvailable:
        raw.rollback()
        ended = raw.execute(_END_IDLE, (LOCK >> 32, LOCK & 0xFFFF_FFFF, IDLE)).fetchall()
        log.warning("store.turn_not_come", ended=len(ended))
        raise


def mark(conn: sa.Connection) -> None:
    """The work before is kept, and the next can begin, and be undone."""
    _raw(conn).execute(_NEXT_MARK, prepare=False)


def undo(conn: sa.Connection) -> None:
    """The last work is not there, and the next can begin, and be undone."""
    _raw(conn).execute(_UNDO, prepare=False)


def end(conn: sa.Connection, word: str) -> None:
    """Commit; the word goes out to the other processes with it, unless it is empty.

    Raises StoreError where the server rolled back instead, as it does without an error where a statement had failed.
    """
    commit = f"{_WORD.format(word=word).as_string(None)}; COMMIT" if word else "COMMIT"
    cursor = _raw(conn).execute(commit, prepare=False)
    while cursor.nextset():
        pass
    if cursor.statusmessage != "COMMIT":
        raise StoreError("the server rolled the transaction back")
    conn.commit()  # it is over for the library as well: nothing is sent


def _raw(conn: sa.Connection) -> Any:
    """The driver's own connection, which begins and ends no transaction by itself."""
    return conn.connection.driver_connection
