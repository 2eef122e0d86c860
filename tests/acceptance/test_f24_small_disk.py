"""F24: a small file system is filled to the brim and freed again, without a person."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.sandbox.cardio_api import Sandbox
from bridge.sandbox.peer import PeerError
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.protocol.test_dicom_peers import run

MEGABYTE = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB. Needs the right to mount; under CI=true that is asked for."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = run("mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", folder)
    if mounted.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"a file system cannot be mounted here: {mounted.stderr}")
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


def fill(folder: Path, leave: int) -> Path:
    """Take the room, but for so many bytes."""
    ballast = folder / f"filled-{leave}"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with ballast.open("wb") as file:
        file.write(bytes(max(free - leave, 0)))
    return ballast


async def outcome(it: House, path: Path) -> str:
    """What a cart is told: a status, or that it may not come in now."""
    try:
        return f"{await it.store(path):04X}"
    except PeerError as problem:
        return "refused" if "Local limit exceeded" in str(problem) else str(problem)


async def insist(it: House, path: Path) -> str:
    """A cart sends again until it is told that its object is kept: the look at the disk holds for a moment."""
    async with asyncio.timeout(20):
        while (told := await outcome(it, path)) != "0000":  # noqa: ASYNC110  it is no event of ours
            await asyncio.sleep(0.05)
    return told


@pytest.mark.timeout(180)
async def test_f24_a_full_disk_is_said_and_work_goes_on_when_there_is_room_again(
    house: OpenHouse, tmp_path: Path, small: Path
) -> None:
    paths = [recording(tmp_path, seed=f"n{n}") for n in range(6)]
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    places = {
        "BRIDGE_STORE__URL": f"sqlite:///{small}/bridge.db",
        "BRIDGE_STORE__PAYLOADS": f"{small}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
    }
    async with house(api, **places) as it:
        assert await outcome(it, paths[0]) == "0000"
        await it.settled(1)
        ballast = fill(small, leave=MEGABYTE + 300_000)  # above the watermark, and not for long
        told = [await outcome(it, path) for path in paths[1:]]
        assert told[0] == "0000"
        assert set(told[1:]) <= {"0000", "A700", "refused"}
        async with asyncio.timeout(20):  # the look at the disk holds for a moment, and a fast one takes all five in it
            while await outcome(it, paths[1]) == "0000":  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.05)
        taken = told.count("0000")
        await it.until(lambda rows: len(rows) == 1 + taken)
        last = fill(small, leave=0)  # now not a byte is left
        assert {await outcome(it, path) for path in paths} <= {"A700", "refused"}
        assert "MSA|AR|" in await it.hl7(order("C9", "PL-9"))
        assert len(await it.messages()) == 1 + taken, "the rows are there"
        ballast.unlink()
        last.unlink()
        assert [await insist(it, path) for path in paths] == ["0000"] * len(paths)
        assert "MSA|AA|" in await it.hl7(order("C9", "PL-9"))
        rows = await it.settled(len(paths) + 1, seconds=60)
        assert {row.state for row in rows} == {"CREATED"}
        assert len(it.sandbox.tasks) == len(paths) + 1
    assert list((small / "payloads" / "spool").iterdir()) == []


@pytest.mark.timeout(60)
async def test_f24_a_disk_that_is_full_inside_an_object_is_a700_and_the_room_is_given_back(
    house: OpenHouse, tmp_path: Path, small: Path
) -> None:
    """The object is larger than what is left: the watermark was kept when its association began."""
    path = recording(tmp_path)
    places = {"BRIDGE_STORE__PAYLOADS": f"{small}/payloads", "BRIDGE_STORE__MIN_FREE": "1"}
    async with house(**places) as it:
        ballast = fill(small, leave=64 * 1024)
        assert await outcome(it, path) == "A700"
        assert os.statvfs(small).f_bavail > 0, "what came of it is gone again"
        assert await it.messages() == []
        ballast.unlink()
        assert await insist(it, path) == "0000"
        assert [row.state for row in await it.settled(1)] == ["CREATED"]
