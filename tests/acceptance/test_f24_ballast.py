"""F24: the disk fills up while a POST is on its way. What it came to is written down, and nothing new is taken."""

import asyncio
from pathlib import Path

import pytest

from bridge.errors import StoreFull
from bridge.store import marks
from tests.acceptance.scene import House, OpenHouse, answers_held_back, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f24_small_disk import fill, insist, outcome, small

__all__ = ["small"]


async def brim_over(it: House) -> None:
    """Write to the store until there is no room for it: its log may have some to spare."""
    for number in range(2000):
        try:
            await it.up.store.write(lambda tx, n=number: marks.put(tx.conn, f"x{n}", "x" * 20_000))  # type: ignore[misc]
        except StoreFull:
            return
    pytest.fail("the disk was never full")


@pytest.mark.timeout(180)
async def test_f24_what_a_post_came_to_is_written_on_a_full_disk(
    house: OpenHouse, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = answers_held_back(monkeypatch)
    places = {
        "BRIDGE_STORE__URL": f"sqlite:///{small}/bridge.db",
        "BRIDGE_STORE__PAYLOADS": f"{small}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
        "BRIDGE_STORE__BALLAST": "2 MiB",
        "BRIDGE_HL7__REPLY_BUDGET": "0.1",
    }
    ballast = small / "bridge.ballast"
    async with house(**places) as it:
        assert ballast.stat().st_blocks * 512 >= 2 << 20
        assert "task pending" in await it.hl7(order())
        await it.until(lambda rows: rows[0].state == "INTENT")
        filled = fill(small, leave=0)
        await brim_over(it)
        assert not ballast.exists(), "its room belongs to the work in hand"
        go.set()
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert "MSA|AR|" in await it.hl7(order("C2", "PL-2", patient="4712"))
        path = recording(tmp_path)
        assert await outcome(it, path) in {"A700", "refused"}
        filled.unlink()
        await insist(it, path)
        async with asyncio.timeout(60):
            while not ballast.exists():  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.05)
        assert "MSA|AA|" in await it.hl7(order("C2", "PL-2", patient="4712"))
        rows = await it.settled(3, seconds=60)
        assert {row.state for row in rows} == {"CREATED"}
        assert len(it.sandbox.tasks) == 3


async def test_f24_a_service_that_starts_on_a_full_disk_takes_nothing_and_goes_on_by_itself(
    house: OpenHouse, small: Path
) -> None:
    """The ballast cannot be made then: what was given up is asked for in free room instead."""
    places = {
        "BRIDGE_STORE__PAYLOADS": f"{small}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
        "BRIDGE_STORE__URL": f"sqlite:///{small}/bridge.db",
        "BRIDGE_STORE__BALLAST": "4 MiB",
    }
    async with house(**places) as it:
        assert "MSA|AA|" in await it.hl7(order())
    (small / "bridge.ballast").unlink()
    filled = fill(small, leave=3 << 20)
    async with house(**places) as it:
        assert "MSA|AR|" in await it.hl7(order("C2", "PL-2"))
        filled.unlink()
        async with asyncio.timeout(30):
            while "MSA|AA|" not in await it.hl7(order("C2", "PL-2")):  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.05)
