"""Entered as it is kept: what then happens to faults, to the order of arrival, and to whoever is cut off (F28, A3)."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import app
from bridge.dispatch import at_once
from bridge.dispatch.at_once import AtOnce
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.entering import Entering
from bridge.dispatch.last_read import LastRead, Step
from bridge.domain.outcome import Outcome
from bridge.errors import CommitUnknown
from bridge.receive.intake import Answer, Envelope, Hl7Intake
from bridge.sandbox.peer import PeerError
from bridge.settings import host_port
from bridge.store import line
from bridge.store.listing import Row, rows
from bridge.store.port import Transaction
from bridge.store.sqlite import SqliteStore, reader_engine
from tests.acceptance.receiver import acknowledge, field_of, receiving
from tests.acceptance.scene import House, OpenHouse, gather, order

POISON = "PL-POISON"


@pytest.fixture
def intakes(monkeypatch: pytest.MonkeyPatch) -> list[Hl7Intake]:
    """The intakes of the bridges that are opened from here on."""
    made: list[Hl7Intake] = []

    class Seen(Hl7Intake):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            made.append(self)

    monkeypatch.setattr(app, "Hl7Intake", Seen)
    return made


@pytest.fixture
def deliverings(monkeypatch: pytest.MonkeyPatch) -> list[Delivering]:
    """The same of the sending side."""
    made: list[Delivering] = []

    class Seen(Delivering):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            made.append(self)

    monkeypatch.setattr(app, "Delivering", Seen)
    return made


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many works each commit held."""
    counted: list[int] = []
    real = SqliteStore._commit

    def commit(self: SqliteStore, conn: Any, group: list[Any]) -> None:
        counted.append(len(group))
        real(self, conn, group)

    monkeypatch.setattr(SqliteStore, "_commit", commit)
    return counted


def admission(control_id: str, name: str = "Muster^Max", patient: str = "4711") -> str:
    """An ADT^A08 of an invented patient."""
    return (
        f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ADT^A08|{control_id}|P|2.5\r"
        f"EVN|A08|20260301120000\rPID|1||{patient}^^^TEST^MR||{name}||19700131|M\r"
    )


def states(found: list[Row]) -> list[tuple[str, str]]:
    return [(row.state, row.reason) for row in found]


async def history(it: House, row: Row) -> list[str]:
    """The states that a message went through."""
    return [event["state"] for event in (await it.show(row.id))["history"]]


# --- what it is for --------------------------------------------------------------------------------------------------


async def test_an_admission_is_one_commit_and_an_order_two(house: OpenHouse, commits: list[int]) -> None:
    async with house() as it:
        await it.hl7(order("W1", "PL-W", patient="4799"))
        commits.clear()
        assert field_of(await it.hl7(admission("A1")), "MSA", 1) == "AA"
        assert commits == [1]
        commits.clear()
        assert field_of(await it.hl7(order()), "MSA", 3) == "task=4712"
        assert commits == [1, 1]
        found = await it.settled(3)
        assert await history(it, found[1]) == ["RECEIVED", "DONE"]
        assert await history(it, found[2]) == ["RECEIVED", "READY", "INTENT", "CREATED"]


@pytest.mark.parametrize(
    ("message", "code", "state"),
    [
        (order().replace("ORC|NW", "ORC|ZZ"), "AE", "REJECTED"),
        (order().replace("ORC|NW", "ORC|CA"), "AE", "REJECTED"),
        (admission("A1").replace("4711^^^TEST^MR", ""), "AE", "REJECTED"),
    ],
)
async def test_a5_a_refusal_that_is_known_at_once_is_stored_and_given_again(
    house: OpenHouse, message: str, code: str, state: str
) -> None:
    async with house() as it:
        answer = await it.hl7(message)
        assert field_of(answer, "MSA", 1) == code
        assert [row.state for row in await it.settled(1)] == [state]
        assert await it.hl7(message) == answer


