"""The road of migrations is walked while services write (`bridge db upgrade`)."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from bridge.clock import SystemClock
from bridge.errors import StoreRefused
from bridge.store import inbox, line, listing, migrate
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import writer_engine
from bridge.store.postgres_turn import LOCK
from tests.contract.heard import PATIENCE
from tests.contract.test_store_contract import NOW, arrival
from tests.postgres_server import Server

_FURTHER = """
import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("message", sa.Column("further", sa.Text(), nullable=True))
    op.add_column("event", sa.Column("further", sa.BigInteger(), nullable=True))
"""


@pytest.fixture
def upgraded(postgres: Server) -> Iterator[Server]:
    yield postgres
    postgres.drop("upgraded")


def _walk(address: sa.URL, road: Config) -> None:
    """`migrate.upgrade` as that version has it."""
    engine = writer_engine(address)
    with mock.patch.object(migrate, "_config", return_value=road):
        migrate.upgrade(engine)
    engine.dispose()


def test_0007_comes_while_others_write(upgraded: Server) -> None:
    """A version before it knew one process alone; whoever writes beside the upgrade loses nothing by it."""
    upgraded.execute("CREATE DATABASE upgraded")
    address = upgraded.url("upgraded")
    engine = writer_engine(address)
    with engine.connect() as conn:
        config = migrate._config()
        config.attributes["connection"] = conn
        command.upgrade(config, "0006")
        conn.commit()
    ended, written = threading.Event(), []

    def write() -> None:
        engine = writer_engine(address)
        number = 0
        while not ended.is_set():
            with engine.connect() as conn, conn.begin():
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
                written.append(inbox.keep(Transaction(conn), arrival(f"n{number}")).id)
            number += 1
        engine.dispose()

    writer = threading.Thread(target=write)
    writer.start()
    _await(lambda: len(written) > 20)
    migrate.upgrade(engine)
    after = len(written)
    _await(lambda: len(written) > after + 20)
    ended.set()
    writer.join()
    with engine.connect() as conn:
        migrate.require_newest(conn)
        assert conn.exec_driver_sql("SELECT array_agg(id ORDER BY id) FROM message").scalar() == written
        assert conn.exec_driver_sql("SELECT count(*) FROM worker").scalar() == 0
    engine.dispose()


def _await(enough: object) -> None:
    waiting = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if enough():  # type: ignore[operator]
            return
        waiting.wait(0.01)
    pytest.fail("it does not go on")


@pytest.fixture
def further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The road of a version to come: a column more that it fills, and that nobody else need know."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrate.__file__).parent / "migrations", folder)
    (folder / "versions" / "9998_further.py").write_text(_FURTHER.format(before=migrate.newest()))
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


async def test_a_further_column_comes_under_a_running_service_that_goes_on(
    upgraded: Server, further: Config, tmp_path: Path
) -> None:
    """What it has prepared stands: each statement names its columns. A start of the version before is refused."""
    address = upgraded.database("upgraded")
    store = PostgresStore(address, tmp_path / "host", SystemClock())
    store.open(asyncio.get_running_loop())
    told: list[int] = []
    ended = asyncio.Event()

    async def write(who: int) -> None:
        number = 0
        while not ended.is_set():
            kept = await store.write(lambda tx, n=number: inbox.keep(tx, arrival(f"{who}-{n}")))  # type: ignore[misc]
            await store.write(lambda tx: line.next_received(tx, 3))
            await store.write(lambda tx: line.claim(tx, store.worker, 3, at=NOW))
            await store.read(lambda conn, k=kept: listing.whole(conn, k.id))  # type: ignore[misc]
            told.append(kept.id)
            number += 1

    writers = [asyncio.create_task(write(who)) for who in range(3)]

    async def until(many: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(told) < many:
                if any(one.done() for one in writers):
                    await asyncio.gather(*writers)
                await asyncio.sleep(0.01)

    await until(30)
    await asyncio.to_thread(_walk, address, further)
    await until(len(told) + 30)
    ended.set()
    await asyncio.gather(*writers)
    rows = await store.read(lambda conn: conn.exec_driver_sql("SELECT id FROM message ORDER BY id").scalars().all())
    assert rows == sorted(told)
    await asyncio.to_thread(store.close)
    with pytest.raises(StoreRefused, match="newer than this bridge knows"):
        PostgresStore(address, tmp_path / "host", SystemClock()).open(asyncio.get_running_loop())


async def test_an_upgrade_behind_a_long_look_does_not_stop_those_who_write(
    upgraded: Server, further: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup or a report reads for minutes. Whoever changes a table waits for it, and all others would behind him."""
    monkeypatch.setattr(migrate, "AGAIN", 0.05)
    warned: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    told = mock.Mock(warning=lambda said, **_: loop.call_soon_threadsafe(warned.put_nowait, said))
    monkeypatch.setattr(migrate, "log", told)
    address = upgraded.database("upgraded")
    store = PostgresStore(address, tmp_path / "host", SystemClock())
    store.open(asyncio.get_running_loop())
    engine = writer_engine(address)
    with engine.connect() as look:
        look.exec_driver_sql("SELECT count(*) FROM message")
        walking = asyncio.create_task(asyncio.to_thread(_walk, address, further))
        log = await asyncio.wait_for(warned.get(), PATIENCE)
        assert log == "store.upgrade_waits"
        for number in range(20):
            await asyncio.wait_for(store.write(lambda tx, n=number: inbox.keep(tx, arrival(f"n{n}"))), PATIENCE)  # type: ignore[misc]
        assert not walking.done()
        look.rollback()
    await asyncio.wait_for(walking, PATIENCE)
    engine.dispose()
    await asyncio.to_thread(store.close)
