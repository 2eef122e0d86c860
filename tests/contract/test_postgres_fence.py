"""A process that is silent or gone: its work is another's, once, and it can write nothing any more (F11, F43)."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.domain.states import State
from bridge.errors import Fenced, StoreError, StoreRefused
from bridge.store import inbox, line, listing, place, postgres, postgres_turn, tasks, workers
from bridge.store.crew import Crew
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from tests.acceptance.virtual_clock import VirtualClock
from tests.contract.conftest import Join
from tests.contract.test_store_contract import NOW, arrival

LEASE = 1000.0
QUARTER = LEASE / 4
ROOT = Path(__file__).parents[2]


async def in_hand(store: PostgresStore, name: str, *states: State) -> int:
    """A recording that this process has in hand, and how far it came."""

    def work(tx: Transaction) -> int:
        kept = inbox.keep(tx, arrival(name))
        inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW, order_key=name)
        assert line.claim_one(tx, store.worker, kept.id)
        before = State.READY
        for after in states:
            if after is State.INTENT:
                tasks.intend(
                    tx, message_id=kept.id, position=1, order_id=None, purpose="recording", key=f"br1-{name}",
                    generation=1, body=b"{}", traces=(), at=NOW,
                )  # fmt: skip
            inbox.move(tx, kept.id, before, after, at=NOW)
            before = after
        return kept.id

    return await store.write(work)


async def states(store: PostgresStore) -> list[tuple[str, str, str]]:
    """State, reason and owner of every message, in order."""
    query = sa.text("SELECT state, reason, coalesce(owner, '') FROM message ORDER BY id")
    return [tuple(row) for row in await store.read(lambda conn: conn.execute(query).all())]


async def sign_of_life(store: PostgresStore) -> None:
    await store.write(lambda tx: None)


def patient_for(milliseconds: int) -> str:
    """How a turn begins of whoever waits no longer for it."""
    own = f"lock_timeout = {round(2000 * postgres_turn.IDLE)};"
    assert own in postgres_turn.BEGIN
    return postgres_turn.BEGIN.replace(own, f"lock_timeout = {milliseconds};")


async def test_whose_row_was_taken_writes_nothing_any_more_and_ends(join: Join) -> None:
    silent, other = join(), join()
    told: list[bool] = []
    silent.on_fatal = lambda: told.append(True)
    await other.write(lambda tx: workers.sign_off(tx, [silent.worker], at=NOW, reason="silent for its lease"))
    works = [silent.write(lambda tx, n=n: inbox.keep(tx, arrival(f"n{n}"))) for n in range(5)]  # type: ignore[misc]
    found = await asyncio.gather(*works, return_exceptions=True)
    assert [type(one) for one in found] == [Fenced] * 5
    assert told == [True]
    with pytest.raises(Fenced):
        await silent.write(lambda tx: inbox.keep(tx, arrival("later")))
    assert await states(other) == []
    assert [one.name for one in await other.read(workers.there)] == [other.worker]


async def test_f11_what_a_silent_process_had_in_hand_goes_on_or_is_in_doubt(join: Join) -> None:
    """Its INTENT may have been sent: in doubt, never sent again. What others have in hand is not touched."""
    silent, busy, other = join(lease=LEASE), join(lease=LEASE), join(lease=LEASE)
    posted = await in_hand(silent, "posted", State.INTENT)
    await in_hand(silent, "uploading", State.UPLOADING)
    await in_hand(silent, "claimed")
    await in_hand(busy, "mine", State.INTENT)
    clock = VirtualClock()
    crew = Crew(other, clock)
    for look in range(6):
        assert (await states(other))[0] == ("INTENT", "", silent.worker), look
        await sign_of_life(busy)
        await crew._look()
        clock.jump(QUARTER)
    assert await states(other) == [
        ("READY", "interrupted", ""),  # an order's message goes on behind the task in doubt
        ("READY", "interrupted", ""),
        ("READY", "", ""),
        ("INTENT", "", busy.worker),
    ]
    shown = await other.read(lambda conn: listing.whole(conn, posted))
    assert shown is not None
    assert [task["state"] for task in shown["tasks"]] == ["IN_DOUBT"]
    with pytest.raises(Fenced):
        await silent.write(lambda tx: inbox.move(tx, posted, State.INTENT, State.CREATED, at=NOW))
    await sign_of_life(busy)


async def test_a_sign_of_life_between_two_looks_is_enough(join: Join) -> None:
    quiet, other = join(lease=LEASE), join(lease=LEASE)
    clock = VirtualClock()
    crew = Crew(other, clock)
    for look in range(20):
        if look % 4 == 3:
            await sign_of_life(quiet)
        await crew._look()
        clock.jump(QUARTER)
    assert len(await other.read(workers.there)) == 2


async def test_who_was_frozen_himself_takes_nobody_over(join: Join) -> None:
    """All of a machine stood still, or the database was away: both are back, and nobody is gone."""
    quiet, other = join(lease=LEASE), join(lease=LEASE)
    clock = VirtualClock()
    crew = Crew(other, clock)
    await crew._look()
    clock.jump(10 * LEASE)
    for _ in range(50):  # as often as may be, all at once
        await crew._look()
    assert len(await other.read(workers.there)) == 2
    for _ in range(workers.SURELY + 1):
        clock.jump(QUARTER)
        await crew._look()
    assert [one.name for one in await other.read(workers.there)] == [other.worker], "it is silent after all"
    with pytest.raises(Fenced):
        await sign_of_life(quiet)


async def test_a_time_in_which_nobody_could_write_makes_nobody_silent(
    join: Join, shared_database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that waits for its standby, a long migration, a server that only reads: each saw the others stand still,
    and the first one that could write again signed off all the rest.
    """
    quiet, other = join(lease=LEASE), join(lease=LEASE)
    clock = VirtualClock()
    crew = Crew(other, clock)
    await crew._look()
    with monkeypatch.context() as shortly, shared_database.begin() as conn:
        shortly.setattr(postgres_turn, "BEGIN", patient_for(20))
        conn.execute(sa.text(f"SELECT pg_advisory_xact_lock({postgres_turn.LOCK})"))
        for _ in range(2 * workers.SURELY):
            clock.jump(QUARTER)
            with pytest.raises(StoreError):
                await crew._look()
    await crew._look()
    await sign_of_life(quiet)
    for _ in range(workers.SURELY + 1):
        clock.jump(QUARTER)
        await crew._look()
    assert [one.name for one in await other.read(workers.there)] == [other.worker], "it is silent after all"


