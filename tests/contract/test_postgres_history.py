"""F41 on PostgreSQL: a database that was put back is noticed by those who work on it, and by those who start on it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.domain.states import State
from bridge.errors import Fenced, StoreError
from bridge.store import inbox, marks, quarantine
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import writer_engine
from tests.contract.heard import PATIENCE
from tests.contract.test_store_contract import NOW, arrival
from tests.postgres_server import Server

LIVE, COPY = "history_live", "history_copy"


@pytest.fixture
def live(postgres: Server) -> Iterator[sa.URL]:
    """A database that can be copied and put back."""
    yield postgres.database(LIVE)
    for name in (LIVE, COPY):
        postgres.drop(name)


def begun(address: sa.URL, folder: Path) -> PostgresStore:
    store = PostgresStore(address, folder, SystemClock())
    store.open(asyncio.get_running_loop())
    return store


async def kept(store: PostgresStore, *names: str) -> None:
    for name in names:
        await store.write(lambda tx, n=name: inbox.keep(tx, arrival(n)))  # type: ignore[misc]


def copied(server: Server, source: str, target: str) -> None:
    """A copy of a database that is in use: those who use it are cut off first, and come back."""
    for _ in range(100):
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'")
        try:
            server.database(target, template=source)
        except psycopg.errors.ObjectInUse:  # somebody was back already
            continue
        return
    pytest.fail("the database was never without a session")


def put_back(server: Server) -> None:
    server.drop(LIVE)
    copied(server, COPY, LIVE)


async def fenced(store: PostgresStore) -> Fenced:
    """What a writer hears in the end. Cut off, it hears that nothing was kept, and tries again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await kept(store, "after")
            except Fenced as problem:
                return problem
            except StoreError:
                continue
            pytest.fail("it went on")


async def test_f41_a_database_that_was_put_back_under_a_process_ends_it(
    postgres: Server, live: sa.URL, tmp_path: Path
) -> None:
    store = begun(live, tmp_path)
    told: list[bool] = []
    store.on_fatal = lambda: told.append(True)
    await kept(store, "a", "b")
    copied(postgres, LIVE, COPY)
    await kept(store, "c", "d")  # cut off by the copy, it comes back by itself
    put_back(postgres)
    assert "went back" in str(await fenced(store))
    assert told == [True]
    await asyncio.to_thread(store.close)
    again = begun(live, tmp_path)
    assert again.quarantine == "what a process had committed is not in it any more"
    again.close()


async def test_f41_who_lost_nothing_of_its_own_stops_too_and_whoever_starts_sends_nothing(
    live: sa.URL, tmp_path: Path
) -> None:
    """An asynchronous standby is promoted: one process's newest commit is gone, and the other has gone on since."""
    loser, other = begun(live, tmp_path / "loser"), begun(live, tmp_path / "other")
    await kept(loser, "a", "b")
    engine = writer_engine(live)
    with engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM event WHERE id = (SELECT max(id) FROM event)")
        conn.execute(sa.text("UPDATE worker SET commits = commits - 1 WHERE name = :name"), {"name": loser.worker})
    engine.dispose()
    await kept(other, "c", "d", "e")
    assert "went back" in str(await fenced(loser))
    assert "quarantine began" in str(await fenced(other))
    for store, folder in ((loser, "loser"), (other, "other")):
        await asyncio.to_thread(store.close)
        again = begun(live, tmp_path / folder)
        assert again.quarantine == "what a process had committed is not in it any more"
        again.close()


async def test_f41_a_database_from_before_the_process_ends_it(postgres: Server, live: sa.URL, tmp_path: Path) -> None:
    copied(postgres, LIVE, COPY)
    store = begun(live, tmp_path)
    await kept(store, "a")
    put_back(postgres)
    assert "does not know this process" in str(await fenced(store))
    await asyncio.to_thread(store.close)


async def test_f41_a_copy_elsewhere_is_in_quarantine_also_for_who_knows_nothing_of_it(
    postgres: Server, live: sa.URL, tmp_path: Path
) -> None:
    """A new host, without an epoch file: the database itself says where it was written."""
    store = begun(live, tmp_path / "here")
    await kept(store, "a")
    store.close()
    copied(postgres, LIVE, COPY)
    elsewhere = begun(postgres.url(COPY), tmp_path / "elsewhere")
    assert elsewhere.quarantine == "it was written in another database: it was restored"
    elsewhere.close()
    here = begun(live, tmp_path / "here")
    assert here.quarantine == "", "the original goes on"
    here.close()


