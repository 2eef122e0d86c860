"""Retention beside a service: what is finished goes, what comes again is known, and nothing stands still meanwhile."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.domain.states import SETTLED
from bridge.formats.hl7.charset import readable
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.settings import RetentionSettings, load
from bridge.store import audit, going, listing, prune, quarantine
from bridge.store.engines import looking
from bridge.store.port import Transaction
from bridge.store.schema import event, message, task
from bridge.store.sqlite import writer_engine
from tests.acceptance.acting_house import command
from tests.acceptance.console_browser import browsing
from tests.acceptance.process import Sender, Service, api, await_work, settings
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.ports import free_port

__all__ = ["api"]
DAY = 86_400_000


def age(tx: Transaction, days: int = 400) -> None:
    """Everything that is there came so many days ago, and is watched no more."""
    earlier = days * DAY
    tx.conn.execute(message.update().values(received_at=message.c.received_at - earlier))
    tx.conn.execute(event.update().values(at=event.c.at - earlier))
    tx.conn.execute(
        task.update().values(
            intent_at=task.c.intent_at - earlier, settled_at=task.c.settled_at - earlier, watch_at=sa.null()
        )
    )


async def finished_pair(it: House, tmp_path: Path) -> None:
    """An order and its recording, each with its task, long ago."""
    assert "task=" in await it.hl7(order())
    assert await it.store(recording(tmp_path, accession="ACCPL-1")) == 0
    await it.until(lambda rows: len(rows) == 2 and all(r.state == "CREATED" for r in rows))
    await it.up.store.write(age)


def files(it: House) -> list[Path]:
    return list((it.folder / "payloads").glob("??/*.dcm"))


async def test_what_was_pruned_is_known_when_it_comes_again(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)
        said = await command(it, "db", "prune", "--dry-run")
        assert (said.status, "would be emptied: 2 messages" in said.out, len(files(it))) == (0, True, 1), said.out
        assert (await it.show("1"))["raw"] is not None
        said = await command(it, "db", "prune")
        assert (said.status, "emptied: 2 messages" in said.out, "1 files removed" in said.out) == (0, True, True)
        assert files(it) == []
        assert (await it.show("1"))["raw"] is (await it.show("2"))["payload"] is None
        tasks = len(it.sandbox.tasks)
        assert "MSA|AA|C1|task=4711" in await it.hl7(order())
        assert await it.store(recording(tmp_path, accession="ACCPL-1")) == 0
        assert "MSA|AE|C2|" in await it.hl7(order("C2")), "whose order it was is not known any more"
        other = await it.hl7(order("C3").replace("ORC|NW", "ORC|CA"))
        assert "ORC|UC|PL-1^HIS" in other
        assert "no such order is known here" in other
        await it.settled(4)
        assert len(it.sandbox.tasks) == tasks
        acts = await it.up.store.read(lambda conn: list(audit.acts(conn)))
        pruned = [act.detail for act in acts if act.action == "prune"]
        assert [sorted(one) for one in pruned] == [["upto"], ["files", "messages", "size"]]
        assert await it.up.store.read(audit.verify) is None


async def test_f29_another_object_of_a_pruned_uid_is_held(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)
        await command(it, "db", "prune")
        path = recording(tmp_path, accession="ACCPL-1")
        path.write_bytes(path.read_bytes().replace(b"Muster^Max", b"Muster^Mix"))
        assert await it.store(path) == 0
        rows = await it.settled(3)
        assert (rows[-1].state, rows[-1].reason) == ("HELD", "uid_conflict")


async def test_pages_and_commands_say_that_a_message_was_pruned(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it, browsing(it) as browser:
        await finished_pair(it, tmp_path)
        await command(it, "db", "prune")
        for number in ("1", "2"):
            for revealed in (False, True):
                if revealed:
                    await browser.done(f"/messages/{number}/reveal")
                page = await browser.page(f"/messages/{number}")
                assert "Pruned: what it said is kept no longer" in page
                assert "/ecg" not in page
                assert "Muster" not in page
            shown = await command(it, "messages", "show", number)
            assert (shown.status, "pruned" in shown.out, "Muster" in shown.out) == (0, True, False)
            assert (await command(it, "messages", "show", number, "--json")).json()["raw"] is None
            for act in (("release",), ("replay",), ("discard", "--reason", "r")):
                refused = await command(it, "messages", act[0], number, *act[1:])
                assert (refused.status, "is CREATED" in refused.out) == (1, True)
        for path in ("/", "/messages?q=4711", "/messages?q=C1", "/work", "/patients/1", "/orders/1", "/alarms"):
            await browser.page(path)
        found = await command(it, "messages", "list", "--task-id", "4711", "--json")
        assert [row["id"] for row in found.json()] == ["1"]
        assert (await command(it, "messages", "list", "--patient", "4711", "--json")).json() == []


async def test_a_merge_after_the_pruning_holds_for_what_comes_then(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)
        merge = (
            "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ADT^A40|M1|P|2.3.1\rEVN|A40|20260301120000\r"
            "PID|1||5000^^^TEST^MR||Muster^Max||19700131|M\rMRG|4711^^^TEST^MR\r"
        )
        await command(it, "db", "prune")
        assert "MSA|AA|M1" in await it.hl7(merge)
        await it.settled(3)
        await it.up.store.write(age)
        assert "emptied: 1 messages" in (await command(it, "db", "prune")).out
        assert "task=" in await it.hl7(order("C4", "PL-4", patient="5000"))
        assert await it.store(recording(tmp_path, seed="later", accession="ACCPL-4")) == 0  # under the old identifier
        rows = await it.settled(5)
        assert rows[-1].state == "CREATED"
        made = it.sandbox.tasks[int(rows[-1].task_ids[0])].request
        assert (made["patient_id"], f"draft={rows[-2].task_ids[0]}" in made["searching_tags"]) == ("5000", True)


async def test_f6_files_of_a_prune_that_was_cut_off_go_with_the_next(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)

        def emptied_only(tx: Transaction) -> int:
            edges = prune.upto(RetentionSettings(), SystemClock().now())
            done = prune.empty(tx, [1, 2], edges, at=SystemClock().now(), by="me", bare=bytes)
            going.add(tx, done.going)
            return len(done.going)

        assert await it.up.store.write(emptied_only) == 1
    async with house() as it:
        assert len(files(it)) == 1
        assert "1 files removed" in (await command(it, "db", "prune")).out
        assert (files(it), await it.up.store.read(going.left)) == ([], [])


async def test_the_store_in_hand_is_pruned_while_the_service_is_stopped(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)
    said = await command(it, "db", "prune")
    assert (said.status, "emptied: 2 messages" in said.out) == (0, True), said.out
    async with house() as it:
        assert it.up.quarantine == "", "the epoch file has heard of it"
        assert "task=4711" in await it.hl7(order())


async def test_the_room_is_given_back_while_the_service_is_stopped(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)
        await it.up.store.write(lambda tx: tx.conn.execute(message.update().values(raw=b"Zebrafink" * 100_000)))
        await command(it, "db", "prune")
        refused = await command(it, "db", "compact")
        assert (refused.status, "held by a running bridge" in refused.out) == (1, True)
    database = tmp_path / "bridge.db"
    assert b"Zebrafink" not in database.read_bytes(), "zeros were written over it"
    before = database.stat().st_size
    said = await command(it, "db", "compact")
    assert (said.status, database.stat().st_size < before / 2) == (0, True), said.out
    async with house() as it:
        assert it.up.quarantine == ""
        assert "task=4711" in await it.hl7(order())


async def test_f41_nothing_is_pruned_in_quarantine(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await finished_pair(it, tmp_path)
        await it.up.store.write(lambda tx: quarantine.begin(tx.conn, "it was restored"))
        said = await command(it, "db", "prune")
        assert (said.status, "in quarantine" in said.out) == (1, True)
        assert (await it.show("1"))["raw"] is not None


@pytest.mark.parametrize("beside", [True, False])
async def test_the_same_command_prunes_on_postgresql(
    house: OpenHouse, tmp_path: Path, database: sa.URL, *, beside: bool
) -> None:
    """Asked of a service of this host, or as one more process beside those of others."""
    (tmp_path / "site.key").write_text("ab" * 32)
    here = {
        "BRIDGE_STORE__URL": database.render_as_string(hide_password=False),
        "BRIDGE_STORE__FOLDER": f"{tmp_path}/host",
        "BRIDGE_SITE__KEY_FILE": f"{tmp_path}/site.key",
    }
    async with house(**here) as it:
        await finished_pair(it, tmp_path)
        elsewhere = {} if beside else {"BRIDGE_STORE__FOLDER": f"{tmp_path}/other"}
        it.environment.update(elsewhere)
        assert "would be emptied: 2 messages" in (await command(it, "db", "prune", "--dry-run")).out
        said = await command(it, "db", "prune")
        assert (said.status, "emptied: 2 messages" in said.out, "1 files removed" in said.out) == (0, True, True), said
        assert files(it) == []
        tasks = len(it.sandbox.tasks)
        assert "MSA|AA|C1|task=4711" in await it.hl7(order())
        assert await it.store(recording(tmp_path, accession="ACCPL-1")) == 0
        await it.settled(2)
        assert len(it.sandbox.tasks) == tasks
        assert await it.up.store.read(audit.verify) is None
        said = await command(it, "db", "prune")
        assert (said.status, "emptied: 0 messages" in said.out) == (0, True)


# --- under load ---------------------------------------------------------------------------------------------

_NUMBERED = {"message": "identity", "task": "key", "clinical_order": "number", "number": "value"}
"""What must be alone in each table."""


def fill(environment: dict[str, str], many: int) -> int:
    """Copies of what is there, long ago: with their histories, tasks, orders and words, as the bridge wrote them."""
    engine = writer_engine(load(None, environment).store.sqlite_path)
    with engine.begin() as conn:
        age(Transaction(conn))
        rows = int(conn.execute(sa.select(sa.func.max(message.c.id))).scalar_one())
        copies = many // rows
        for copy in range(1, copies + 1):
            step = copy * rows
            for table in ("message", "clinical_order", "event", "task", "term", "number"):
                has_id = table in {"message", "clinical_order"}
                value = {
                    "id": f"id + {step}" if has_id else "NULL",
                    "message_id": f"message_id + {step}",
                    "order_id": f"order_id + {step}",
                    "sop_instance_uid": f"iif(sop_instance_uid = '', '', sop_instance_uid || '.{copy}')",
                    "payload": "NULL",
                    _NUMBERED.get(table, ""): f"{_NUMBERED.get(table)} || '-{copy}'",
                }
                names = [row[1] for row in conn.execute(sa.text(f"PRAGMA table_info({table})"))]
                said = ", ".join(value.get(name, name) for name in names)
                own = "id" if table == "message" else "message_id"
                conn.execute(sa.text(f"INSERT INTO {table} SELECT {said} FROM {table} WHERE {own} <= {rows}"))
    engine.dispose()
    return (copies + 1) * rows


def emptied(environment: dict[str, str]) -> int:
    """How many messages are."""
    with looking(load(None, environment).store) as conn:
        return int(conn.execute(sa.select(sa.func.count()).where(event.c.reason == prune.REASON)).scalar_one())


def begin_prune(environment: dict[str, str]) -> subprocess.Popen[str]:
    """`bridge db prune` as a process of its own."""
    words = [sys.executable, "-c", "from bridge.cli import main; main()", "db", "prune"]
    return subprocess.Popen(
        words, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def old_pair(environment: dict[str, str], port: int, dicom: int, tmp_path: Path) -> None:
    """An order and its recording, sent to a service that is up, and their tasks."""

    async def send() -> None:
        assert "task=" in readable(await mllp_sender.send("127.0.0.1", port, order().encode()))
        dicom_sender.store("127.0.0.1", dicom, [recording(tmp_path, accession="ACCPL-1")])

    asyncio.run(send())
    until = time.monotonic() + 60
    with looking(load(None, environment).store) as conn:
        while [row.state for row in listing.rows(conn)] != ["CREATED", "CREATED"]:
            assert time.monotonic() < until
            conn.rollback()
            time.sleep(0.05)


@pytest.mark.timeout(300)
def test_killed_amid_a_prune_beside_traffic_nothing_is_lost_and_the_next_one_ends_it(
    tmp_path: Path, api: tuple[str, Path]
) -> None:
    address, journal = api
    port, dicom = free_port(), free_port()
    environment = settings(
        tmp_path, address, BRIDGE_HL7__LISTEN=f"127.0.0.1:{port}", BRIDGE_DICOM__LISTEN=f"127.0.0.1:{dicom}"
    )
    service = Service(environment, tmp_path / "service.log")
    service.start()
    old_pair(environment, port, dicom, tmp_path)
    service.end(signal.SIGTERM)
    many = fill(environment, 1500)
    service.start()
    stop = threading.Event()
    senders = [Sender(n, port, stop) for n in range(2)]
    for sender in senders:
        sender.start()
    await_work(senders)
    first = begin_prune(environment)
    while not emptied(environment):
        time.sleep(0.01)
    service.end(signal.SIGKILL)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 1, said
    assert 0 < emptied(environment) < many, "it was in the midst of it"
    service.start()
    second = begin_prune(environment)
    said, _ = second.communicate(timeout=200)
    assert second.returncode == 0, said
    await_work(senders)
    stop.set()
    for sender in senders:
        sender.join(30)
    acknowledged = [name for sender in senders for name in sender.acknowledged]
    until = time.monotonic() + 60
    with looking(load(None, environment).store) as conn:
        while True:
            rows = {row.order: row for row in listing.rows(conn, limit=100_000) if row.order}
            if all(row.state in SETTLED for row in rows.values()) or time.monotonic() > until:
                break
            conn.rollback()
            time.sleep(0.05)
    service.end(signal.SIGTERM)
    assert emptied(environment) == many
    assert not [sender.refused for sender in senders if sender.refused]
    assert not [n for n in acknowledged if n not in rows or (rows[n].state != "IN_DOUBT" and not rows[n].task_ids)]
    made = [json.loads(line)["request"].get("investigation_id", "") for line in journal.read_text().splitlines()]
    again = {number for number in made if made.count(number) > 1}
    assert again <= {"ACCPL-1"}, "a draft and its recording alone share a number"
    with looking(load(None, environment).store) as conn:
        assert audit.verify(conn) is None
        assert going.left(conn) == []
    assert not list((tmp_path / "payloads").glob("??/*.dcm"))