async def test_who_writes_between_the_look_and_its_own_turn_is_not_silent(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn may be waited for longer than another one needs to give a sign of life."""
    late, silent, other = join(lease=LEASE), join(lease=LEASE), join(lease=LEASE)
    clock = VirtualClock()
    crew = Crew(other, clock)
    for _ in range(workers.SURELY):
        await crew._look()
        clock.jump(QUARTER)
    read = other.read

    async def read_and_wait(work: Any) -> Any:
        found = await read(work)
        await sign_of_life(late)
        return found

    monkeypatch.setattr(other, "read", read_and_wait)
    await crew._look()
    assert [one.name for one in await read(workers.there)] == [late.worker, other.worker]
    with pytest.raises(Fenced):
        await sign_of_life(silent)


async def test_nothing_is_sent_by_who_was_silent_for_half_a_lease(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    store = join(lease=LEASE)
    now = [postgres._since_boot()]
    monkeypatch.setattr(postgres, "_since_boot", lambda: now[0])
    await sign_of_life(store)
    assert store.may_send()
    now[0] += LEASE / 2 + 1
    assert not store.may_send()
    await sign_of_life(store)
    assert store.may_send()


def running(script: str) -> "subprocess.Popen[str]":
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


async def test_a_start_takes_over_from_a_process_of_this_machine_that_was_killed(join: Join) -> None:
    """Without a lease's wait: its place says that it runs no more."""
    store = join(lease=LEASE)
    with running("input()") as child:
        where = f"{place.here().rsplit('/', 2)[0]}/{child.pid}/{place._started(child.pid)}"

        def beside(tx: Transaction) -> None:
            workers.sign_on(tx.conn, "child", [], at=NOW)
            tx.conn.exec_driver_sql("UPDATE worker SET place = %s WHERE name = 'child'", (where,))
            kept = inbox.keep(tx, arrival("a"))
            inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW)
            line.claim_one(tx, "child", kept.id)

        await store.write(beside)
        await store.write(lambda tx: store.recover(tx, at=NOW))
        assert await states(store) == [("READY", "", "child")]
        child.kill()
    await store.write(lambda tx: store.recover(tx, at=NOW + timedelta(seconds=1)))
    assert await states(store) == [("READY", "", "")]
    assert [one.name for one in await store.read(workers.there)] == [store.worker]


