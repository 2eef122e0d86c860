"""F24: what a disk, a quota or a limit without room does to the store, and what the ballast is for."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.domain.states import State
from bridge.errors import StoreFull
from bridge.store import inbox, listing
from bridge.store.ballast import Ballast, is_full
from bridge.store.payloads import Payloads
from bridge.store.sqlite import SqliteStore
from tests.acceptance.test_f24_small_disk import fill, small
from tests.protocol.test_dicom_peers import run

__all__ = ["small"]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIB = 1 << 20


def arrival(number: int, size: int = 2000) -> inbox.Arrival:
    own = f"m{number}"
    return inbox.Arrival("hl7", "ADT^A01", NOW, "hl7", "127.0.0.1", "HIS|TEST", own, own, raw=bytes(size))


async def keep(store: SqliteStore, number: int, size: int = 2000) -> int:
    return (await store.write(lambda tx: inbox.keep(tx, arrival(number, size)))).id


async def until_full(store: SqliteStore) -> int:
    """Keep messages until there is no room for one; how many there was room for."""
    for number in range(1, 10_000):
        try:
            await keep(store, number)
        except StoreFull:
            return number - 1
    pytest.fail("the disk was never full")


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_f24_the_ballast_is_of_real_blocks_and_is_made_where_there_is_room_for_it(small: Path) -> None:
    ballast = Ballast(small / "ballast", 4 * MIB)
    before = free(small)
    assert ballast.missing == 4 * MIB
    assert ballast.make(MIB)
    assert before - free(small) >= 4 * MIB, "a sparse file would take nothing, and free nothing"
    assert ballast.missing == 0
    assert ballast.make(MIB), "it stands"
    assert ballast.give()
    assert not ballast.give(), "it is gone"
    filled = fill(small, leave=4 * MIB + 100_000)
    assert not ballast.make(MIB), "what must be left free beside it is not there"
    assert ballast.missing == 4 * MIB
    filled.unlink()
    assert ballast.make(MIB)
    assert Ballast(small / "none", 0).make(0)
    assert not (small / "none").exists()


def test_f24_a_ballast_that_is_cut_short_is_made_whole(small: Path) -> None:
    ballast = Ballast(small / "ballast", 4 * MIB)
    ballast.path.write_bytes(bytes(MIB))
    assert ballast.missing == 3 * MIB
    assert ballast.make(0)
    os.truncate(ballast.path, 0)
    os.truncate(ballast.path, 4 * MIB)
    assert ballast.missing == 4 * MIB, "it is sparse"
    assert ballast.make(0)
    assert ballast.missing == 0


def test_f24_what_the_ballast_lacks_is_no_room_for_new_work(small: Path) -> None:
    ballast = Ballast(small / "ballast", 4 * MIB)
    payloads = Payloads(small / "payloads", min_free=MIB, ballast=ballast)
    payloads.open()
    ballast.make(MIB)
    before = payloads.free()
    ballast.give()
    assert abs(payloads.free() - before) < 64 * 1024
    fill(small, leave=3 * MIB)
    assert payloads.free() < 0, "there are 3 MiB, which belong to the work in hand"


async def test_f24_on_a_full_disk_states_can_be_written_once_the_ballast_is_given(small: Path) -> None:
    ballast = Ballast(small / "ballast", 2 * MIB)
    assert ballast.make(0)
    store = SqliteStore(small / "bridge.db")
    store.on_full = ballast.give
    store.open(asyncio.get_running_loop())
    first = await keep(store, 0)
    fill(small, leave=MIB)
    kept = 1 + await until_full(store)
    assert not ballast.path.exists()
    assert await store.write(lambda tx: inbox.move(tx, first, State.RECEIVED, State.HELD, at=NOW))
    rows = await store.read(lambda conn: listing.rows(conn, limit=10_000))
    assert len(rows) == kept
    assert rows[-1].state == "HELD"
    store.close()
    again = SqliteStore(small / "bridge.db")
    again.open(asyncio.get_running_loop())
    assert len(await again.read(lambda conn: listing.rows(conn, limit=10_000))) == kept
    assert again.quarantine == ""
    again.close()


async def test_f24_without_a_ballast_not_even_a_state_can_be_written(small: Path) -> None:
    """Why it is there: the failure table's own measurement, seen here."""
    store = SqliteStore(small / "bridge.db")
    store.open(asyncio.get_running_loop())
    first = await keep(store, 0)
    fill(small, leave=0)
    await until_full(store)
    with pytest.raises(StoreFull):
        await store.write(lambda tx: inbox.move(tx, first, State.RECEIVED, State.HELD, at=NOW))
    store.close()


_LIMITED = """
import asyncio, json, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from bridge.errors import StoreFull
from bridge.store.sqlite import SqliteStore
from tests.contract.test_store_full import keep

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    fatal = []
    store.on_fatal = lambda: fatal.append(1)
    store.open(asyncio.get_running_loop())
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    kept, full = 0, 0
    for number in range(400):
        try:
            await keep(store, number)
            kept += 1
        except StoreFull:
            full += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after = 0
    for number in range(1000, 1020):
        await keep(store, number)
        after += 1
    print(json.dumps({"kept": kept, "full": full, "after": after, "fatal": len(fatal)}))
    store.close()

asyncio.run(main())
"""


def test_f24_a_limit_on_file_sizes_is_no_room_and_no_fault_of_the_disk(tmp_path: Path) -> None:
    """SQLite calls it an I/O error. The service goes on, and takes up again by itself when the limit is gone."""
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "bridge.db")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["full"] > 0
    assert told["kept"] > 0
    assert (told["after"], told["fatal"]) == (20, 0)
    left = sqlite3.connect(tmp_path / "bridge.db")
    assert left.execute("SELECT count(*) FROM message").fetchone() == (told["kept"] + 20,)
    assert left.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    left.close()


def test_f24_a_disk_with_room_is_not_called_full(tmp_path: Path, small: Path) -> None:
    assert not is_full(tmp_path / "bridge.db", 10 * MIB)
    fill(small, leave=0)
    assert is_full(small / "bridge.db", 0)
    assert list(small.glob(".bridge.db-*")) == []


def test_f24_a_file_system_without_inodes_is_no_room(small: Path) -> None:
    assert run("mount", "-o", "remount,nr_inodes=400", small).returncode == 0
    payloads = Payloads(small / "payloads", min_free=0)
    payloads.open()
    for number in range(400):
        try:
            (small / f"taken{number}").touch()
        except OSError:
            break
    with pytest.raises(StoreFull):
        payloads.incoming()
    (small / "taken0").unlink()
    payloads.incoming().close()
