"""EDF+ files of ours, read by pyEDFlib and edfio: 0 samples different, 0 µV off (or the bound that the proof names)."""

import hashlib
import io
import tempfile
import tracemalloc
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import edfio
import numpy as np
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bridge.formats.ecg.edf as writer
from bridge.errors import CannotScale
from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.edf import write_edf
from bridge.formats.ecg.samples import SamplesChanged
from bridge.sandbox.ecg_signal import TWELVE
from tests.unit.dicom.ecg_factory import BIG, Group, ecg, saved, sines
from tests.unit.ecg.edf_reading import digital, edf_of, edflib, physical, written

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "dicom"
STEPS = ("1", "1.25", "2.5", "4.88", "5", "0.7324219", "0.152587890625", "3.0517578125", "0.1", "2.44140625",
         "1.953125", "0.333333")  # fmt: skip
BASELINES = ("0.5", "-12.34", "7.77", "100.01", "-0.1", "33.3", "0.25", "1.5", "-99.9", "0.7", "12", "-5.5")


def assert_microvolts(file: Path, expected: np.ndarray, bound: float = 0.0) -> None:
    for read in physical(file):
        assert np.abs(read - expected).max() <= bound + 1e-9


@pytest.mark.parametrize("baselines", ["0", BASELINES], ids=["case a", "case b"])
def test_4_2_every_sensitivity_of_the_table(tmp_path, baselines):
    values = sines(5000, 12)
    path = saved(tmp_path, ecg(Group(values, sensitivity=STEPS, baseline=baselines)))
    group, proof = edf_of(path, tmp_path / "o.edf")
    assert np.array_equal(digital(tmp_path / "o.edf"), values)
    assert proof.deviation < Decimal("0.0001")  # of 0.7324219 alone
    zero = np.zeros(12) if baselines == "0" else np.array([float(b) for b in baselines])
    expected = values * np.array([float(s) for s in STEPS]) + zero
    assert_microvolts(tmp_path / "o.edf", expected, float(proof.deviation))
    ordinary = [n for n, step in enumerate(STEPS) if step != "0.7324219"]
    for read in physical(tmp_path / "o.edf"):
        assert np.abs(read - expected)[:, ordinary].max() < 1e-9
    assert proof.samples_sha256 == hashlib.sha256(path.read_bytes()[group.offset :][: group.length]).hexdigest()
    assert (proof.samples, proof.channels, proof.rate, proof.format) == (5000, 12, Decimal(500), 16)


