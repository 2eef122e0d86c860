"""The disk that loses what was not synced: it must lose, and it must keep (A1)."""

import stat
from pathlib import Path

import pytest

from tests.campaign.cutting_fs import ROOT, Disk

FILE, FOLDER = stat.S_IFREG | 0o600, stat.S_IFDIR | 0o700


@pytest.fixture
def durable(tmp_path: Path) -> Path:
    return tmp_path


def after_a_cut(durable: Path, *names: str) -> bytes | None:
    """What a new process finds at the end of a path; None where the path ends before."""
    disk, number = Disk(durable), ROOT
    for name in names:
        try:
            number = disk.child(number, name).number
        except FileNotFoundError:
            return None
    return bytes(disk.node(number).data)


def written(disk: Disk, folder: int, name: str, data: bytes) -> int:
    number = disk.make(folder, name, FILE).number
    disk.write(number, 0, data)
    return number


def test_a1_nothing_is_there_that_was_not_synced(durable):
    written(Disk(durable), ROOT, "a", b"content")
    assert after_a_cut(durable, "a") is None


def test_a1_a_name_without_its_content_is_an_empty_file(durable):
    disk = Disk(durable)
    written(disk, ROOT, "a", b"content")
    disk.sync(ROOT)
    assert after_a_cut(durable, "a") == b""


def test_a1_content_without_its_name_is_gone(durable):
    disk = Disk(durable)
    disk.sync(written(disk, ROOT, "a", b"content"))
    assert after_a_cut(durable, "a") is None


def test_a1_both_synced_are_there_and_what_came_later_is_not(durable):
    disk = Disk(durable)
    number = written(disk, ROOT, "a", b"content")
    disk.sync(number)
    disk.sync(ROOT)
    disk.write(number, 3, b"XXXX and more")
    assert after_a_cut(durable, "a") == b"content"
    disk.sync(number)
    assert after_a_cut(durable, "a") == b"conXXXX and more"
    disk.resize(number, 3)
    assert after_a_cut(durable, "a") == b"conXXXX and more"
    disk.sync(number)
    assert after_a_cut(durable, "a") == b"con"


def test_a1_a_gap_that_is_written_over_is_zeros(durable):
    disk = Disk(durable)
    number = written(disk, ROOT, "a", b"content")
    disk.resize(number, 2)
    disk.write(number, 4, b"x")
    disk.sync(number)
    disk.sync(ROOT)
    assert after_a_cut(durable, "a") == b"co\0\0x"


def test_a1_a_folder_is_as_durable_as_the_name_that_leads_to_it(durable):
    disk = Disk(durable)
    folder = disk.make(ROOT, "var", FOLDER).number
    disk.sync(written(disk, folder, "a", b"content"))
    disk.sync(folder)
    assert after_a_cut(durable, "var", "a") is None
    disk.sync(ROOT)
    assert after_a_cut(durable, "var", "a") == b"content"


def test_a1_a_removed_name_comes_back_until_its_folder_is_synced(durable):
    disk = Disk(durable)
    number = written(disk, ROOT, "a", b"content")
    disk.sync(number)
    disk.sync(ROOT)
    disk.remove(ROOT, "a")
    assert after_a_cut(durable, "a") == b"content"
    disk.sync(ROOT)
    assert after_a_cut(durable, "a") is None


def test_a1_two_names_of_one_file_are_durable_each_by_its_own_folder(durable):
    disk = Disk(durable)
    one, other = (disk.make(ROOT, name, FOLDER).number for name in ("one", "other"))
    disk.sync(ROOT)
    number = written(disk, one, "a", b"content")
    disk.sync(number)
    disk.link(number, other, "b")
    disk.sync(other)
    assert after_a_cut(durable, "one", "a") is None
    assert after_a_cut(durable, "other", "b") == b"content"
    disk.sync(one)
    again = Disk(durable)
    assert again.child(again.child(ROOT, "one").number, "a").links == 2


@pytest.mark.parametrize("seed", range(8))
def test_a1_a_rename_that_leaks_leaks_whole(durable, seed):
    disk = Disk(durable, leak=0.5, seed=seed)
    number = written(disk, ROOT, "old", b"new content")
    target = written(disk, ROOT, "a", b"content")
    disk.sync(number)
    disk.sync(target)
    disk.sync(ROOT)
    disk.rename(ROOT, "old", ROOT, "a")
    found = (after_a_cut(durable, "old"), after_a_cut(durable, "a"))
    assert found in {(b"new content", b"content"), (None, b"new content")}


def test_a1_a_leak_keeps_sectors_whole_and_in_any_order(durable):
    kept = set()
    for seed in range(40):
        disk = Disk(durable, leak=1.0, seed=seed)
        number = written(disk, ROOT, f"a{seed}", b"x" * 2048)
        kept.add(after_a_cut(durable, f"a{seed}"))
        assert len(disk.node(number).data) == 2048
    sectors = {tuple(one[at : at + 512].strip(b"\0") != b"" for at in range(0, len(one), 512)) for one in kept}
    assert (False, False, False, True) in sectors or (False, True) in sectors, "later sectors before earlier ones"
    assert all(set(one[at : at + 512]) in ({0}, {ord("x")}) for one in kept for at in range(0, len(one), 512))


def test_what_a_file_system_refuses_is_refused(durable):
    disk = Disk(durable)
    folder = disk.make(ROOT, "var", FOLDER).number
    disk.make(folder, "a", FILE)
    with pytest.raises(FileExistsError):
        disk.make(folder, "a", FILE)
    with pytest.raises(OSError, match="the folder holds something"):
        disk.remove(ROOT, "var")
    with pytest.raises(FileNotFoundError):
        disk.child(ROOT, "nothing")
