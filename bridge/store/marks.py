"""Whether the database is the newest of its line: what it has come to stands in a file outside of it as well (F41).

A database that was put back from a backup does not know what was sent after the copy was made. So the number of its
newest event is written to a small file after each commit and before anybody hears of it: before the first byte of a
POST, then, the file knows of its intention. A database that is behind its file at a start is an older copy: restored,
or without its write-ahead log, or with a log that SQLite had to cut short at a damaged page.

`line` tells copies apart that went on on their own: it is drawn anew when a quarantine is released. `machine` is the
host's: a copy of the whole folder that starts elsewhere may have its original still running (F40).

The write is not synced each time: the end of a process leaves it, and a power cut costs the newest `SYNCED` seconds of
knowledge at most, which count only where the database is replaced before the next start. What cannot be seen from here
is a snapshot that takes the file back too: `store.epoch_file` may name a place on another disk.
"""

import contextlib
import os
import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
import structlog

from bridge.errors import StoreRefused
from bridge.store.durable import write_whole
from bridge.store.schema import event, mark, message

log = structlog.get_logger()

SYNCED = 10.0
"""Seconds between two syncs of the file."""
LINE = "line"
QUARANTINE = "quarantine"
HOME = "home"
"""Which database of which server it was written in last, on PostgreSQL."""
SITE_KEY = "site_key"
"""Which secret its tasks were keyed by."""
EARLIER_LINES = "earlier_lines"
"""Lines that a release ended, the newest last: a host that was on one of them when a person decided follows on."""
_FORM = re.compile(rb"bridge epoch 1\nnewest (\d{20})\nrunning ([01])\nline ([0-9a-f]{16})\nmachine ([0-9a-f]{0,32})\n")
_NEWEST_AT = len(b"bridge epoch 1\nnewest ")
_RUNNING_AT = _NEWEST_AT + 20 + len(b"\nrunning ")
_MACHINE_ID = Path("/etc/machine-id")
_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""What Docker and Podman leave in every container of theirs."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """How far a store has come, on which line and on which machine. `running`: its service has not ended yet."""

    newest: int
    line: str
    machine: str = ""
    running: bool = False

    def written(self) -> bytes:
        """As it stands in the file; every number has one place."""
        head = f"bridge epoch 1\nnewest {self.newest:020d}\nrunning {int(self.running)}\n"
        return f"{head}line {self.line}\nmachine {self.machine}\n".encode()


def this_machine() -> str:
    """What tells this host from a clone of it (machine-id(5)); empty where it has none, and in a container, whose id is
    its image's: it changes with each update, and is the same on every host.
    """
    if any(sign.exists() for sign in _CONTAINER):
        return ""
    try:
        found = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if re.fullmatch(r"[0-9a-f]{32}", found) else ""


def newest(conn: sa.Connection) -> int:
    """The number of the database's newest event. Events are never taken away but from the oldest end."""
    return int(conn.execute(sa.select(sa.func.max(event.c.id))).scalar() or 0)


def is_empty(conn: sa.Connection) -> bool:
    """Whether nothing ever came in."""
    return conn.execute(sa.select(message.c.id).limit(1)).first() is None


def value_of(conn: sa.Connection, name: str) -> str:
    """A mark in the database; empty where there is none."""
    return str(conn.execute(sa.select(mark.c.value).where(mark.c.name == name)).scalar() or "")


def put(conn: sa.Connection, name: str, value: str) -> None:
    """Set a mark in the database; an empty value takes it away."""
    conn.execute(mark.delete().where(mark.c.name == name))
    if value:
        conn.execute(mark.insert(), {"name": name, "value": value})


def fresh_line() -> str:
    """A line that no other store has."""
    return secrets.token_hex(8)


def why_not_trusted(conn: sa.Connection, outside: Epoch | None, machine: str) -> str:
    """Why the database may not be the newest of its line; empty where it is.

    Raises StoreRefused where it is empty and its folder knows of a full one: that one is missing.
    """
    line, reached = value_of(conn, LINE), newest(conn)
    empty = is_empty(conn)
    if outside is None:
        return "its epoch file is missing" if line and not empty else ""
    if empty and outside.newest:
        raise StoreRefused(
            "store.url: the database is empty, and the epoch file beside it knows of a full one: the database is "
            "missing. Put it, or the newest backup of it, in its place and start again; to begin anew knowingly, "
            "move the whole folder away"
        )
    if empty:
        return ""
    if reached < outside.newest:
        return "it is older than its epoch file"
    if line != outside.line:
        return "it is of another line than its epoch file"
    if machine and outside.machine and machine != outside.machine:
        return "it was written on another machine"
    return ""


def why_not_shared(conn: sa.Connection, outside: Epoch | None, home: str) -> str:
    """As `why_not_trusted`, of a store that hosts share: one that comes new has no epoch file, and says nothing by it.

    Raises StoreRefused where it is empty and this host knows of a full one.
    """
    before = value_of(conn, HOME)
    if before and before != home:
        return "it was written in another database: it was restored"
    if outside is None or not outside.newest:
        return ""
    if is_empty(conn):
        raise StoreRefused(
            "store.url: the database is empty, and the epoch file of this host knows of a full one: it is not the "
            "database that this host worked on. Name that one, or restore its newest backup; to begin anew knowingly, "
            "move the folder of this host away"
        )
    if outside.line != value_of(conn, LINE):
        known = value_of(conn, EARLIER_LINES).split(",")
        return "" if outside.line in known else "it is of another line than the epoch file of this host"
    if newest(conn) < outside.newest:
        return "it is older than the epoch file of this host"
    return ""


def end_line(conn: sa.Connection) -> None:
    """A person said that this database goes on: on a line of its own."""
    ended = [*filter(None, value_of(conn, EARLIER_LINES).split(",")), value_of(conn, LINE)]
    put(conn, EARLIER_LINES, ",".join(filter(None, ended)))
    put(conn, LINE, fresh_line())


class EpochFile:
    """The file outside of the database. `note` is for the writer's thread alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._synced_at = 0.0
        self._failing = False

    def read(self) -> Epoch | None:
        """What it says; None where there is none. Raises StoreRefused where it cannot be understood."""
        try:
            found = _FORM.fullmatch(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as cause:
            raise StoreRefused(f"store.epoch_file: {self.path} cannot be read: {cause.strerror}") from cause
        if found is None:
            raise StoreRefused(
                f"store.epoch_file: {self.path} is damaged. Move it away and start again: the bridge then starts in "
                "quarantine, and `bridge check` says how it is released"
            )
        number, running, line, machine = (part.decode() for part in found.groups())
        return Epoch(int(number), line, machine, running == "1")

    def begin(self, epoch: Epoch) -> None:
        """Write it whole, durably, and go on from there. Raises StoreRefused."""
        try:
            write_whole(self.path, replace(epoch, running=True).written())
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as cause:
            raise StoreRefused(f"store.epoch_file: {self.path} cannot be written: {cause.strerror}") from cause
        self._synced_at = time.monotonic()

    def note(self, reached: int) -> None:
        """The database has come so far. What fails here stops no custody; it is logged once."""
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, b"%020d" % reached, _NEWEST_AT)
            if time.monotonic() - self._synced_at > SYNCED:
                self._synced_at = time.monotonic()
                os.fdatasync(self._fd)
        except OSError as problem:
            if not self._failing:
                log.error("epoch.not_written", error=type(problem).__name__)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """The service ends in good order."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, b"0", _RUNNING_AT)
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
