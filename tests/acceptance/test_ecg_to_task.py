"""One ECG, all the way: the samples that the API holds are the ones that the cart recorded."""

import asyncio
import io
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from bridge.receive.dicom.intake import DicomIntake
from bridge.sandbox.ecg_object import Scale, Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from bridge.settings import host_port
from tests.acceptance.scene import House, OpenHouse, order

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb's own imports meet a deprecation of pandas
    import wfdb

START = datetime(2026, 3, 1, 13, 30, tzinfo=ZoneInfo("Europe/Berlin"))
MAX = Subject("4711", "Muster^Max", "19700131", "M", issuer="TEST")


def recording(
    folder: Path, *, seed: str = "a", subject: Subject = MAX, accession: str = "", scale: Scale | None = None
) -> Path:
    """A 10 s, 12-lead object of an invented patient."""
    signal = ecg(seconds=10, rate=500, seed=7)
    path = folder / f"{seed}.dcm"
    made = build(signal, rate=500, seed=seed, subject=subject, start=START, accession=accession, scale=scale)
    write(path, made)
    return path


def read_back(it: House, task_id: int, folder: Path) -> wfdb.Record:
    """The record that the API holds, read by the independent `wfdb` package."""
    upload = it.sandbox.uploads[it.sandbox.tasks[task_id].request["upload_id"]]
    with zipfile.ZipFile(io.BytesIO(bytes(upload.data))) as archive:
        archive.extractall(folder)
        (header,) = [n for n in archive.namelist() if n.endswith(".hea")]
    return wfdb.rdrecord(str(folder / header.removesuffix(".hea")), physical=False)