async def test_enhanced_mode_says_ca_and_the_application_answer_goes_to_its_address(house: OpenHouse) -> None:
    async with receiving(lambda told, _: acknowledge(told, "CA")) as his:
        settings = {"BRIDGE_HL7__ACK_MODE": "enhanced", "BRIDGE_HL7__RETURN_ADDRESS": his.address}
        async with house(**settings) as it:
            message = admission("A1").replace("|P|2.5", "|P|2.5|||AL|AL")
            answer = await it.hl7(message)
            assert field_of(answer, "MSA", 1) == "CA"
            (told,) = await his.until(1, seconds=10)
            assert (field_of(told, "MSA", 1), field_of(told, "MSA", 2)) == ("AA", "A1")
            assert await it.hl7(message) == answer
            assert len(his.taken) == 1


# --- the order of arrival --------------------------------------------------------------------------------------------


async def test_pipelined_messages_are_entered_in_their_order_whichever_way_each_goes(house: OpenHouse) -> None:
    """Every third is too long to be read before it is kept: what comes behind it waits for the reader."""
    padding = "NTE|1||" + "x" * at_once.LARGEST + "\r"
    sent = [admission(f"A{n}", f"Muster^N{n}") + (padding if n % 3 == 0 else "") for n in range(30)]
    async with house() as it:
        reader, writer = await asyncio.open_connection(*host_port(it.up.addresses["hl7"]))
        writer.write(b"".join(b"\x0b" + one.encode() + b"\x1c\r" for one in sent))
        answers = [await reader.readuntil(b"\x1c\r") for _ in sent]
        writer.close()
        await writer.wait_closed()
        assert [field_of(a.decode(), "MSA", 2) for a in answers] == [f"A{n}" for n in range(30)]
        found = await it.settled(30)
        assert [row.control_id for row in found] == [f"A{n}" for n in range(30)]
        await it.hl7(order("C1").replace("||Muster^Max||19700131|M", ""))
        (task,) = it.sandbox.tasks.values()
        assert task.request["patient_first_name"] == "N29"


