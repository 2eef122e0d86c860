"""F27, F40: a database that is not as it must be is refused, with the way out and without the password."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from bridge.clock import SystemClock
from bridge.errors import StoreRefused
from bridge.store import migrate
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import writer_engine
from tests.contract.conftest import Join
from tests.ports import free_port
from tests.postgres_server import Server

SECRET = "open-sesame-4711"


async def refused(address: sa.URL, folder: Path) -> str:
    """What whoever starts a bridge is told. Its folder is left to the next one."""
    store = PostgresStore(address, folder, SystemClock())
    with pytest.raises(StoreRefused) as problem:
        store.open(asyncio.get_running_loop())
    return str(problem.value)


@pytest.fixture
def revision(shared_database: sa.Engine) -> Iterator[sa.Engine]:
    """The database, whose revision a test may change."""
    yield shared_database
    with shared_database.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = %s", (migrate.newest(),))


@pytest.mark.parametrize(
    ("found", "told"),
    [("9999", "is newer than this bridge knows"), ("0006", "is 0006, and this version works with")],
    ids=["newer", "older"],
)
async def test_f27_a_schema_of_another_version_is_refused(
    revision: sa.Engine, tmp_path: Path, found: str, told: str
) -> None:
    with revision.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = %s", (found,))
    said = await refused(revision.url, tmp_path)
    assert told in said
    assert "run the version that wrote it" in said if found == "9999" else "run `bridge db upgrade` once" in said


async def test_f27_a_database_without_tables_is_refused_with_the_way_to_make_them(
    postgres: Server, tmp_path: Path
) -> None:
    said = await refused(postgres.url("postgres"), tmp_path)
    assert "not there yet" in said
    assert "run `bridge db upgrade` once" in said


async def test_a_database_that_cannot_hold_every_name_is_refused(postgres: Server, tmp_path: Path) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    said = await refused(postgres.url("latin"), tmp_path)
    postgres.drop("latin")
    assert "encoded in LATIN1" in said
    assert "ENCODING 'UTF8' TEMPLATE template0" in said


async def test_a_standby_is_refused(postgres: Server, emptied: sa.URL, tmp_path: Path) -> None:
    standby = Server(postgres.folder.parent / "standby")
    standby.folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(standby.folder, "postgres", "postgres")
    origin = ("-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres")
    standby.run("pg_basebackup", *origin, "-D", str(standby.folder), "-R", "-c", "fast", "-X", "stream", "--no-sync")
    standby.configure({})
    standby.start()
    try:
        said = await refused(standby.url(str(emptied.database)), tmp_path)
    finally:
        standby.stop("immediate")
    assert "is a standby and takes no writes; name the primary" in said


async def test_f40_two_processes_in_one_folder_are_refused(join: Join, emptied: sa.URL) -> None:
    first = join()
    said = await refused(emptied, first.folder)
    assert "is another running bridge's; give each process a folder of its own" in said
    assert (await first.read(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM worker").scalar())) == 1


@pytest.fixture
def locked(postgres: Server) -> Iterator[str]:
    """A role that needs its password."""
    rules = postgres.folder / "pg_hba.conf"
    before = rules.read_text()
    postgres.execute(f"CREATE ROLE locked LOGIN SUPERUSER PASSWORD '{SECRET}'")
    rules.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{before}")
    postgres.execute("SELECT pg_reload_conf()")
    yield "locked"
    rules.write_text(before)
    postgres.execute("SELECT pg_reload_conf()")
    postgres.execute("DROP ROLE locked")


async def test_a_wrong_password_a_wrong_place_and_a_wrong_name_are_told_without_the_password(
    emptied: sa.URL, locked: str, tmp_path: Path
) -> None:
    right = emptied.set(username=locked, password=SECRET)
    store = PostgresStore(right, tmp_path, SystemClock())
    store.open(asyncio.get_running_loop())
    store.close()
    for wrong, told in (
        (right.set(password=f"{SECRET}x"), "password authentication failed"),
        (right.set(database="nowhere"), 'database "nowhere" does not exist'),
        (right.set(port=free_port()), "refused"),
        (right.set(host="nowhere.invalid"), "nowhere.invalid"),
    ):
        said = await refused(wrong, tmp_path)
        assert said.startswith("store.url: PostgreSQL cannot be used: ")
        assert told in said
        assert SECRET not in said
        assert "\n" not in said


async def test_what_was_refused_leaves_nothing_behind(postgres: Server, emptied: sa.URL, tmp_path: Path) -> None:
    """Neither a connection nor a lock on the folder: the next start is one as ever."""
    await refused(postgres.url("postgres"), tmp_path)
    store = PostgresStore(emptied, tmp_path, SystemClock())
    store.open(asyncio.get_running_loop())
    here = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cardio-bridge' AND datname = 'postgres'"
    assert await store.read(lambda conn: conn.exec_driver_sql(here).scalar()) == 0
    store.close()


async def test_the_schema_is_the_same_by_each_step_of_the_road(postgres: Server, tmp_path: Path) -> None:
    """As sites walk it that upgrade now and then, revision by revision."""
    postgres.execute("CREATE DATABASE by_steps")
    engine = writer_engine(postgres.url("by_steps"))
    with engine.connect() as conn:
        config = migrate._config()
        config.attributes["connection"] = conn
        for revision in [f"{number:04}" for number in range(1, int(migrate.newest()) + 1)]:
            command.upgrade(config, revision)
            conn.commit()
    engine.dispose()
    store = PostgresStore(postgres.url("by_steps"), tmp_path, SystemClock())
    store.open(asyncio.get_running_loop())
    store.close()
    postgres.drop("by_steps")