def test_a_process_that_was_killed_is_surely_gone_and_one_that_stands_still_is_not() -> None:
    script = "from bridge.store import place; print(place.here(), flush=True); input()"
    with running(script) as child:
        assert child.stdout is not None
        where = child.stdout.readline().strip()
        assert where.split("/")[2] == str(child.pid)
        assert not place.is_surely_gone(where)
        child.send_signal(signal.SIGSTOP)
        assert not place.is_surely_gone(where)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has taken note of it yet
        assert place.is_surely_gone(where)
    assert place.is_surely_gone(where)
    boot, space, pid, began = where.split("/")
    assert not place.is_surely_gone(f"{boot}x/{space}/{pid}/{began}"), "another boot, or another machine"
    assert not place.is_surely_gone(f"{boot}/{space}0/{pid}/{began}"), "another container"
    assert not place.is_surely_gone("")
    assert place.is_surely_gone(f"{boot}/{space}/{os.getpid()}/1"), "its number is somebody else's now"


_FROZEN = """
import asyncio, signal, sys, threading
from pathlib import Path
import sqlalchemy as sa
from bridge.clock import SystemClock
from bridge.errors import BridgeError
from bridge.store import inbox, postgres_turn
from bridge.store.postgres import PostgresStore
from tests.contract.test_store_contract import arrival

own = f"timeout = {round(postgres_turn.IDLE * 1000)};"
postgres_turn.BEGIN = postgres_turn.BEGIN.replace(own, f"timeout = {sys.argv[3]};")

def work(tx):
    inbox.keep(tx, arrival("frozen"))
    print("inside", flush=True)
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # sent to the process, it might reach this thread late

async def main():
    store = PostgresStore(sa.make_url(sys.argv[1]), Path(sys.argv[2]), SystemClock())
    store.open(asyncio.get_running_loop())
    try:
        await store.write(work)
    except BridgeError as problem:
        print(type(problem).__name__, flush=True)
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("frozen")))
    print(kept.known, flush=True)
    store.close()

asyncio.run(main())
"""


@pytest.fixture(params=[300, 0], ids=["the server ends it", "whoever waits ends it"])
def frozen(emptied: sa.URL, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A process that stands still inside its transaction. The server ends its session after so many ms; 0: never."""
    address = emptied.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _FROZEN, address, str(tmp_path / "frozen"), str(request.param)]
    if not request.param:
        monkeypatch.setattr(postgres_turn, "BEGIN", patient_for(300))
        monkeypatch.setattr(postgres_turn, "IDLE", 0.1)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        yield child
        child.kill()


async def test_a_process_that_is_frozen_inside_a_transaction_does_not_keep_the_others_waiting(
    join: Join, frozen: Any
) -> None:
    """The server ends its session; what it had begun is not there, and it is told so when it comes back."""
    deadline = time.monotonic() + 60
    while True:  # whoever waited in vain raises, as a start does: nothing was kept, and it is tried again
        try:
            store = join()
            kept = await asyncio.wait_for(store.write(lambda tx: inbox.keep(tx, arrival("mine"))), 60)
            break
        except (StoreError, StoreRefused):
            assert time.monotonic() < deadline
    assert not kept.known
    frozen.send_signal(signal.SIGCONT)
    told = await asyncio.to_thread(frozen.stdout.read)
    assert told.splitlines()[-2:] == ["StoreError", "False"]  # below what it logs
    assert len(await states(store)) == 2


_STREAM = b"SELECT repeat('x', 1000000) FROM generate_series(1, 200)"
_STATE = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = :pid"


async def test_a_process_that_is_frozen_while_rows_come_to_it_does_not_keep_the_others_waiting(
    join: Join, shared_database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is not idle: the server writes to a socket that nobody reads, and ends nothing by itself."""
    store = join()
    monkeypatch.setattr(postgres_turn, "BEGIN", patient_for(300))
    monkeypatch.setattr(postgres_turn, "IDLE", 0.1)
    with shared_database.connect() as stuck, shared_database.connect() as look:
        raw: Any = stuck.connection.driver_connection
        raw.execute(postgres_turn.BEGIN, prepare=False)
        raw.pgconn.send_query(_STREAM)
        raw.pgconn.flush()
        by = time.monotonic() + 30
        while tuple(look.execute(sa.text(_STATE), {"pid": raw.info.backend_pid}).one()) != ("active", "ClientWrite"):
            look.rollback()  # one transaction sees one state of all sessions
            assert time.monotonic() < by
            await asyncio.sleep(0.01)
        with pytest.raises(StoreError):  # whoever waits in vain ends it
            await store.write(lambda tx: inbox.keep(tx, arrival("mine")))
        kept = await store.write(lambda tx: inbox.keep(tx, arrival("mine")))
        assert not kept.known
        look.rollback()
        assert look.execute(sa.text(_STATE), {"pid": raw.info.backend_pid}).first() is None
        stuck.invalidate()
