"""A server that ends under writing, or whose standby does not answer: what was told stands, nothing else is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.errors import CommitUnknown, StoreError
from bridge.store import inbox, listing
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from tests import postgres_server
from tests.conftest import missing
from tests.contract.heard import PATIENCE, Ears
from tests.contract.test_store_contract import arrival
from tests.postgres_server import Server

DATABASE = "restarts"
NOBODY = "ALTER SYSTEM SET synchronous_standby_names = 'nobody_there'"


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """One that these tests may stop."""
    if postgres_server.programs() is None:
        missing("PostgreSQL")
    with postgres_server.running() as server:
        server.database(DATABASE)
        yield server


@pytest.fixture
async def store(own_server: Server, tmp_path: Path) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(own_server.url(DATABASE), tmp_path, SystemClock(), poll=0.05)
    opened.open(asyncio.get_running_loop())
    yield opened
    await asyncio.to_thread(opened.close)


async def test_what_was_told_is_there_after_every_crash_and_the_store_goes_on(
    own_server: Server, store: PostgresStore, tmp_path: Path
) -> None:
    other = PostgresStore(own_server.url(DATABASE), tmp_path / "other", SystemClock(), poll=0.05)
    other.open(asyncio.get_running_loop())
    ears = Ears(other)
    told: dict[str, int] = {}
    ended, more = asyncio.Event(), asyncio.Event()

    async def write(who: int) -> None:
        number = 0
        while not ended.is_set():
            name = f"{who}-{number}"
            try:
                kept = await store.write(lambda tx, n=name: inbox.keep(tx, arrival(n)))  # type: ignore[misc]
            except StoreError:
                await asyncio.sleep(0)
                continue
            assert not kept.known, "what raised StoreError was not kept"
            told[name] = kept.id
            more.set()
            number += 1

    async def look() -> None:
        while not ended.is_set():
            try:
                await store.read(lambda conn: listing.rows(conn, limit=5))
            except StoreError:
                await asyncio.sleep(0)

    running = [asyncio.create_task(write(who)) for who in range(4)] + [asyncio.create_task(look())]

    async def further() -> None:
        """It is in the midst of it, or goes on by itself."""
        enough = len(told) + 40
        async with asyncio.timeout(PATIENCE):
            while len(told) < enough:
                more.clear()
                await more.wait()

    for _ in range(3):
        await further()
        await asyncio.to_thread(own_server.stop, "immediate")
        await asyncio.to_thread(own_server.start)
    await further()
    ended.set()
    await asyncio.gather(*running)
    rows = await store.read(lambda conn: conn.exec_driver_sql("SELECT identity, id FROM message").all())
    assert {row.identity: row.id for row in rows} == told
    await ears.until(lambda: len(ears.of("received")) >= len(told))
    assert ears.of("received") == sorted(told.values()), "each told to the other process, once and in order"
    await asyncio.to_thread(other.close)


@pytest.fixture
def standby_away(own_server: Server) -> Iterator[psycopg.Connection[Any]]:
    """From now on a commit waits for a standby that is not there. A connection to look on, which writes nothing."""
    look = psycopg.connect(f"host=127.0.0.1 port={own_server.port} user=postgres dbname=postgres", autocommit=True)
    for statement in (NOBODY, "SELECT pg_reload_conf()"):
        look.execute(statement)  # type: ignore[call-overload]
    _until(look, "SELECT current_setting('synchronous_standby_names') = 'nobody_there'")
    yield look
    for statement in ("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"):
        look.execute(statement)  # type: ignore[call-overload]
    look.close()


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'restarts'"


def _until(look: psycopg.Connection[Any], query: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        row = look.execute(query).fetchone()  # type: ignore[call-overload]
        if row and row[0]:
            return row[0]
        time.sleep(0.01)
    pytest.fail(query)


def keep(name: str) -> Any:
    def work(tx: Transaction) -> inbox.Kept:
        return inbox.keep(tx, arrival(name))

    return work


async def test_a3_a_commit_whose_wait_for_its_standby_was_cancelled_is_not_told_as_one(
    store: PostgresStore, standby_away: psycopg.Connection[Any]
) -> None:
    """The server says success, with a warning: on the primary it stands, and a failover would lose it."""
    ended: list[bool] = []
    store.on_fatal = lambda: ended.append(True)
    waiting = asyncio.ensure_future(store.write(keep("cancelled")))
    pid = await asyncio.to_thread(_until, standby_away, WAITING)
    assert not waiting.done()
    standby_away.execute("SELECT pg_cancel_backend(%s)", (pid,))
    with pytest.raises(CommitUnknown):
        await asyncio.wait_for(waiting, PATIENCE)
    assert ended == [True]


async def test_a3_a_commit_whose_session_was_ended_while_it_waited_is_told_once_its_standby_has_it(
    store: PostgresStore, standby_away: psycopg.Connection[Any]
) -> None:
    """Looked up at once it would be found on the primary, where it is alone."""
    waiting = asyncio.ensure_future(store.write(keep("ended")))
    pid = await asyncio.to_thread(_until, standby_away, WAITING)
    standby_away.execute("SELECT pg_terminate_backend(%s)", (pid,))
    other = await asyncio.to_thread(_until, standby_away, f"{WAITING} AND pid <> {pid}")
    assert other != pid
    assert not waiting.done(), "what it is looked up by waits as well"
    standby_away.execute("ALTER SYSTEM RESET synchronous_standby_names")
    standby_away.execute("SELECT pg_reload_conf()")
    kept = await asyncio.wait_for(waiting, PATIENCE)
    assert not kept.known
    assert (await store.write(keep("ended"))).known


async def test_no_time_out_of_the_role_s_touches_a_commit(
    own_server: Server, tmp_path: Path, standby_away: psycopg.Connection[Any]
) -> None:
    for statement in (
        "DROP ROLE IF EXISTS hurried",
        "CREATE ROLE hurried LOGIN SUPERUSER",
        *(
            f"ALTER ROLE hurried SET {name} = '50ms'"
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ),
    ):
        standby_away.execute("SET synchronous_commit = local")
        standby_away.execute(statement)  # type: ignore[call-overload]
    address = own_server.url(DATABASE).set(username="hurried")
    opening = PostgresStore(address, tmp_path / "hurried", SystemClock())
    started = asyncio.create_task(asyncio.to_thread(opening.open, asyncio.get_running_loop()))
    slow = f"{WAITING} AND clock_timestamp() - query_start > '300 ms'"
    await asyncio.to_thread(_until, standby_away, slow)
    assert not started.done(), "a start's commit as well"
    standby_away.execute("ALTER SYSTEM RESET synchronous_standby_names")
    standby_away.execute("SELECT pg_reload_conf()")
    await asyncio.wait_for(started, PATIENCE)

    def thinking(tx: Transaction) -> inbox.Kept:
        kept = inbox.keep(tx, arrival("thought about"))
        tx.conn.execute(sa.text("SELECT pg_sleep(0.2)"))
        time.sleep(0.2)
        return kept

    assert not (await opening.write(thinking)).known
    with psycopg.connect(own_server.url(DATABASE).set(drivername="postgresql").render_as_string()) as blocker:
        blocker.execute("SELECT pg_advisory_xact_lock(%s)", (0x6361_7264_696F,))
        waiting = asyncio.ensure_future(opening.write(keep("behind another")))
        await asyncio.to_thread(_until, standby_away, slow.replace("SyncRep", "advisory"))
        blocker.rollback()
    assert not (await asyncio.wait_for(waiting, PATIENCE)).known
    await asyncio.to_thread(opening.close)


async def test_a_session_that_the_server_ends_while_it_is_idle_costs_nothing(
    own_server: Server, tmp_path: Path
) -> None:
    """`idle_session_timeout`, a firewall, a restart between two messages: nothing was begun, so nobody need know."""
    own_server.execute("DROP ROLE IF EXISTS dozing")
    own_server.execute("CREATE ROLE dozing LOGIN SUPERUSER")
    own_server.execute("ALTER ROLE dozing SET idle_session_timeout = '50ms'")
    store = PostgresStore(own_server.url(DATABASE).set(username="dozing"), tmp_path, SystemClock())
    store.open(asyncio.get_running_loop())
    with psycopg.connect(
        f"host=127.0.0.1 port={own_server.port} user=postgres dbname=postgres", autocommit=True
    ) as look:
        for number in range(3):
            assert not (await store.write(keep(f"dozing {number}"))).known
            assert await store.read(listing.rows)
            gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'dozing' AND query = 'COMMIT')"
            await asyncio.to_thread(_until, look, gone)
    await asyncio.to_thread(store.close)