async def test_f41_a_database_that_lost_its_newest_commit_in_its_own_place_is_in_quarantine(
    live: sa.URL, tmp_path: Path
) -> None:
    """As a recovery to an earlier moment leaves it, or a standby that was behind: same cluster, same database."""
    store = begun(live, tmp_path / "one")
    await kept(store, "a", "b")
    store.close()
    other = begun(live, tmp_path / "other")
    other.close()
    engine = writer_engine(live)
    with engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM event WHERE id = (SELECT max(id) FROM event)")
    engine.dispose()
    again = begun(live, tmp_path / "one")
    assert again.quarantine == "it is older than the epoch file of this host"
    again.close()
    newcomer = begun(live, tmp_path / "newcomer")
    assert newcomer.quarantine == "it is older than the epoch file of this host", "for everybody, until it is released"
    newcomer.close()


async def test_f41_a_process_that_only_gives_signs_of_life_knows_how_far_the_others_came(
    live: sa.URL, tmp_path: Path
) -> None:
    busy, idle = begun(live, tmp_path / "busy"), begun(live, tmp_path / "idle")
    await kept(busy, "a")
    await idle.write(lambda _: None)
    newest = await busy.read(marks.newest)
    idle.close()
    busy.close()
    found = marks.EpochFile(tmp_path / "idle" / "bridge.epoch").read()
    assert found is not None
    assert found.newest == newest


async def test_f41_a_quarantine_ends_for_every_host_by_one_word(postgres: Server, live: sa.URL, tmp_path: Path) -> None:
    hosts = [tmp_path / "one", tmp_path / "other"]
    for host in hosts:
        store = begun(live, host)
        await kept(store, host.name)
        store.close()
    copied(postgres, LIVE, COPY)
    put_back(postgres)
    one, other = begun(live, hosts[0]), begun(live, hosts[1])
    assert one.quarantine == other.quarantine != ""
    await one.write(lambda tx: quarantine.hold(tx, at=NOW))
    await one.write(lambda tx: inbox.keep(tx, arrival("meanwhile")))
    line_before = await one.read(lambda conn: marks.value_of(conn, marks.LINE))

    def release(tx: Transaction) -> int:
        return quarantine.release(tx, at=NOW, send_waiting=True)

    assert await one.release_quarantine(release) == 1
    for store in (one, other):
        with pytest.raises(Fenced, match="starts anew"):
            await kept(store, "before it starts anew")
        await asyncio.to_thread(store.close)
    for host in (*hosts, tmp_path / "newcomer"):
        store = begun(live, host)
        assert store.quarantine == "", host.name
        assert await store.read(lambda conn: marks.value_of(conn, marks.LINE)) != line_before
        await kept(store, f"after {host.name}")
        store.close()
    engine = writer_engine(live)
    with engine.connect() as conn:
        states = conn.exec_driver_sql("SELECT identity, state FROM message ORDER BY id").all()
    engine.dispose()
    assert [tuple(row) for row in states[:3]] == [
        ("one", State.HELD),
        ("other", State.HELD),
        ("meanwhile", State.RECEIVED),
    ]


async def test_f41_the_copy_that_was_not_released_is_of_another_line(
    postgres: Server, live: sa.URL, tmp_path: Path
) -> None:
    """Two copies of one database, released apart: a host of the one does not go on at the other."""
    store = begun(live, tmp_path / "here")
    await kept(store, "a")
    store.close()
    copied(postgres, LIVE, COPY)
    elsewhere = begun(postgres.url(COPY), tmp_path / "elsewhere")
    await elsewhere.release_quarantine(lambda tx: quarantine.release(tx, at=NOW, send_waiting=False))
    await asyncio.to_thread(elsewhere.close)
    there = begun(postgres.url(COPY), tmp_path / "elsewhere")
    await kept(there, "b")
    there.close()
    wrong = begun(live, tmp_path / "elsewhere")
    assert wrong.quarantine == "it is of another line than the epoch file of this host"
    wrong.close()