@pytest.mark.peer
async def test_dcmtk_storescu_to_a_wfdb_record_with_the_same_samples(
    house: OpenHouse, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    storescu = peer("storescu")
    path = recording(tmp_path, accession="ACC1")
    async with house() as it:
        host, port = host_port(it.up.addresses["dicom"])
        done = await asyncio.to_thread(
            subprocess.run,
            [storescu, "-v", "-aet", "CART1", "-aec", "CARDIOBRIDGE", host, str(port), str(path)],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (row,) = await it.settled(1)
        assert row.state == "CREATED"
        task = it.sandbox.tasks[int(row.task_ids[0])].request
        assert task["patient_id"] == "4711"
        assert task["investigation_id"] == "ACC1"
        assert task["recording_start_time"] == "2026-03-01T12:30:00Z"
        record = read_back(it, int(row.task_ids[0]), tmp_path)
        counts = np.rint(ecg(seconds=10, rate=500, seed=7) / 4.88).astype(np.int16)
        assert np.array_equal(record.d_signal, counts)
        assert record.sig_name == ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
        assert np.abs(record.dac() * 1000 - counts * 4.88).max() < 1e-9
        upload = it.sandbox.uploads[task["upload_id"]]
        assert b"Muster" not in bytes(upload.data)
        assert b"4711" not in bytes(upload.data).split(b".dat")[0]


async def test_an_ecg_of_an_order_becomes_a_task_with_the_drafts_id_as_a_tag(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        assert await it.store(recording(tmp_path, accession="ACCPL-1")) == 0
        rows = await it.settled(2)
        assert rows[1].task_ids == ["4712"]
        task = it.sandbox.tasks[4712].request
        assert "draft=4711" in task["searching_tags"]
        assert task["investigation_id"] == "ACCPL-1"


async def test_an_order_after_its_recording_gets_the_recordings_task_and_no_draft(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        await it.settled(1)
        assert "|task=4711" in await it.hl7(order("C1", "PL-1"))
        assert list(it.sandbox.tasks) == [4711]


async def test_an_identical_resend_is_0000_and_no_second_task(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        path = recording(tmp_path)
        assert [await it.store(path) for _ in range(3)] == [0, 0, 0]
        await it.settled(1)
        assert len(await it.messages()) == 1
        assert len(it.sandbox.tasks) == 1


@pytest.mark.parametrize(
    "subject",
    [
        Subject("0815", "Muster^Max", "19700131", "M"),
        Subject("4711", "Muster^Max", "19700201", "M"),
        Subject("4711", "Anders^Anna", "19700131", "M"),
        Subject("4711", "Muster^Max", "19700131", "F"),
        Subject("4711", ""),
    ],
    ids=["other id", "other birth date", "other name", "other sex", "nothing agrees"],
)
async def test_f35_an_ecg_that_contradicts_its_order_is_held(
    house: OpenHouse, tmp_path: Path, subject: Subject
) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        assert await it.store(recording(tmp_path, accession="ACCPL-1", subject=subject)) == 0
        rows = await it.settled(2)
        assert rows[1].state == "HELD"
        assert len(it.sandbox.tasks) == 1


async def test_an_ecg_of_the_same_patient_id_but_another_person_than_the_record_is_held(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        await it.store(recording(tmp_path, subject=Subject("4711", "Anders^Anna", "19810202", "F")))
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].reason) == ("HELD", "contradicts_patient_record")


async def test_a_recording_waits_for_its_order_and_goes_when_it_comes(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_RECORDINGS__ORDER_WAIT="600") as it:
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        await it.until(lambda rows: rows[0].reason == "awaiting_order")
        assert not it.sandbox.tasks
        await it.hl7(order("C1", "PL-1"))
        rows = await it.settled(2)
        assert [r.state for r in rows] == ["CREATED", "CREATED"]
        tags = [tag for task in it.sandbox.tasks.values() for tag in task.request["searching_tags"]]
        assert any(tag.startswith("draft=") for tag in tags)


async def test_without_order_hold_keeps_an_orderless_recording_for_a_person(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_RECORDINGS__WITHOUT_ORDER="hold") as it:
        assert await it.store(recording(tmp_path)) == 0
        rows = await it.settled(1)
        assert (rows[0].state, rows[0].reason) == ("HELD", "no_order")


async def test_no_sensitivity_is_0000_and_held_never_guessed(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        assert await it.store(recording(tmp_path, scale=Scale(sensitivity=None))) == 0
        rows = await it.settled(1)
        assert (rows[0].state, rows[0].reason) == ("HELD", "cannot_scale")
        assert not it.sandbox.uploads


async def test_the_correction_factor_counts(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        scale = Scale(sensitivity=Decimal(1), correction=Decimal("4.88"))
        await it.store(recording(tmp_path, scale=scale))
        (row,) = await it.settled(1)
        record = read_back(it, int(row.task_ids[0]), tmp_path)
        assert np.abs(record.dac() * 1000 - record.d_signal * 4.88).max() < 1e-9


async def test_f5_a_truncated_object_is_c000_kept_for_a_look_and_never_a_task(house: OpenHouse, tmp_path: Path) -> None:
    path = recording(tmp_path)
    whole = path.read_bytes()
    async with house() as it:
        host, port = host_port(it.up.addresses["dicom"])
        status = await asyncio.to_thread(_store_bytes, host, port, whole[: len(whole) // 2], path)
        assert status == 0xC000
        rows = await it.settled(1)
        assert (rows[0].state, rows[0].reason) == ("REJECTED", "corrupt")
        assert await it.store(path) == 0
        rows = await it.settled(2)
        assert rows[1].state == "CREATED"


def _store_bytes(host: str, port: int, data: bytes, whole: Path) -> int:
    """C-STORE of a data set as it stands, cut where it is cut."""
    head = dcmread(whole, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    meta = head.file_meta
    ae = AE(ae_title="TESTCART")
    ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    association = ae.associate(host, port, ae_title="CARDIOBRIDGE")
    assert association.is_established
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = meta.MediaStorageSOPClassUID
    request.AffectedSOPInstanceUID = meta.MediaStorageSOPInstanceUID
    request.Priority = 2
    request.DataSet = io.BytesIO(data[132 + 12 + int(meta.FileMetaInformationGroupLength) :])
    context = association.accepted_contexts[0]
    association._reactor_checkpoint.clear()  # else pynetdicom's own thread takes the answer
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return int(answer.Status)


async def test_f5_an_object_that_is_whole_and_cannot_be_read_is_kept_and_held(house: OpenHouse, tmp_path: Path) -> None:
    """Its answer needed no channel definitions (A2); what they lack is a matter for a person."""
    path = recording(tmp_path)
    made = dcmread(path)
    del made.WaveformSequence[0].ChannelDefinitionSequence[3]
    write(path, made)
    async with house() as it:
        assert await it.store(path) == 0
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("HELD", "unreadable")
        assert "ChannelDefinitionSequence: 11 definitions for 12 channels" in str(await it.show(row.id))
        assert it.sandbox.tasks == {}


async def test_objects_that_keep_coming_in_go_first_and_hold_nothing_up_for_ever(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []

    def always(_: DicomIntake) -> bool:
        looks.append(True)
        return True

    monkeypatch.setattr(DicomIntake, "busy", always)
    async with house() as it:
        assert await it.store(recording(tmp_path)) == 0
        assert "task=" in await it.hl7(order("C1", "PL-9")), "an order is answered meanwhile"
        rows = await it.settled(2)
        assert {row.state for row in rows} == {"CREATED"}
    assert len(looks) > 1
