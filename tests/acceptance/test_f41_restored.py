"""F41: a database that was put back takes custody and sends nothing until a person says that it may."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.sandbox.cardio_api import Sandbox
from bridge.store.backup import copy
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f24_small_disk import fill, small

__all__ = ["small"]


def api() -> Sandbox:
    return Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)


async def send(it: House, number: int) -> str:
    return await it.hl7(order(f"C{number}", f"PL-{number}", patient=f"P{number}"))


def put_back(folder: Path, backup: Path) -> None:
    """What an operator does: the copy in the database's place, without the log of the other one."""
    for name in ("bridge.db", "bridge.db-wal", "bridge.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(backup, folder / "bridge.db")


async def bridge(it: House, *words: str) -> tuple[int, str]:
    """A command with the house's settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from bridge.cli import main; main()", *words, env=it.environment | {"PATH": ""},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=it.folder,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def posts(sandbox: Sandbox) -> int:
    return sum(entry["method"] == "POST" for entry in sandbox.journal)


@pytest.mark.timeout(240)
async def test_f41_a_copy_that_is_put_back_sends_nothing_until_it_is_released(house: OpenHouse, tmp_path: Path) -> None:
    sandbox = api()
    async with house(sandbox) as it:
        await send(it, 1)
        sandbox.faults.add("429", on="tasks", retry_after="1")
        assert "task pending" in await send(it, 2)
        status, said = await bridge(it, "db", "backup", f"{tmp_path}/copy.db")  # beside the running service
        assert (status, "whole" in said) == (0, True)
        assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
        status, said = await bridge(it, "db", "backup", f"{tmp_path}/copy.db")
        assert (status, "is there already" in said) == (1, True)
        sandbox.faults.clear()
    async with house(sandbox) as it:  # the start tries again, and a recording comes in as well
        await it.store(recording(tmp_path))
        await send(it, 3)
        await it.until(lambda rows: len(rows) == 4 and sum(r.state == "CREATED" for r in rows) >= 3)
    before = len(sandbox.tasks), posts(sandbox)
    put_back(tmp_path, tmp_path / "copy.db")
    for _ in range(2):  # a restart changes nothing
        async with house(sandbox, BRIDGE_HL7__REPLY_BUDGET="60") as it:  # for which nobody waits: nothing is sent
            assert it.up.quarantine == "it is older than its epoch file"
            rows = {r.control_id: (r.state, r.reason) for r in await it.messages()}
            assert rows["C1"] == ("CREATED", "")
            assert rows["C2"] == ("HELD", "quarantine"), "its POST may have happened since"
            assert "MSA|AA|" in await send(it, 4)  # custody goes on
            assert await it.store(recording(tmp_path, seed="later")) == 0
            await it.until(lambda rows: sum(r.state == "READY" for r in rows) == 2)
            status, said = await bridge(it, "check")
            assert (status, "quarantine" in said, "bridge db release" in said) == (1, True, True)
            status, said = await bridge(it, "db", "release", "--waiting", "send", "--reason", "it is the newest copy")
            assert (status, "held by another running bridge" in said) == (1, True)
        assert (len(sandbox.tasks), posts(sandbox)) == before
    status, said = await bridge(it, "db", "release", "--waiting", "send", "--reason", "it is the newest copy")
    assert (status, "released; 2 messages that came in meanwhile are sent" in said) == (0, True)
    audit = sqlite3.connect(tmp_path / "bridge.db").execute("SELECT action, detail FROM audit").fetchall()
    assert [action for action, _ in audit] == ["release_quarantine"]
    assert "it is the newest copy" in audit[0][1]
    async with house(sandbox) as it:
        assert it.up.quarantine == ""
        await it.until(lambda rows: sum(r.state == "CREATED" for r in rows) == 3)
        assert "task=" in await send(it, 5)
        found = {r.control_id: r.state for r in await it.messages() if r.control_id}
        assert found == {"C1": "CREATED", "C2": "HELD", "C4": "CREATED", "C5": "CREATED"}
    assert len(sandbox.tasks) == before[0] + 3
    orders = [t.request["investigation_id"] for t in sandbox.tasks.values() if "investigation_id" in t.request]
    assert len(orders) == len(set(orders)), "no order has a second task"


async def test_f41_what_came_in_meanwhile_can_be_held_as_well(house: OpenHouse, tmp_path: Path) -> None:
    """Senders were asked to repeat what the copy does not know; what of it has a task already is not known either."""
    sandbox = api()
    async with house(sandbox) as it:
        await send(it, 1)
        await asyncio.to_thread(copy, tmp_path / "bridge.db", tmp_path / "copy.db")
        await send(it, 2)
    put_back(tmp_path, tmp_path / "copy.db")
    async with house(sandbox) as it:
        assert "MSA|AA|" in await send(it, 2)
    status, _ = await bridge(it, "db", "release", "--waiting", "hold", "--reason", "looked at each")
    assert status == 0
    async with house(sandbox) as it:
        await send(it, 3)
        rows = {r.control_id: (r.state, r.reason) for r in await it.messages()}
        assert rows["C2"] == ("HELD", "quarantine")
        assert rows["C3"][0] == "CREATED"
    assert len(sandbox.tasks) == 3


async def test_f41_nothing_is_released_that_is_in_no_quarantine(house: OpenHouse) -> None:
    async with house() as it:
        await send(it, 1)
    status, said = await bridge(it, "db", "release", "--waiting", "send", "--reason", "none")
    assert (status, "is not in quarantine" in said) == (1, True)


async def test_f41_a_backup_without_room_leaves_nothing(house: OpenHouse, small: Path) -> None:
    async with house() as it:
        for number in range(5):
            await send(it, number)
        fill(small, leave=20_000)
        status, said = await bridge(it, "db", "backup", f"{small}/copy.db")
        assert status == 1
        assert "full" in said or "No space" in said
        assert not [name for name in os.listdir(small) if "copy" in name]  # noqa: PTH208  a look, and no path is needed


def damage(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[4096 * 2 : 4096 * 3] = bytes(4096)
    database.write_bytes(content)


async def test_f27_a_service_does_not_listen_on_a_damaged_database(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await send(it, 1)
    damage(tmp_path / "bridge.db")
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "from bridge.cli import main; main()", "run"],
        env=it.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stdout == "", "no address was taken"
    assert f"{tmp_path}/bridge.db is damaged" in ran.stderr
    assert "bridge db backup" in ran.stderr
    status, said = await bridge(it, "check")
    assert (status, "is damaged" in said) == (1, True)
