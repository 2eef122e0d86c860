"""F26: another process holds the database. Senders are told in time, or nothing; never an exception's text.

`BRIDGE_HELD=30 make test ARGS="tests/acceptance/test_f26_held_store.py"` holds it for 30 s; without, until some senders
were answered.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from bridge.sandbox.peer import PeerError
from tests.acceptance.scene import House, OpenHouse, answers_held_back, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f24_small_disk import outcome

HELD = float(os.environ.get("BRIDGE_HELD", "0"))
_HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
held.execute("ROLLBACK")
held.close()
"""


async def answer(it: House, number: int) -> str:
    """What a sender is told of an order; empty where the connection was closed without a word."""
    try:
        return await it.hl7(order(f"C{number}", f"PL-{number}", patient=f"P{number}"))
    except PeerError:
        return ""


@pytest.mark.timeout(240)
async def test_f26_a_store_that_another_process_holds_is_ar_or_silence_in_time_and_work_goes_on(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = answers_held_back(monkeypatch)
    path = recording(tmp_path)
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.5") as it:
        assert "task pending" in await answer(it, 0)
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _HOLD, str(tmp_path / "bridge.db"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"held\n"
        go.set()  # what the POST came to cannot be written now
        began, told, carts = time.monotonic(), [], []
        while len(told) < 6 or time.monotonic() - began < HELD:
            both = await asyncio.gather(answer(it, 1), answer(it, 2), outcome(it, path))
            told += both[:2]
            carts.append(both[2])
        assert all("MSA|AR|" in one or not one for one in told), told
        assert any("MSA|AR|" in one for one in told), "it is said where it can be said"
        assert not [one for one in told if "Error" in one or "locked" in one or "sqlite" in one.lower()]
        assert not [one for one in carts if one == "0000"]
        assert [row.state for row in await it.messages()] == ["INTENT"], "it reads on, and nothing half is there"
        await holder.communicate(b"go on\n")
        await it.until(lambda rows: rows[0].state == "CREATED")
        for number in (1, 2):
            while "MSA|AA|" not in await answer(it, number):  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.05)
        while await outcome(it, path) != "0000":  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.05)
        rows = await it.settled(4)
        assert {row.state for row in rows} == {"CREATED"}
        assert len(it.sandbox.tasks) == 4
        assert not it.up.failed.is_set()
