"""A primary and its standby, by PostgreSQL's own streaming: the primary dies, the standby is promoted, and a fresh one
follows it. A primary that died is never used again, as a host that burned down.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from bridge.store.postgres_engine import SCHEME
from tests.ports import free_port
from tests.postgres_server import Server

ATTACHED = 60.0
"""Seconds that a standby may take until it follows."""


class Pair:
    """Two hosts, known by two ports that stay. `synchronous`: a commit waits until the standby has it on its disk."""

    def __init__(self, folder: Path, *, synchronous: bool) -> None:
        self._folder = folder
        self._synchronous = synchronous
        self._made = 0
        self.ports = (free_port(), free_port())
        self.primary = self._server(self.ports[0])
        self.standby = self._server(self.ports[1])

    def _server(self, port: int) -> Server:
        self._made += 1
        return Server(self._folder / f"data-{self._made}", port)

    def start(self, database: str) -> None:
        """Both are up, and the standby follows. The commits of the beginning wait for nobody."""
        self.primary.make()
        self.primary.start()
        self.primary.make_template()
        self.primary.database(database)
        if self._synchronous:
            self.primary.configure({"synchronous_standby_names": "*"})  # in the copies as well
        self._follow()
        self.primary.run("pg_ctl", "-D", str(self.primary.folder), "reload")
        self._await_standby()

    def _follow(self) -> None:
        """A standby from a copy of the primary."""
        new = self.standby
        new.folder.mkdir(parents=True)
        new.folder.chmod(0o700)
        if os.geteuid() == 0:
            shutil.chown(new.folder, "postgres", "postgres")
        origin = ("-h", "127.0.0.1", "-p", str(self.primary.port), "-U", "postgres")
        new.run("pg_basebackup", *origin, "-D", str(new.folder), "-R", "-c", "fast", "-X", "stream", "--no-sync")
        for lock in new.folder.glob(".s.PGSQL.*.lock"):  # of the sockets in the folder that was copied
            lock.unlink()
        new.configure({})
        try:
            new.start()
        except RuntimeError as problem:
            said = (new.folder / "server.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the fresh standby does not start: {said}") from problem

    def _await_standby(self) -> None:
        patience = time.monotonic() + ATTACHED
        wanted = "sync" if self._synchronous else "async"
        while self.asked("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'") != wanted:
            if time.monotonic() > patience:
                raise TimeoutError("the standby does not follow")
            time.sleep(0.05)

    def asked(self, question: str) -> Any:
        """The primary's answer; None where it has no row."""
        where = f"host=127.0.0.1 port={self.primary.port} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as conn:
            row = conn.execute(question).fetchone()  # type: ignore[call-overload]
        return row[0] if row else None

    def lag(self, seconds: float) -> None:
        """The standby hears nothing more for so long; the primary goes on without it where it may."""
        sender = int(self.asked("SELECT pid FROM pg_stat_replication"))
        os.kill(sender, signal.SIGSTOP)
        time.sleep(seconds)

    def fail_over(self) -> None:
        """The primary is gone in the midst of its work, and the standby takes its place."""
        self.primary.stop("immediate")
        lost, self.primary = self.primary, self.standby
        self.primary.run("pg_ctl", "-D", str(self.primary.folder), "-w", "promote")
        shutil.rmtree(lost.folder)
        self.standby = self._server(lost.port)

    def follow_anew(self) -> None:
        """A fresh standby on the host that is free. Until it is there, no commit is answered where it has to wait."""
        self._follow()
        self._await_standby()

    def url(self, database: str) -> sa.URL:
        """Both hosts; whoever takes writes is the one."""
        hosts = [f"host=127.0.0.1:{port}" for port in self.ports]
        return sa.make_url(f"{SCHEME}://postgres@/{database}?{'&'.join(hosts)}&target_session_attrs=read-write")

    def stop(self) -> None:
        """Both are gone."""
        for server in (self.primary, self.standby):
            with contextlib.suppress(RuntimeError):
                server.stop("immediate")


@contextlib.contextmanager
def paired(database: str, *, synchronous: bool) -> Iterator[Pair]:
    """A pair with such a database, for as long as the context is open."""
    folder = Path(tempfile.mkdtemp(prefix="bridge-pair-"))
    folder.chmod(0o755)
    pair = Pair(folder, synchronous=synchronous)
    try:
        pair.start(database)
        yield pair
    finally:
        pair.stop()
        shutil.rmtree(folder, ignore_errors=True)