def test_the_proof_is_of_the_whole_file(tmp_path):
    _, proof = edf_of(saved(tmp_path, ecg(Group(sines(5000, 12)))), tmp_path / "o.edf")
    content = (tmp_path / "o.edf").read_bytes()
    assert (proof.total_size, proof.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("step", ["1", "1.25", "2.5", "5", "0.1"])
def test_4_2_rails_are_exact_where_the_scale_has_room(tmp_path, step):
    values = np.resize([-32768, 32767, 0, -1], (500, 2)).astype(np.int64)
    _, proof = edf_of(saved(tmp_path, ecg(Group(values, sensitivity=step))), tmp_path / "o.edf")
    assert np.array_equal(digital(tmp_path / "o.edf"), values)
    assert proof.deviation == 0
    assert_microvolts(tmp_path / "o.edf", values * float(step))


@pytest.mark.parametrize(
    ("interpretation", "bits", "values"),
    [
        ("SB", 8, np.arange(-128, 128).repeat(2).reshape(-1, 2)),
        ("UB", 8, np.arange(256).repeat(2).reshape(-1, 2)),
        ("US", 16, np.arange(20_000, 45_000).reshape(-1, 2)),
        ("US", 16, np.arange(65536).reshape(-1, 2)),
        ("SL", 32, sines(500, 2)),
        ("UL", 32, np.arange(32768).reshape(-1, 2)),
        ("SV", 64, sines(500, 2)),
    ],
)
def test_other_types_are_converted_value_for_value(tmp_path, interpretation, bits, values):
    path = saved(tmp_path, ecg(Group(values, interpretation, bits, sensitivity="1.25", baseline="2500")))
    group, proof = edf_of(path, tmp_path / "o.edf")
    shift = 32768 if interpretation == "US" else 0
    assert np.array_equal(digital(tmp_path / "o.edf"), values - shift)
    assert_microvolts(tmp_path / "o.edf", values * 1.25 + 2500)
    assert proof.samples_sha256 == hashlib.sha256(path.read_bytes()[group.offset :][: group.length]).hexdigest()


@pytest.mark.parametrize(("interpretation", "bits"), [("SS", 16), ("US", 16)])
def test_big_endian_is_swapped(tmp_path, interpretation, bits):
    values = np.abs(sines(700, 3)) + 1
    edf_of(saved(tmp_path, ecg(Group(values, interpretation, bits), syntax=BIG)), tmp_path / "o.edf")
    assert_microvolts(tmp_path / "o.edf", values * 2.5)


@pytest.mark.parametrize(
    ("samples", "rate", "channels"),
    [(4999, "500", 12), (9998, "1000", 12), (1283, "500", 3), (100_003, "500", 2), (80_000, "8000", 12)],
)
def test_4_3_no_sample_more_and_none_less(tmp_path, samples, rate, channels):
    values = sines(samples, channels)
    edf_of(saved(tmp_path, ecg(Group(values, rate=rate))), tmp_path / "o.edf")
    assert np.array_equal(digital(tmp_path / "o.edf"), values)
    with edflib(tmp_path / "o.edf") as reader:
        assert reader.getNSamples().tolist() == [samples] * channels
        assert np.allclose(reader.getSampleFrequencies(), float(rate), rtol=1e-6)


def test_a_record_longer_than_a_block_and_many_records_in_one(tmp_path, monkeypatch):
    values = sines(4999, 3)
    path = saved(tmp_path, ecg(Group(values)))
    whole = written(path)
    monkeypatch.setattr("bridge.formats.ecg.samples.BLOCK", 1000)  # frames of 6 bytes: 31 blocks, the last is short
    assert written(path) == whole
    monkeypatch.undo()
    long = saved(tmp_path, ecg(Group(sines(60_000, 3))), "long.dcm")  # 120 records, 87 together
    edf_of(long, tmp_path / "o.edf")
    assert np.array_equal(digital(tmp_path / "o.edf"), sines(60_000, 3))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.integers(-15_000, 15_000), min_size=100, max_size=100),
    channels=st.sampled_from([1, 2, 5]),
    step=st.sampled_from(STEPS),
    baseline=st.decimals("-1000", "1000", places=3),
)
def test_any_samples_come_back(tmp_path, values, channels, step, baseline):
    shaped = np.array(values).reshape(-1, channels)
    path = saved(tmp_path, ecg(Group(shaped, sensitivity=step, baseline=str(baseline), rate="100")))
    _, proof = edf_of(path, tmp_path / "o.edf")
    assert np.array_equal(digital(tmp_path / "o.edf"), shaped)
    assert_microvolts(tmp_path / "o.edf", shaped * float(step) + float(baseline), float(proof.deviation))
    assert proof.deviation <= Decimal("0.05")


@pytest.mark.parametrize(
    ("group", "where"),
    [
        (Group(np.array([[40_000], [5]]), "SL", 32, rate="10"), "WaveformData"),
        (Group(np.array([[32_768], [5]]), "UL", 32, rate="10"), "WaveformData"),
        (Group(np.array([[-(2**40)], [5]]), "SV", 64, rate="10"), "WaveformData"),
        (Group(np.resize([-32768, 32767], (500, 1)), sensitivity="4.88"), "ChannelSensitivity"),
        (Group(sines(500, 1), sensitivity=None), "ChannelSensitivity"),
        (Group(sines(1283, 1), rate="128"), "NumberOfWaveformSamples"),
        (Group(np.resize([-32768, 5, 6], (500, 1)), padding=-32768), "WaveformPaddingValue"),
        (Group(np.resize([0, 5, 6], (500, 1)), "US", padding=0), "WaveformPaddingValue"),
        (Group(np.resize([-128, 5, 6], (500, 1)), "SB", 8, padding=-128), "WaveformPaddingValue"),
    ],
)
def test_what_edf_cannot_hold_exactly_is_refused(tmp_path, group, where):
    path = saved(tmp_path, ecg(group))
    with pytest.raises(CannotScale) as refused:
        written(path)
    assert refused.value.where.startswith("WaveformSequence[1].")
    assert refused.value.where.rpartition(".")[2] == where


def test_padding_that_no_sample_has_does_no_harm(tmp_path):
    values = sines(500, 2)
    _, proof = edf_of(saved(tmp_path, ecg(Group(values, padding=-32768))), tmp_path / "o.edf")
    assert proof.deviation == 0
    assert np.array_equal(digital(tmp_path / "o.edf"), values)


