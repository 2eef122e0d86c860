"""One ECG as EDF+, all the way: by the site's wish, or because only EDF+ holds it exactly."""

import hashlib
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import edfio
import numpy as np
import pyedflib

from bridge.sandbox import cardio_records
from bridge.sandbox.ecg_object import Scale, Subject, build, write
from bridge.sandbox.ecg_signal import TWELVE, ecg
from tests.acceptance.scene import House, OpenHouse

START = datetime(2026, 3, 1, 13, 30, tzinfo=ZoneInfo("Europe/Berlin"))
MAX = Subject("4711", "Muster^Max", "19700131", "M", issuer="TEST")
SIGNAL = ecg(seconds=10, rate=500, seed=7)


def recording(folder: Path, *, scale: Scale | None = None) -> Path:
    """A 10 s, 12-lead object of an invented patient."""
    path = folder / "a.dcm"
    write(path, build(SIGNAL, rate=500, seed="a", subject=MAX, start=START, accession="ACC1", scale=scale))
    return path


async def upload_of(it: House, path: Path) -> tuple[bytes, dict[str, object]]:
    """What the API holds of the one recording, and the proof in the message's history."""
    assert await it.store(path) == 0
    (row,) = await it.settled(1)
    assert (row.state, row.reason) == ("CREATED", "")
    request = it.sandbox.tasks[int(row.task_ids[0])].request
    assert request["recording_start_time"] == "2026-03-01T12:30:00Z"  # the file's own date is no date
    told = await it.show(row.id)
    (proof,) = (event["detail"]["proof"] for event in told["history"] if "proof" in (event["detail"] or {}))
    return bytes(it.sandbox.uploads[request["upload_id"]].data), proof


def assert_holds(upload: bytes, folder: Path, scale: Scale) -> None:
    """The samples and the microvolts of the object, as the sandbox, edfio and pyEDFlib read them."""
    (record,) = cardio_records.records(upload)
    assert (record.format, record.samples, record.rate) == ("edf", 5000, 500)
    assert record.leads == tuple(f"ECG {lead}" for lead in TWELVE)
    assert scale.sensitivity is not None
    step, baseline = float(scale.sensitivity), float(scale.baseline)
    counts = np.rint((SIGNAL - baseline) / step).astype(np.int16)
    expected = counts * step + baseline
    assert np.allclose(record.first_mv, expected[0] / 1000, rtol=0, atol=1e-12)
    path = folder / "upload.edf"
    path.write_bytes(upload)
    signals = edfio.read_edf(path).signals
    assert np.array_equal(np.stack([s.digital for s in signals], axis=1), counts)
    assert np.abs(np.stack([s.data for s in signals], axis=1) - expected).max() < 1e-9
    with pyedflib.EdfReader(str(path)) as reader:
        for number in range(12):
            assert np.array_equal(reader.readSignal(number, digital=True), counts[:, number])
            assert np.abs(reader.readSignal(number) - expected[:, number]).max() < 1e-9


async def test_upload_format_edf_holds_the_same_samples(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_CARDIO__UPLOAD_FORMAT="edf") as it:
        path = recording(tmp_path)
        upload, proof = await upload_of(it, path)
        assert_holds(upload, tmp_path, Scale())
        assert b"Muster" not in upload
        assert b"4711" not in upload
        assert (proof["form"], proof["instead"], proof["deviation"]) == ("edf", "", "0")
        assert proof["sha256"] == hashlib.sha256(upload).hexdigest()


async def test_a_baseline_between_two_steps_arrives_as_edf_under_wfdb(house: OpenHouse, tmp_path: Path) -> None:
    scale = Scale(baseline=Decimal("12.34"))
    async with house() as it:
        upload, proof = await upload_of(it, recording(tmp_path, scale=scale))
        assert_holds(upload, tmp_path, scale)
        assert proof["form"] == "edf"
        assert "ChannelBaseline" in str(proof["instead"])


async def test_what_edf_cannot_hold_arrives_as_wfdb_under_edf(house: OpenHouse, tmp_path: Path) -> None:
    scale = Scale(sensitivity=Decimal("0.01"), bits=32)  # samples beyond 16 bits
    async with house(BRIDGE_CARDIO__UPLOAD_FORMAT="edf") as it:
        upload, proof = await upload_of(it, recording(tmp_path, scale=scale))
        (record,) = cardio_records.records(upload)
        assert record.format == "wfdb"
        assert np.allclose(record.first_mv, SIGNAL[0] / 1000, rtol=0, atol=1e-5)
        assert (proof["form"], proof["format"]) == ("wfdb", 32)
        assert "16 bits" in str(proof["instead"])
