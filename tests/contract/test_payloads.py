"""The payload store under a disk that fails: what is answered, and what is left (A1, A4, F6, F24)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import CommitUnknown, StoreError, StoreFull
from bridge.store.payloads import Payloads


@pytest.fixture
def payloads(tmp_path: Path) -> Payloads:
    opened = Payloads(tmp_path / "payloads", min_free=0)
    opened.open()
    return opened


def failing(number: int, after: int = 0) -> Callable[..., Any]:
    """An fsync that fails with this errno, after so many that do not."""
    whole = os.fsync
    left = [after]

    def fsync(fd: int) -> None:
        if left[0] == 0:
            raise OSError(number, "invented")
        left[0] -= 1
        whole(fd)

    return fsync


def test_a1_every_folder_is_there_and_durable_before_the_first_object(payloads: Payloads) -> None:
    assert len([p for p in payloads.root.iterdir() if len(p.name) == 2]) == 256
    assert list(payloads.spool.iterdir()) == []


@pytest.mark.parametrize("after", [0, 1], ids=["of-the-file", "of-its-folder"])
def test_a4_an_fsync_that_fails_is_not_tried_again_and_ends_the_service(
    payloads: Payloads, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    told: list[bool] = []
    payloads.on_fatal = lambda: told.append(True)
    file = payloads.incoming()
    file.write(b"ecg")
    monkeypatch.setattr("bridge.store.payloads.os.fsync", failing(errno.EIO, after))
    with pytest.raises(CommitUnknown):
        file.keep()
    file.close(unsure=True)
    assert told == [True]
    assert len(list(payloads.root.glob("??/*.dcm"))) == len(list(payloads.spool.iterdir())) == after
    monkeypatch.undo()
    payloads.open()
    payloads.sweep(lambda name: False)
    assert list(payloads.root.glob("??/*.dcm")) == list(payloads.spool.iterdir()) == []


@pytest.mark.parametrize("after", [0, 1], ids=["of-the-file", "of-its-folder"])
def test_f24_a_disk_that_is_full_at_an_fsync_keeps_nothing(
    payloads: Payloads, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    file = payloads.incoming()
    file.write(b"ecg")
    monkeypatch.setattr("bridge.store.payloads.os.fsync", failing(errno.ENOSPC, after))
    with pytest.raises(StoreFull):
        file.keep()
    file.close(unsure=True, needless=lambda name: True)
    assert list(payloads.root.glob("??/*.dcm")) == list(payloads.spool.iterdir()) == []


def kept(payloads: Payloads, content: bytes) -> tuple[Any, str]:
    file = payloads.incoming()
    file.write(content)
    return file, file.keep()[0]


def test_f6_what_was_kept_for_nothing_goes_unless_another_arrival_rests_on_it(payloads: Payloads) -> None:
    first, name = kept(payloads, b"ecg")
    second, again = kept(payloads, b"ecg")
    assert name == again
    first.close(unsure=True, needless=lambda _: True)
    assert (payloads.root / name).exists(), "the second one's row may be on its way"
    second.close()
    assert (payloads.root / name).exists()
    third, _ = kept(payloads, b"other")
    third.close(unsure=True, needless=lambda _: True)
    assert len(list(payloads.root.glob("??/*.dcm"))) == 1


def test_f6_where_the_store_cannot_say_whether_it_is_needed_a_start_decides(payloads: Payloads) -> None:
    file, name = kept(payloads, b"ecg")
    file.close(unsure=True, needless=lambda _: False)
    assert (payloads.root / name).exists()
    assert payloads.sweep(lambda _: False) == 1
    assert not (payloads.root / name).exists()


@pytest.mark.parametrize("damage", [b"", b"ec", b"egc", b"ecg and more"])
def test_a1_a_damaged_payload_is_made_whole_by_the_resend(payloads: Payloads, damage: bytes) -> None:
    first, name = kept(payloads, b"ecg")
    first.close()
    (payloads.root / name).write_bytes(damage)
    second, _ = kept(payloads, b"ecg")
    second.close()
    assert (payloads.root / name).read_bytes() == b"ecg"
    assert list(payloads.spool.iterdir()) == []


def test_a_file_system_without_hard_links_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("bridge.store.payloads.os.link", refuses)
    with pytest.raises(StoreError, match=r"store.payloads: .* a file system that knows hard links"):
        Payloads(tmp_path / "payloads", min_free=0).open()