def test_padding_that_is_not_to_be_trusted_stays_signal(tmp_path):
    values = sines(500, 2)
    assert (values == 0).any()
    edf_of(saved(tmp_path, ecg(Group(values, padding=0))), tmp_path / "o.edf")
    assert_microvolts(tmp_path / "o.edf", values * 2.5)


def test_edfplus_2_1_3_the_header_says_what_is_known_and_no_more(tmp_path):
    edf_of(saved(tmp_path, ecg(Group(sines(5000, 12)))), tmp_path / "o.edf")
    with edflib(tmp_path / "o.edf") as reader:
        assert reader.getSignalLabels() == [f"ECG {lead}" for lead in TWELVE]
        assert {reader.getPhysicalDimension(n) for n in range(12)} == {"uV"}
        assert {reader.getPrefilter(n) for n in range(12)} == {"HP:0.05Hz LP:150Hz"}
        assert reader.filetype == 1  # EDFlib's number of EDF+
        assert reader.getStartdatetime() == datetime(1985, 1, 1)  # noqa: DTZ001  EDF knows no zone
    read = edfio.read_edf(tmp_path / "o.edf")
    assert (read.local_patient_identification, read.local_recording_identification) == ("X X X X", "Startdate X X X X")
    assert read.reserved == "EDF+C"
    assert read.duration == 10


def test_all_filters_of_a_channel_are_named(tmp_path):
    def notch(item):
        for channel in item.ChannelDefinitionSequence:
            channel.NotchFilterFrequency = "50"

    edf_of(saved(tmp_path, ecg(Group(sines(500, 1), change_item=notch))), tmp_path / "o.edf")
    with edflib(tmp_path / "o.edf") as reader:
        assert reader.getPrefilter(0) == "HP:0.05Hz LP:150Hz N:50Hz"


@pytest.mark.parametrize(
    ("lead", "label"),
    [
        ("V1", "ECG V1"),
        ("twelve signs", "ECG twelve signs"),
        ("thirteen sign", "thirteen sign"),
        ("exactly sixteen!", "exactly sixteen!"),
        ("more than sixteen", "ECG ch1"),
        ("EDF Annotations", "ECG ch1"),  # would be read as annotations, and not as samples
        ("Größe", "ECG Gr__e"),
        ("", "ECG ch1"),
    ],
)
def test_labels_have_sixteen_plain_characters(tmp_path, lead, label):
    path = saved(tmp_path, ecg(Group(sines(500, 2))))
    group = read_object(path).recording.rhythm()
    group = replace(group, channels=(replace(group.channels[0], lead=lead), group.channels[1]))
    with path.open("rb") as payload, (tmp_path / "o.edf").open("w+b") as out:
        write_edf(group, payload, out)
    with edflib(tmp_path / "o.edf") as reader:
        assert reader.getSignalLabels() == [label, "ECG II"]


def test_p6_no_patient_value_and_no_time_in_the_file(tmp_path):
    content = written(saved(tmp_path, ecg(Group(sines(500, 12)))))
    for phi in (b"Testfrau", b"Erika", b"TEST-0001", b"1970", b"2024", b"1.2.826"):
        assert phi not in content


def test_the_same_object_gives_the_same_bytes(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(5000, 12))))
    assert written(path) == written(path)


def test_over_an_older_file_nothing_of_it_remains(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(500, 2))))
    group = read_object(path).recording.rhythm()
    out = io.BytesIO(b"x" * 100_000)
    with path.open("rb") as payload:
        proof = write_edf(group, payload, out)
    assert len(out.getvalue()) == proof.total_size < 5000


@pytest.mark.parametrize("in_memory", [1, 1 << 20])
def test_a_file_that_begins_in_memory_will_do(tmp_path, in_memory):
    path = saved(tmp_path, ecg(Group(sines(5000, 12))))
    group = read_object(path).recording.rhythm()
    with path.open("rb") as payload, tempfile.SpooledTemporaryFile(max_size=in_memory, dir=tmp_path) as out:
        proof = write_edf(group, payload, out)
        out.seek(0)
        content = out.read()
    assert proof.sha256 == hashlib.sha256(content).hexdigest()
    assert content == written(path)


def test_a_payload_that_became_shorter_is_noticed(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(500, 2))))
    group = read_object(path).recording.rhythm()
    cut = io.BytesIO(path.read_bytes()[: group.offset + group.length - 1])
    with pytest.raises(SamplesChanged):
        write_edf(group, cut, io.BytesIO())