async def test_an_order_behind_an_unread_admission_waits_for_it(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = AtOnce.enter
    seen: list[bool] = []

    def enter(self: AtOnce, tx: Transaction, *parts: Any) -> Any:
        made = real(self, tx, *parts)
        seen.append(made is None)
        return made

    monkeypatch.setattr(AtOnce, "enter", enter)
    long = admission("A1", "Sample^Sina") + "NTE|1||" + "x" * at_once.LARGEST + "\r"
    async with house() as it:
        answers = await gather(it.hl7(long), *(it.hl7(order(f"C{n}", f"PL-{n}")) for n in range(8)))
        assert [field_of(a, "MSA", 1) for a in answers] == ["AA"] * 9
        found = await it.settled(9)
        assert {row.state for row in found} == {"DONE", "CREATED"}
        assert len(it.sandbox.tasks) == 8
    assert len(seen) == 8


async def test_is_unread_before_looks_at_hl7_alone_and_only_at_what_is_older(store: SqliteStore) -> None:
    def look(tx: Transaction) -> list[bool]:
        insert = "INSERT INTO message (id, kind, type, state, reason, received_at, listener, peer, sender, control_id,"
        insert += " sop_instance_uid, digest, size, order_number, answer_code, attempts)"
        insert += " VALUES (?, ?, '', ?, '', 0, '', '', '', '', '', '', 0, '', '', 0)"
        for row in ((1, "hl7", "DONE"), (2, "dicom", "RECEIVED"), (3, "hl7", "RECEIVED"), (4, "hl7", "READY")):
            tx.conn.exec_driver_sql(insert, row)
        return [line.is_unread_before(tx.conn, number) for number in (2, 3, 4)]

    assert await store.write(look) == [False, False, True]


# --- poison (F28) ----------------------------------------------------------------------------------------------------


async def test_f28_what_cannot_be_understood_at_once_is_kept_held_and_answered(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(*_: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(at_once, "understand_message", unforeseen)
    monkeypatch.setattr("bridge.dispatch.reading.understand_message", unforeseen)
    async with house() as it:
        assert field_of(await it.hl7(order()), "MSA", 1) == "AA"
        assert states(await it.settled(1)) == [("HELD", "poison")]


async def test_f28_what_cannot_be_entered_at_once_is_kept_held_and_its_neighbours_flow(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, deliverings: list[Delivering]
) -> None:
    real = Entering.enter

    def enter(self: Entering, tx: Transaction, claimed: Any, understood: Any, message: Any) -> Any:
        made = real(self, tx, claimed, understood, message)
        if any(o.own_number and o.own_number.value == POISON for o in understood.orders):
            raise ValueError("unforeseen")
        return made

    monkeypatch.setattr(Entering, "enter", enter)
    async with house() as it:
        answers = await gather(
            *(it.hl7(order(f"C{n}", POISON if n == 4 else f"PL-{n}", patient=f"P{n}")) for n in range(9))
        )
        assert [field_of(a, "MSA", 1) for a in answers] == ["AA"] * 9
        found = {row.control_id: row for row in await it.settled(9)}
        assert states([found["C4"]]) == [("HELD", "poison")]
        assert len(it.sandbox.tasks) == 8
        assert deliverings[0]._reserved == 0
        assert await history(it, found["C4"]) == ["RECEIVED", "HELD"]


BRIDGE = """
import os, signal
from bridge.dispatch import at_once, reading
real, survive = reading.understand_message, reading.survive

def deadly(message, *more):
    if b"PL-POISON" in message.raw:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(message, *more)

async def apart(claimed, payloads, settings):
    return not any(b"PL-POISON" in one.raw for one in claimed) and await survive(claimed, payloads, settings)

reading.survive = apart  # the real one is tried in test_f28_poison
reading.understand_message = at_once.understand_message = deadly
from bridge.cli import main
main()
"""
"""A bridge that one message ends, whoever reads it."""


@pytest.fixture
def deadly(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def test_f28_a_message_that_ends_its_reader_before_it_is_kept_comes_back_twice_and_no_more(
    house: OpenHouse, tmp_path: Path, deadly: list[subprocess.Popen[str]]
) -> None:
    """1: in nobody's custody, and noted. 2: sent again, kept first, read, and the end again. 3: held, and answered."""
    async with house() as it:
        await it.hl7(order("C0", "PL-0"))
        environment = {**os.environ, **it.environment}

        def start() -> House:
            command = [sys.executable, "-c", BRIDGE, "run", "--log-level", "error"]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            deadly.append(process)
            assert process.stdout is not None
            addresses: dict[str, str] = {}
            for said in process.stdout:
                name, _, rest = said.strip().partition(" ")
                addresses[name] = rest
                if name == "ready":
                    break
            return House(app.Running(it.up.store, addresses=addresses), it.sandbox, tmp_path)

        environment["BRIDGE_STORE__URL"] = f"sqlite:///{tmp_path}/other.db"
        environment["BRIDGE_STORE__PAYLOADS"] = f"{tmp_path}/other"
        kept: list[list[str]] = []
        for _ in range(2):
            up = await asyncio.to_thread(start)
            neighbour = await up.hl7(order(f"N{len(deadly)}", f"PL-N{len(deadly)}", patient="4712"))
            assert field_of(neighbour, "MSA", 1) == "AA"
            with pytest.raises((PeerError, OSError)):
                await up.hl7(order("C1", POISON))
            assert await asyncio.to_thread(deadly[-1].wait, 20) == -signal.SIGKILL
            with reader_engine(tmp_path / "other.db").connect() as conn:
                kept.append([row.state for row in rows(conn, control_id="C1")])
        assert kept == [[], ["RECEIVED"]]
        up = await asyncio.to_thread(start)
        assert field_of(await up.hl7(order("C1", POISON)), "MSA", 1) == "AA"
        assert field_of(await up.hl7(order("N9", "PL-N9", patient="4713")), "MSA", 3).startswith("task=")
        assert deadly[-1].poll() is None
        with reader_engine(tmp_path / "other.db").connect() as conn:
            assert states(rows(conn, control_id="C1")) == [("HELD", "poison")]


def test_f28_who_was_in_hand_is_remembered_over_several_ends(tmp_path: Path) -> None:
    path = tmp_path / "last-read"
    digests = [f"{n:064x}" for n in range(1, 100)]
    first = LastRead(path)
    assert not any(first.suspects(d) for d in digests)
    for digest in digests[:5]:
        first.note(Step.UNDERSTOOD, digest)
    first.note(Step.ENTERED, digests[3])
    second = LastRead(path)  # the first ended without a word
    assert [d for d in digests if second.suspects(d)] == [digests[3], digests[4]]
    second.note(Step.UNDERSTOOD, digests[7])
    third = LastRead(path)
    assert [d for d in digests if third.suspects(d)] == [digests[3], digests[4], digests[7]]
    third.note(Step.UNDERSTOOD, digests[8])
    third.close()
    third.note(Step.UNDERSTOOD, digests[9])  # goes nowhere, whatever file has its number by now
    fourth = LastRead(path)
    assert not fourth.suspects(digests[8])
    assert fourth.suspects(digests[3])
    for digest in digests[10:90]:
        fourth.note(Step.ENTERED, digest)
        fourth = LastRead(path)
    assert not fourth.suspects(digests[10])
    assert fourth.suspects(digests[89])
    assert path.stat().st_size == 64 * 32


# --- commits that fail, and whoever is cut off -----------------------------------------------------------------------


class Stuck:
    """A store whose writer stands still until it is let go."""

    def __init__(self, store: SqliteStore) -> None:
        self._go = threading.Event()
        self._stands = threading.Event()
        self._work = store.submit(self._wait)

    def _wait(self, _: Transaction) -> None:
        self._stands.set()
        self._go.wait(20)

    async def stands(self) -> None:
        await asyncio.to_thread(self._stands.wait, 10)

    async def let_go(self) -> None:
        self._go.set()
        await self._work


async def being_entered(delivering: Delivering) -> None:
    """Until a place is kept for an order on its way in."""
    async with asyncio.timeout(10):
        while not delivering._reserved:  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0)


async def test_whoever_is_cut_off_in_the_commit_loses_no_task_and_makes_no_doubt(
    house: OpenHouse, intakes: list[Hl7Intake], deliverings: list[Delivering]
) -> None:
    async with house() as it:
        await it.hl7(order("W1", "PL-W", patient="4799"))
        stuck = Stuck(it.up.store)
        await stuck.stands()
        taking = asyncio.create_task(intakes[0].accept(Envelope(order().encode(), "127.0.0.1")))
        await being_entered(deliverings[0])
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert deliverings[0]._reserved == 1  # a drain waits for it
        await stuck.let_go()
        found = await it.settled(2)
        assert states(found) == [("CREATED", ""), ("CREATED", "")]
        assert deliverings[0]._reserved == 0


async def test_f43_a_drain_waits_for_what_is_being_entered(
    house: OpenHouse, intakes: list[Hl7Intake], deliverings: list[Delivering]
) -> None:
    async with house() as it:
        await it.hl7(order("W1", "PL-W", patient="4799"))
        stuck = Stuck(it.up.store)
        await stuck.stands()
        taking = asyncio.create_task(intakes[0].accept(Envelope(order().encode(), "127.0.0.1")))
        await being_entered(deliverings[0])
        draining = asyncio.create_task(deliverings[0].drain(20))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not draining.done()
        await stuck.let_go()
        await draining
        assert [row.state for row in await it.messages()] == ["CREATED", "CREATED"]
        answer = (await taking).body
        assert answer is not None
        assert b"task=4712" in answer


class FailsOnce:
    """The next commit that keeps another message fails, with what is given; an alarm's or a session's does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.struck = False
        real = SqliteStore._end

        def end(store: SqliteStore, conn: Any, *told: Any) -> None:
            kept = conn.exec_driver_sql("SELECT count(*) FROM message").scalar()
            if not self.struck and kept > 1:
                self.struck = True
                raise error
            real(store, conn, *told)

        self._patch, self._end = monkeypatch, end

    def arm(self) -> None:
        """One message is kept by now."""
        self._patch.setattr(SqliteStore, "_end", self._end)


async def test_f24_a_commit_that_finds_no_room_keeps_nothing_and_starts_nothing(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, deliverings: list[Delivering]
) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    fails = FailsOnce(monkeypatch, full)
    async with house() as it:
        await it.hl7(order("W1", "PL-W", patient="4799"))
        fails.arm()
        assert field_of(await it.hl7(order()), "MSA", 1) == "AR"
        assert (fails.struck, deliverings[0]._reserved) == (True, 0)
        assert [row.control_id for row in await it.messages()] == ["W1"]
        assert len(it.sandbox.tasks) == 1
        assert field_of(await it.hl7(order()), "MSA", 3) == "task=4712"
        assert not it.up.failed.is_set()


async def test_a3_a_commit_that_says_nothing_is_answered_by_nothing_and_sends_nothing(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, deliverings: list[Delivering]
) -> None:
    fails = FailsOnce(monkeypatch, CommitUnknown("invented"))
    async with house() as it:
        await it.hl7(order("W1", "PL-W", patient="4799"))
        fails.arm()
        with pytest.raises(PeerError):
            await it.hl7(order())
        assert it.up.failed.is_set()
        assert (fails.struck, deliverings[0]._reserved) == (True, 0)
        assert len(it.sandbox.tasks) == 1
    async with house(sandbox=it.sandbox) as again:
        await again.hl7(order())
        assert len(again.sandbox.tasks) == 2


async def test_f9_the_same_order_on_many_sockets_is_one_row_and_one_task_and_leaves_no_place_taken(
    house: OpenHouse, deliverings: list[Delivering]
) -> None:
    async with house() as it:
        answers = await gather(*(it.hl7(order()) for _ in range(24)))
        assert {field_of(a, "MSA", 3) for a in answers} == {"task=4711"}
        assert len(await it.settled(1)) == 1
        assert deliverings[0]._reserved == 0


async def test_each_place_is_given_back_once(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, deliverings: list[Delivering]
) -> None:
    """Orders that are made, doubled, refused and held, more at a time than are sent at a time."""
    ended: list[Any] = []
    real = AtOnce.end

    def end(self: AtOnce, breath: Any, *, kept: bool) -> None:
        ended.append(breath)
        real(self, breath, kept=kept)

    monkeypatch.setattr(AtOnce, "end", end)
    async with house() as it:
        sent = [order(f"C{n}", f"PL-{n % 20}", patient=f"P{n % 7}") for n in range(40)]
        await gather(*(it.hl7(one) for one in sent))
        await it.settled(40)
        assert deliverings[0]._reserved == 0
        assert (len(ended), len({id(breath) for breath in ended})) == (40, 40)


async def test_reply_late_a_task_that_takes_too_long_is_answered_pending_and_its_id_given_to_the_resend(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go = CardioClient.create_tasks, asyncio.Event()

    async def slow(self: CardioClient, body: bytes) -> Outcome:
        await go.wait()
        return await real(self, body)

    monkeypatch.setattr(CardioClient, "create_tasks", slow)
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        assert field_of(await it.hl7(order()), "MSA", 3) == "accepted, task pending"
        go.set()
        await it.settled(1)
        assert field_of(await it.hl7(order()), "MSA", 3) == "task=4711"


async def test_f26_a_store_that_another_process_holds_is_answered_ar_and_nothing_is_left_behind(
    house: OpenHouse, intakes: list[Hl7Intake], deliverings: list[Delivering], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house() as it:
        await it.hl7(order("W1", "PL-W", patient="4799"))
        await it.up.store.write(lambda tx: tx.conn.connection.cursor().execute("PRAGMA busy_timeout=50"))
        with contextlib.closing(sqlite3.connect(it.folder / "bridge.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            answer: Answer = await intakes[0].accept(Envelope(order().encode(), "127.0.0.1"))
            assert answer.body is not None
            assert b"MSA|AR|C1" in answer.body
            assert deliverings[0]._reserved == 0
        assert field_of(await it.hl7(order()), "MSA", 3) == "task=4712"


async def test_the_file_of_who_was_in_hand_stands_beside_the_store_and_holds_digests_alone(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order())
        path = it.folder / "last-read"
        assert path.stat().st_mode & 0o777 == 0o600
        first, second = path.read_bytes()[:32], path.read_bytes()[32:64]
        with reader_engine(it.folder / "bridge.db").connect() as conn:
            (digest,) = conn.exec_driver_sql("SELECT digest FROM message").one()
        assert first.hex() == second.hex() == digest
    assert not any(path.read_bytes())
