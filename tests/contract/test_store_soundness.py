"""F27: a database that is damaged, another program's, or missing is not worked on, and the text says the way out."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.errors import StoreRefused
from bridge.store import inbox, inspection, soundness
from bridge.store.inbox import Arrival
from bridge.store.payloads import Payloads
from bridge.store.sqlite import SqliteStore
from bridge.store_settings import StoreSettings
from tests.acceptance.test_f24_small_disk import small
from tests.protocol.test_dicom_peers import run

__all__ = ["small"]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def arrival(number: int) -> Arrival:
    body = b"MSH|" + bytes([65 + number % 26]) * 3000
    return Arrival("hl7", "ADT^A01", NOW, "hl7", "127.0.0.1", "HIS|TEST", f"id{number}", f"d{number}", raw=body)


async def filled(folder: Path, count: int = 40) -> Path:
    """A store with some messages, ended in good order."""
    store = SqliteStore(folder / "bridge.db")
    store.open(asyncio.get_running_loop())
    for number in range(count):
        await store.write(lambda tx, n=number: inbox.keep(tx, arrival(n)))  # type: ignore[misc]
    store.close()
    return store.path


def opened(path: Path) -> str:
    """Why the store is in quarantine. Raises StoreRefused."""
    store = SqliteStore(path)
    store.open(asyncio.get_running_loop())
    store.close()
    return store.quarantine


async def killed(folder: Path) -> Path:
    """What a process leaves that ends at once: the database, its log, and the epoch file."""
    store = SqliteStore(folder / "alive" / "bridge.db")
    store.open(asyncio.get_running_loop())
    for number in range(40):
        await store.write(lambda tx, n=number: inbox.keep(tx, arrival(n)))  # type: ignore[misc]
    (folder / "dead").mkdir()
    for name in ("bridge.db", "bridge.db-wal", "bridge.epoch"):
        shutil.copy(folder / "alive" / name, folder / "dead" / name)
    store.close()
    return folder / "dead" / "bridge.db"


def flip(path: Path, at: int, count: int = 64) -> None:
    content = bytearray(path.read_bytes())
    for place in range(at, at + count):
        content[place] ^= 0xFF
    path.write_bytes(content)


async def test_f27_a_page_that_is_damaged_is_found_before_anything_is_taken_in(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    pages = path.stat().st_size // 4096
    refused: list[str] = []
    for page in range(pages):
        whole = path.read_bytes()
        flip(path, page * 4096, 16)
        try:
            opened(path)
        except StoreRefused as problem:
            refused.append(str(problem))
        path.write_bytes(whole)
    assert len(refused) > pages * 0.9  # what lies on a page that nothing uses is seen by nobody
    assert all(str(path) in text and "bridge db backup" in text and "-wal" in text for text in refused)


@pytest.mark.parametrize("cut", [512, 4096, 9000, 0.5])
async def test_f27_a_database_that_was_cut_off_is_refused(tmp_path: Path, cut: float) -> None:
    path = await filled(tmp_path)
    with path.open("r+b") as file:
        file.truncate(int(cut) or path.stat().st_size // 2)
    with pytest.raises(StoreRefused, match=r"bridge\.db is damaged|cannot be used as a store"):
        opened(path)


async def test_f27_what_is_refused_stays_as_it_is(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    flip(path, 4096 * 3, 2000)
    before = path.read_bytes()
    with pytest.raises(StoreRefused):
        opened(path)
    assert path.read_bytes() == before


async def test_f27_a_whole_log_is_no_reason_for_quarantine(tmp_path: Path) -> None:
    assert opened(await killed(tmp_path)) == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda wal: wal.unlink(),
        lambda wal: flip(wal, 4, 8),
        lambda wal: flip(wal, wal.stat().st_size // 2),
        lambda wal: flip(wal, wal.stat().st_size - 4000),
        lambda wal: wal.write_bytes(wal.read_bytes()[:-5000]),
    ],
    ids=["gone", "its-head", "its-midst", "its-end", "cut-off"],
)
async def test_f27_a_log_that_lost_commits_is_noticed(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """SQLite itself opens such a database without a word, as it was some commits ago."""
    path = await killed(tmp_path)
    damage(path.with_name("bridge.db-wal"))
    if not sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        with pytest.raises(StoreRefused, match="the database is missing"):  # every table was in the log alone
            opened(path)
    else:
        assert opened(path) == "it is older than its epoch file"


async def test_f27_the_tables_of_another_program_are_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "bridge.db")
    other.execute("CREATE TABLE message (id INTEGER PRIMARY KEY)")
    other.commit()
    other.close()
    with pytest.raises(StoreRefused, match="tables of another program"):
        opened(tmp_path / "bridge.db")
    assert sqlite3.connect(tmp_path / "bridge.db").execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


@pytest.mark.parametrize("change", ["DROP TABLE task", "ALTER TABLE message DROP COLUMN size"])
async def test_f27_a_schema_that_only_says_it_is_ours_is_refused(tmp_path: Path, change: str) -> None:
    path = await filled(tmp_path, 1)
    other = sqlite3.connect(path)
    other.execute(change)
    other.commit()
    other.close()
    with pytest.raises(StoreRefused, match=r"not its schema: (task\.id|message\.size) is missing"):
        opened(path)


async def test_f27_a_read_only_file_system_is_said(small: Path) -> None:
    await filled(small, 1)
    assert run("mount", "-o", "remount,ro", small).returncode == 0
    with pytest.raises(StoreRefused, match=r"bridge\.db cannot be written: Read-only file system"):
        opened(small / "bridge.db")


async def test_f27_a_file_that_is_not_ours_to_write_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await filled(tmp_path, 1)
    real = os.open

    def refusing(name: object, *rest: int) -> int:
        if name == path:
            raise PermissionError(13, "Permission denied")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("bridge.store.sqlite.os.open", refusing)
    with pytest.raises(StoreRefused, match=r"bridge\.db cannot be written: Permission denied.*belong to the user"):
        opened(path)
    monkeypatch.undo()
    assert opened(path) == "", "the lock was let go of"


async def test_f27_a_check_that_takes_too_long_is_cut_short_and_says_so(tmp_path: Path) -> None:
    path = await filled(tmp_path, 400)
    raw = sqlite3.connect(path)
    assert soundness.require_sound(raw, path, 60.0)
    assert not soundness.require_sound(raw, path, -1.0)
    assert raw.execute("SELECT count(*) FROM message").fetchone() == (400,), "the connection goes on"
    raw.close()


async def test_f27_a_database_that_is_gone_is_missed(tmp_path: Path) -> None:
    path = await filled(tmp_path, 1)
    path.unlink()
    for _ in range(2):  # the first one made an empty file
        with pytest.raises(StoreRefused, match="the database is missing"):
            opened(path)


async def test_f27_recordings_without_a_database_are_never_taken_for_waste(tmp_path: Path) -> None:
    payloads = Payloads(tmp_path / "payloads", min_free=0)
    payloads.open()
    payloads.require_none(tmp_path / "bridge.db")
    incoming = payloads.incoming()
    incoming.write(b"an object whose row is in the database that is gone")
    name, _ = incoming.keep()
    with pytest.raises(StoreRefused, match="holds recordings already: their database is missing"):
        payloads.require_none(tmp_path / "bridge.db")
    assert payloads.sweep(lambda _: False, keep=True) == 0
    assert (payloads.root / name).exists()
    assert list(payloads.spool.iterdir()) == []


async def test_f27_check_says_what_a_start_would_say(tmp_path: Path) -> None:
    path = await filled(tmp_path, 3)
    settings = StoreSettings(url=f"sqlite:///{path}")
    found = inspection.inspect(settings)
    assert (found.quarantine, found.checked) == ("", "every page is sound")
    flip(path, 4096 * 2, 500)
    with pytest.raises(StoreRefused, match="is damaged"):
        inspection.inspect(settings)