class Flipping(io.BytesIO):
    """A disk that changes one byte of what was written, after it was written."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.done = at, False

    def seek(self, offset, whence=0):
        if whence == 2 and not self.done:  # the proof begins by asking for the end
            self.done = True
            self.getbuffer()[self.at] ^= 1
        return super().seek(offset, whence)


HEADER = 256 * 5


@pytest.mark.parametrize("interpretation", ["SS", "US"])
@pytest.mark.parametrize(
    "at",
    [
        HEADER,  # the first sample
        HEADER + 2 * 1500 - 1,  # the last one of the first record
        HEADER + 10 * (2 * 1500 + 6) - 7,  # of the last record
        HEADER + 2 * 1500 + 1,  # a record's time
        HEADER - 1,
        0,
        8,  # the patient
        168,  # the date
        236,  # the count of records
        244,  # a record's duration
        256,  # the first label
        256 + 4 * (16 + 80),  # the first unit
        256 + 4 * (16 + 80 + 8),  # physical minimum
        256 + 4 * (16 + 80 + 8 + 8),  # physical maximum
        256 + 4 * (16 + 80 + 8 + 8 + 8) + 1,  # digital minimum
        256 + 4 * (16 + 80 + 8 + 8 + 8 + 8) + 1,  # digital maximum
    ],
)
def test_p4_a_changed_byte_fails_the_proof(tmp_path, interpretation, at):
    path = saved(tmp_path, ecg(Group(np.abs(sines(5000, 3)) + 1, interpretation)))
    group = read_object(path).recording.rhythm()
    out = Flipping(at)
    with path.open("rb") as payload, pytest.raises(SamplesChanged):
        write_edf(group, payload, out)
    assert out.done


def test_p4_a_scale_that_is_off_fails_the_proof(tmp_path, monkeypatch):
    path = saved(tmp_path, ecg(Group(sines(500, 2))))
    right = writer.bounds_of

    def wrong(*args):
        low, high = right(*args)
        return low, replace(high, text="81915.1")

    monkeypatch.setattr(writer, "bounds_of", wrong)
    with pytest.raises(SamplesChanged, match="scale"):
        written(path)


def test_p4_a_range_that_leaves_samples_out_fails_the_proof(tmp_path, monkeypatch):
    path = saved(tmp_path, ecg(Group(sines(500, 2), sensitivity="1")))
    right = writer.bounds_of

    def wrong(*args):
        low, high = right(*args)
        return low, replace(high, digital=1000, text="1000")

    monkeypatch.setattr(writer, "bounds_of", wrong)
    with pytest.raises(SamplesChanged, match="range"):
        written(path)


@pytest.mark.parametrize(
    ("samples", "most"),
    [(1_000_000, 2 << 20), (410_353, 12 << 20)],  # 24 MB; a prime number, one record of just below 10 MiB
)
def test_memory_does_not_grow_with_the_recording(tmp_path, samples, most):
    path = saved(tmp_path, ecg(Group(sines(500, 12))))
    group = read_object(path).recording.rhythm()
    group = replace(group, samples=samples, length=24 * samples, offset=0)
    payload = io.BytesIO(np.resize(sines(500, 12), (samples, 12)).astype("<i2").tobytes())
    with (tmp_path / "o.edf").open("w+b") as out:
        tracemalloc.start()
        try:
            proof = write_edf(group, payload, out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert proof.samples == samples
    assert peak < most


REAL = [Path(pydicom.data.__file__).parent / "test_files" / "waveform_ecg.dcm"]


@pytest.mark.parametrize(
    "path",
    [p for p in [*REAL, *sorted(CORPUS.glob("*ecg*.dcm")), *sorted(CORPUS.glob("cabolabs*.dcm"))] if p.is_file()],
    ids=lambda p: p.name,
)
def test_published_recordings_go_over_without_a_changed_sample(path, tmp_path):
    group, proof = edf_of(path, tmp_path / "o.edf")
    item = pydicom.dcmread(path).WaveformSequence[group.number - 1]
    raw = np.frombuffer(item.WaveformData, "<i2").reshape(-1, proof.channels)
    assert np.array_equal(digital(tmp_path / "o.edf"), raw)
    assert proof.samples_sha256 == hashlib.sha256(item.WaveformData).hexdigest()
    steps = [float(c.ChannelSensitivity) * float(c.ChannelSensitivityCorrectionFactor)
             for c in item.ChannelDefinitionSequence]  # fmt: skip
    assert proof.deviation <= Decimal("0.000001")
    assert_microvolts(tmp_path / "o.edf", raw * steps, float(proof.deviation))
