"""PostgreSQL by the runbook: its blocks as they stand, on a server of the tests' own with TLS and passwords, and what
the bridge's roles may and may not do there.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from bridge.errors import StoreRefused
from bridge.settings import Settings, load
from bridge.store import backup, inbox, listing, postgres_engine, postgres_facts
from bridge.store.engines import looking
from bridge.store.sqlite import SqliteStore
from tests import postgres_server
from tests.acceptance.process import api
from tests.acceptance.scene import order
from tests.authority import Authority
from tests.conftest import missing
from tests.contract.test_store_contract import arrival
from tests.deploy.containerfile import ROOT
from tests.deploy.processes import RUN, Process, run
from tests.deploy.test_examples import placed
from tests.deploy.test_runbook import Host, blocks
from tests.postgres_server import Server, as_server

__all__ = ["api"]
FOLDER = ROOT / "deploy" / "postgresql"
SECTION = "PostgreSQL, and several hosts"
OURS = "local all postgres trust\nlocal replication postgres trust\n"
"""What a server of Debian has before the bridge's lines: its superuser, on its own host."""


@contextlib.contextmanager
def cluster(configuration: str = "", access: str = OURS) -> Iterator[Server]:
    """A new cluster with these settings and this pg_hba.conf."""
    if postgres_server.programs() is None:
        missing("PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="bridge-postgres-"))
    folder.chmod(0o755)
    server = Server(folder / "data")
    try:
        server.make()
        (server.folder / "pg_hba.conf").write_text(access)
        authority = Authority.make(folder)
        for path, name in zip(authority.sign("server"), ("server.pem", "server.key"), strict=True):
            shutil.copy(path, server.folder / name)
            if os.geteuid() == 0:
                shutil.chown(server.folder / name, "postgres", "postgres")
            (server.folder / name).chmod(0o600)
        with (server.folder / "postgresql.conf").open("a") as file:
            file.write(configuration.replace("/etc/postgresql/tls", str(server.folder)))
        server.start()
        yield server
        server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def superuser(server: Server) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(f"host={server.folder} port={server.port} user=postgres dbname=postgres", autocommit=True)


def words_to_psql(server: Server) -> str:
    """The environment by which psql finds the server, as a shell says it."""
    return f"PGHOST={server.folder} PGPORT={server.port} PGUSER=postgres"


class Installed:
    """A host on which the blocks of the runbook were run, and its database."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.host = Host(folder)
        self.root = self.host.root
        bin_folder = self.root / "opt" / "cardio-bridge" / "current" / "bin"
        bin_folder.mkdir(parents=True)
        for name in ("credentials", "tls", "processes"):
            (self.root / "etc" / "cardio-bridge" / name).mkdir(parents=True)
        self._script(bin_folder / "bridge", f'exec {sys.executable} -c "from bridge.cli import main; main()" "$@"')
        self._script(self.host.programs / "runuser", f'shift 3; {words_to_psql(server)} exec "$@"')
        (self.host.programs / "psql").symlink_to(server.programs / "psql")
        made, database, files, schema = blocks(SECTION)
        for block in (made, database, files):
            self.host.run(block)
        self.toml = self.root / "etc" / "cardio-bridge" / "bridge.toml"
        text = placed(self._pointed(self.toml.read_text(encoding="utf-8")), self.root)
        self.toml.write_text(text)
        self.told = self.host.run(schema)

    def _pointed(self, text: str) -> str:
        """`store.url` of the example with this server in place of its hosts."""
        ca = shutil.copy(self.server.folder.parent / "authority.pem", self.root / "server-ca.pem")
        text, hosts = re.subn(r"host=db-1[^&]*&host=db-2[^&]*", f"host=127.0.0.1:{self.server.port}", text)
        text, authority = re.subn(r"sslrootcert=[^\"]*", f"sslrootcert={ca}", text)
        assert (hosts, authority) == (1, 1)
        return text

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def settings(self) -> Settings:
        return load(self.toml, {})

    def another_database(self) -> None:
        """As the runbook makes one for a copy."""
        made = f"psql --set ON_ERROR_STOP=1 --set database=bridge_again < {FOLDER}/database.sql"
        self.host.run(f"runuser -u postgres -- {made}")

    def as_owner(self, url: str) -> dict[str, str]:
        """What a command is told that makes tables."""
        password = self.root / "etc" / "cardio-bridge" / "credentials" / "database-owner-password"
        return {
            "BRIDGE_STORE__URL": url.replace("bridge@", "bridge_owner@"),
            "BRIDGE_STORE__PASSWORD_FILE": str(password),
        }

    def connected(self, **other: str) -> psycopg.Connection[tuple[object, ...]]:
        """As the services are, but for what is said otherwise."""
        store = self.settings().store
        address = postgres_engine.url(store.url, store.password_file)
        found = {**address.translate_connect_args(username="user", database="dbname"), **address.query}
        host, _, port = str(found.pop("host")).rpartition(":")
        return psycopg.connect(**{**found, "host": host, "port": port, **other})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    configuration = (FOLDER / "cardio-bridge.conf").read_text(encoding="utf-8")
    configuration = re.sub(r"^#(ssl)", r"\1", configuration, flags=re.MULTILINE)
    access = (FOLDER / "pg_hba.conf").read_text(encoding="utf-8").replace("10.40.0.0/24", "127.0.0.1/32")
    with cluster(configuration, OURS + access) as server:
        yield Installed(tmp_path_factory.mktemp("runbook"), server)


def test_the_schema_is_there_and_its_rows_are_all_that_a_service_may_touch(installed: Installed) -> None:
    assert "bridge_owner:***@" in installed.told
    assert ": schema 0" in installed.told
    with installed.connected() as conn:
        owners = conn.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert owners == [("bridge_owner",)]
        role = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user"
        assert conn.execute(role).fetchone() == (False, False, False, False)
    for forbidden in (
        "DROP TABLE message",
        "ALTER TABLE message ADD COLUMN more text",
        "TRUNCATE message",
        "CREATE TABLE own (id int)",
        "CREATE TEMP TABLE own (id int)",
        "SELECT pg_read_file('PG_VERSION')",
    ):
        with installed.connected() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(forbidden)  # type: ignore[call-overload]


def test_a_service_without_rights_is_told_where_they_come_from(installed: Installed) -> None:
    """As in a database that somebody made by hand: `check` and `messages list` ended in a traceback there."""
    store = installed.settings().store
    password = Path(installed.as_owner(store.url)["BRIDGE_STORE__PASSWORD_FILE"]).read_text().strip()
    with installed.connected(user="bridge_owner", password=password) as owner:
        owner.execute("REVOKE SELECT ON message FROM bridge")
        owner.commit()
        with (
            pytest.raises(StoreRefused, match=r"permission denied .* postgresql/database\.sql gives"),
            looking(store) as conn,
        ):
            listing.rows(conn)
        owner.execute("GRANT SELECT ON message TO bridge")


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        ({"sslmode": "disable", "sslrootcert": ""}, "no encryption|pg_hba"),
        ({"password": "another"}, "password authentication failed"),
        ({"user": "postgres"}, "pg_hba"),
        ({"dbname": "postgres"}, "pg_hba"),
        ({"host": "localhost"}, "does not match host name"),
    ],
)
def test_nobody_comes_in_otherwise(installed: Installed, otherwise: dict[str, str], said: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=said):
        installed.connected(**otherwise)


def test_the_server_has_the_settings_of_the_file(installed: Installed) -> None:
    """Those that its log needs to hold no patient's value above all."""
    text = (FOLDER / "cardio-bridge.conf").read_text(encoding="utf-8")
    wanted = dict(re.findall(r"^(\w+) = '?([^'\n]+)'?", text, re.MULTILINE))
    assert wanted.keys() >= {"fsync", "log_parameter_max_length", "log_min_error_statement"}
    with installed.connected() as conn:
        shown = {name: conn.execute(f"SHOW {name}").fetchone() for name in wanted}  # type: ignore[call-overload]
    assert {name: value[0] for name, value in shown.items() if value} == wanted


def test_what_listens_prepares_nothing_that_a_pooler_could_not_keep(installed: Installed) -> None:
    """PgBouncer 1.18 answered the sixth look with DuplicatePreparedStatement, and each answer came a second later."""
    store = installed.settings().store
    with postgres_engine.listening(postgres_engine.url(store.url, store.password_file)) as conn:
        for number in range(10):
            conn.execute("SELECT %s + 1", (number,))
        assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def warned(installed: Installed) -> list[str]:
    """What the check says of the server, asked as a service is."""
    store = installed.settings().store
    engine = postgres_engine.reader_engine(postgres_engine.url(store.url, store.password_file))
    try:
        with engine.connect() as conn:
            return postgres_facts.warnings(conn)
    finally:
        engine.dispose()


def until(done: Callable[[], bool]) -> None:
    by = time.monotonic() + 60
    while not done():
        assert time.monotonic() < by
        time.sleep(0.05)


def test_a_service_sees_whether_a_standby_is_synchronous(installed: Installed) -> None:
    """`pg_read_all_stats`, without which every standby looks asynchronous. A receiver of logs plays one."""
    folder = installed.server.folder / "received"  # where the server's user may write
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    receive = [installed.server.programs / "pg_receivewal", "--synchronous", f"--directory={folder}", "--no-loop"]
    where = [f"--host={installed.server.folder}", f"--port={installed.server.port}", "--username=postgres"]
    with superuser(installed.server) as conn:
        quiet = subprocess.DEVNULL
        standby = subprocess.Popen([*as_server(), *receive, *where], cwd="/", stdout=quiet, stderr=quiet)
        try:

            def state() -> tuple[object, ...] | None:
                return conn.execute("SELECT sync_state FROM pg_stat_replication").fetchone()

            until(lambda: state() == ("async",))
            assert any("asynchronous" in text for text in warned(installed))
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'pg_receivewal'")
            conn.execute("SELECT pg_reload_conf()")
            until(lambda: state() == ("sync",))
            assert not any("standby" in text for text in warned(installed))
            conn.execute("REVOKE pg_read_all_stats FROM bridge")
            (unseen,) = [text for text in warned(installed) if "standby" in text]
            assert "GRANT pg_read_all_stats" in unseen
        finally:
            conn.execute("GRANT pg_read_all_stats TO bridge")
            conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
            conn.execute("SELECT pg_reload_conf()")
            standby.terminate()
            standby.wait(30)


@pytest.mark.timeout(600)
def test_the_parts_work_by_the_runbook_and_their_copy_is_put_back_in_quarantine(
    installed: Installed, tmp_path: Path, api: tuple[str, Path]
) -> None:
    text = installed.toml.read_text().replace('"group/south"', '"sandbox-hospital"')
    installed.toml.write_text(text.replace("[cardio]", f'[cardio]\nbase_url = "{api[0]}"', 1))
    settings = installed.settings()
    for one in settings.cardio.all().values():
        Path(one.token_file).write_text("sandbox-token\n")
    assert settings.hl7.tls is not None
    tls = {"ca": settings.hl7.tls.client_ca, "cert": settings.hl7.tls.certificate, "key": settings.hl7.tls.key}
    config = ("--config", str(installed.toml))
    up: dict[str, Process] = {}

    def start(role: str) -> Process:
        own = {"BRIDGE_STORE__FOLDER": str(settings.store.beside("").with_name(role))}
        up[role] = Process([*RUN, "run", *config, "--role", role], own, tmp_path / f"{role}.log")
        return up[role]

    try:
        receiver = start("receive")
        start("dispatch")
        start("console")
        message = tmp_path / "order.hl7"
        message.write_bytes(order().replace("|CARDIO|BRIDGE|", "|CARDIO|SOUTH|").encode())
        shown = [word for name, path in tls.items() for word in (f"--tls-{name}", str(path))]
        assert "task=" in run("send", str(message), "--to", receiver.addresses["hl7"], *shown, environment={})
        told = run("messages", "list", "--json", *config, environment={})
        assert [row["state"] for row in json.loads(told)] == ["CREATED"]
        copy = tmp_path / "copy"
        run("db", "backup", str(copy), *config, environment={})
        assert {role: one.end() for role, one in up.items()} == dict.fromkeys(up, 0)
    finally:
        for one in up.values():
            one.end(signal.SIGKILL)
    installed.another_database()
    installed.toml.write_text(installed.toml.read_text().replace("bridge@/bridge?", "bridge@/bridge_again?"))
    run("db", "restore", str(copy), *config, environment=installed.as_owner(installed.settings().store.url))
    try:
        start("dispatch")
        assert run("check", *config, environment={}, status=1).count("in quarantine") == 1
        told = run("messages", "list", "--json", *config, environment={})
        assert [row["state"] for row in json.loads(told)] == ["CREATED"]
    finally:
        up["dispatch"].end()


async def test_a_store_on_sqlite_is_put_over_by_the_owner_and_the_service_works_on_it(
    installed: Installed, sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    await sqlite_store.write(lambda tx: inbox.keep(tx, arrival("a")))
    backup.copy(sqlite_store.path, tmp_path / "copy.db")
    with superuser(installed.server) as conn:
        conn.execute("DROP DATABASE IF EXISTS bridge_again")
    installed.another_database()
    config, url = ("--config", str(installed.toml)), installed.settings().store.url
    if "bridge_again" not in url:
        url = url.replace("bridge@/bridge?", "bridge@/bridge_again?")
    folder = {"BRIDGE_STORE__FOLDER": str(tmp_path / "host")}
    run("db", "restore", str(tmp_path / "copy.db"), *config, environment={**folder, **installed.as_owner(url)})
    here = {**folder, "BRIDGE_STORE__URL": url}
    told = run("messages", "list", "--json", *config, environment=here)
    assert [row["state"] for row in json.loads(told)] == ["RECEIVED"]
    words = ("--waiting", "hold", "--reason", "moved")
    assert "released; 0 messages" in run("db", "release", *config, *words, environment=here)
    assert list((tmp_path / "host").iterdir()) == [], "a process's own folder: what root leaves there it cannot read"
    told = run("messages", "list", "--json", *config, environment=here)
    assert [(row["state"], row["reason"]) for row in json.loads(told)] == [("HELD", "quarantine")]


def test_the_image_of_postgresql_makes_the_same_at_its_first_start(tmp_path: Path) -> None:
    """The script of the compose file, with the folders that the container would have below one of the test."""
    secrets_folder, share, programs = tmp_path / "secrets", tmp_path / "share", tmp_path / "bin"
    for folder in (secrets_folder, share, programs):
        folder.mkdir()
    for name in ("service", "owner"):
        (secrets_folder / f"database-{name}").write_text(f"an invented {name}'s password")
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    for name in re.findall(r"\./postgresql/(\w+\.sql):/usr/share/cardio-bridge/\1:ro", compose):
        shutil.copy(FOLDER / name, share)
    script = (FOLDER / "first-start.sh").read_text()
    script = script.replace("/run/secrets", str(secrets_folder)).replace("/usr/share/cardio-bridge", str(share))
    with cluster(access=f"{OURS}host bridge bridge,bridge_owner 127.0.0.1/32 scram-sha-256\n") as server:
        (programs / "psql").symlink_to(server.programs / "psql")
        done = subprocess.run(
            ["/bin/sh", "-c", f"export {words_to_psql(server)}\n{script}"],
            env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        url = sa.make_url(f"postgresql+psycopg://127.0.0.1:{server.port}/bridge")
        for name in ("service", "owner"):
            user = "bridge" if name == "service" else "bridge_owner"
            engine = postgres_engine.reader_engine(url.set(username=user, password=f"an invented {name}'s password"))
            with engine.connect() as conn:
                assert conn.exec_driver_sql("SELECT current_user").scalar() == user
            engine.dispose()
        log = (server.folder / "server.log").read_text()
        assert "an invented" not in log
