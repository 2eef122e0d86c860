"""One SOP Instance UID, sent again: the same, in other words, of somebody else, or another recording (F29); and what
is left in the payload store where the row of an object did not follow (F6).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from bridge.domain.states import State
from bridge.errors import CommitUnknown, StoreError
from bridge.sandbox.ecg_object import Subject, write
from bridge.sandbox.peer import PeerError
from bridge.store.sqlite import SqliteStore
from tests.acceptance.scene import House, OpenHouse
from tests.acceptance.test_ecg_to_task import recording


def in_implicit_vr(path: Path) -> None:
    made = dcmread(path)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    write(path, made)


def with_a_note_of_the_pacs(path: Path) -> None:
    made = dcmread(path)
    made.RetrieveAETitle = "ARCHIVE"
    write(path, made)


def of_somebody_else(path: Path) -> None:
    made = dcmread(path)
    made.PatientID, made.PatientName = "0815", "Probe^Petra"
    write(path, made)


def of_another_order(path: Path) -> None:
    made = dcmread(path)
    made.AccessionNumber = "ACC-OTHER"
    write(path, made)


def with_one_sample_changed(path: Path) -> None:
    made = dcmread(path)
    group = made.WaveformSequence[0]
    value = bytearray(group.WaveformData)
    value[1000] ^= 1
    group.WaveformData = bytes(value)
    write(path, made)


def with_another_scale(path: Path) -> None:
    made = dcmread(path)
    made.WaveformSequence[0].ChannelDefinitionSequence[0].ChannelSensitivity = "2.44"
    write(path, made)


VARIANTS: dict[Callable[[Path], None], tuple[str, str]] = {
    in_implicit_vr: ("DONE", "same_recording"),
    with_a_note_of_the_pacs: ("DONE", "same_recording"),
    of_somebody_else: ("HELD", "identity_update"),
    of_another_order: ("HELD", "identity_update"),
    with_one_sample_changed: ("HELD", "uid_conflict"),
    with_another_scale: ("HELD", "uid_conflict"),
}


async def said(it: House, path: Path) -> int | None:
    """The status; None where the association was aborted."""
    try:
        return await it.store(path)
    except PeerError:
        return None


async def is_whole(it: House) -> None:
    """Every kept object is there and can be read, and nothing passing is left."""
    for row in await it.messages():
        payload = (await it.show(row.id))["payload"]
        kept = it.folder / "payloads" / payload
        made = dcmread(kept)
        assert made.SOPInstanceUID == dcmread(it.folder / "a.dcm").SOPInstanceUID
    assert list((it.folder / "payloads" / "spool").iterdir()) == []


@pytest.mark.parametrize("when", ["before_the_task", "after_the_task"])
@pytest.mark.parametrize("change", VARIANTS, ids=lambda c: c.__name__)
async def test_f29_the_same_uid_again(
    house: OpenHouse, tmp_path: Path, change: Callable[[Path], None], when: str
) -> None:
    again = recording(tmp_path).rename(tmp_path / "b.dcm")
    first = recording(tmp_path)
    change(again)
    away = "http://127.0.0.1:9" if when == "before_the_task" else ""
    async with house(base_url=away) as it:
        assert await it.store(first) == 0
        await it.until(lambda rows: rows[0].state == (State.RETRY if away else State.CREATED))
        assert await it.store(again) == 0
        rows = await it.until(lambda rows: len(rows) == 2)
        assert (rows[1].state, rows[1].reason) == VARIANTS[change]
        await is_whole(it)
        assert await it.store(again) == 0, "a resend of the second is no third"
        assert len(await it.messages()) == 2
    async with house() as it:
        rows = await it.settled(2)
        assert [r.state for r in rows] == ["CREATED", VARIANTS[change][0]]


async def test_f29_two_variants_at_the_same_moment_make_one_task(house: OpenHouse, tmp_path: Path) -> None:
    first = recording(tmp_path)
    again = tmp_path / "b.dcm"
    again.write_bytes(first.read_bytes())
    of_somebody_else(again)
    async with house() as it:
        assert await asyncio.gather(*(it.store(path) for path in (first, again, first, again))) == [0, 0, 0, 0]
        rows = await it.settled(2)
        assert sorted((r.state, r.reason) for r in rows) == [("CREATED", ""), ("HELD", "identity_update")]
        assert len(it.sandbox.tasks) == 1


@pytest.mark.parametrize("problem", [StoreError("invented"), CommitUnknown("invented")], ids=["not-kept", "unknown"])
async def test_f6_a_payload_without_its_row_is_swept_at_the_start(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    kept = tmp_path / "payloads"

    def fails(store: SqliteStore, work: Any) -> Any:
        raise problem

    async with house() as it:
        await it.store(recording(tmp_path, seed="kept"))
        await it.settled(1)
        with monkeypatch.context() as broken:
            broken.setattr(SqliteStore, "write_from_thread", fails)
            status = await said(it, recording(tmp_path, seed="lost"))
        assert status == (None if isinstance(problem, CommitUnknown) else 0xA700)
        unknown = isinstance(problem, CommitUnknown)
        assert len(list(kept.glob("??/*.dcm"))) == (2 if unknown else 1), "where nobody can tell, a start decides"
        assert bool(list((kept / "spool").iterdir())) is unknown
    async with house() as it:
        assert len(list(kept.glob("??/*.dcm"))) == 1
        assert list((kept / "spool").iterdir()) == []
        assert await it.store(tmp_path / "lost.dcm") == 0, "the resend is taken"
        assert [r.state for r in await it.settled(2)] == ["CREATED", "CREATED"]


async def test_f6_a_payload_whose_row_was_written_after_all_stays(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the commit was lost, and it had happened (F7)."""
    whole = SqliteStore.write_from_thread

    def loses_its_answer(store: SqliteStore, work: Any) -> Any:
        whole(store, work)
        raise CommitUnknown("invented")

    async with house() as it:
        with monkeypatch.context() as broken:
            broken.setattr(SqliteStore, "write_from_thread", loses_its_answer)
            assert await said(it, recording(tmp_path)) is None
        assert [r.state for r in await it.settled(1)] == ["CREATED"]
    async with house() as it:
        await is_whole(it)
        assert await it.store(tmp_path / "a.dcm") == 0
        assert len(await it.messages()) == 1


def test_f29_the_variants_differ_in_their_bytes(tmp_path: Path) -> None:
    for change in VARIANTS:
        path = recording(tmp_path, subject=Subject("4711", "Muster^Max"))
        before = path.read_bytes()
        change(path)
        assert path.read_bytes() != before
