import hashlib
import io
import warnings
import zipfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

import bridge.formats.ecg.wfdb as writer
from bridge.domain.recording import MultiplexGroup
from bridge.errors import CannotScale
from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.encoding import channel_sums
from bridge.formats.ecg.samples import SamplesChanged, microvolts
from bridge.formats.ecg.wfdb import Proof, write_archive
from tests.unit.dicom.ecg_factory import BIG, Group, ecg, saved, sines

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import uses what pandas deprecates
    import wfdb

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "dicom"
ODD_STEPS = ("1", "1.25", "2.5", "4.88", "5", "0.7324219", "0.152587890625", "3.0517578125", "0.1", "2.44140625",
             "1.953125", "0.333333")  # fmt: skip


def archive_of(path: Path, folder: Path, record: str = "rec_1") -> tuple[MultiplexGroup, Proof, wfdb.Record]:
    """Written by us, unpacked by zipfile, read by wfdb."""
    group = read_object(path).recording.rhythm()
    out = io.BytesIO()
    with path.open("rb") as payload:
        proof = write_archive(group, payload, out, record=record)
    assert proof.total_size == len(out.getvalue())
    assert proof.sha256 == hashlib.sha256(out.getvalue()).hexdigest()
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [f"{record}.dat", f"{record}.hea"]
        archive.extractall(folder / record)
    assert proof.dat_sha256 == hashlib.sha256((folder / record / f"{record}.dat").read_bytes()).hexdigest()
    return group, proof, wfdb.rdrecord(str(folder / record / record), physical=False)


def physical(folder: Path, record: str = "rec_1") -> np.ndarray:
    return wfdb.rdrecord(str(folder / record / record)).p_signal * 1000


def written(path: Path) -> bytes:
    group = read_object(path).recording.rhythm()
    out = io.BytesIO()
    with path.open("rb") as payload:
        write_archive(group, payload, out, record="r")
    return out.getvalue()


def test_16_bit_little_endian_is_a_byte_identical_copy(tmp_path):
    values = sines(5000, 12)
    path = saved(tmp_path, ecg(Group(values, sensitivity=ODD_STEPS)))
    group, proof, record = archive_of(path, tmp_path)
    raw = path.read_bytes()[group.offset :][: group.length]
    assert (tmp_path / "rec_1" / "rec_1.dat").read_bytes() == raw
    assert (proof.format, proof.identical) == (16, True)
    assert proof.samples_sha256 == proof.dat_sha256 == hashlib.sha256(raw).hexdigest()
    assert (proof.samples, proof.channels, proof.rate) == (5000, 12, Decimal(500))
    assert np.array_equal(record.d_signal, values)
    assert record.sig_name == [c.lead for c in group.channels]
    assert (record.fs, record.sig_len, set(record.units), set(record.fmt)) == (500, 5000, {"mV"}, {"16"})
    expected = values * np.array([float(s) for s in ODD_STEPS])
    assert np.abs(physical(tmp_path) - expected).max() < 1e-10
    with path.open("rb") as payload:
        assert np.array_equal(microvolts(group, payload), expected)


def test_header_5_initial_values_and_checksums_are_those_of_the_samples(tmp_path):
    values = np.random.default_rng(3).integers(-32767, 32768, (4999, 12))  # a prime number of samples
    _, _, record = archive_of(saved(tmp_path, ecg(Group(values))), tmp_path)
    assert record.init_value == values[0].tolist()
    assert [c % 65536 for c in record.checksum] == record.calc_checksum()


@pytest.mark.parametrize("shape", [(1, 1), (255, 3), (256, 3), (257, 3), (1000, 12), (513, 1)])
@pytest.mark.parametrize("dtype", ["<i2", "<i4"])
def test_channel_sums_agree_with_plain_sums(shape, dtype):
    limits = np.iinfo(dtype)
    values = np.random.default_rng(5).integers(limits.min, limits.max, shape).astype(dtype)
    assert channel_sums(values).tolist() == (values.astype(np.int64).sum(axis=0) % 65536).tolist()


def test_32_bit_is_a_byte_identical_copy(tmp_path):
    values = np.random.default_rng(4).integers(-(2**31) + 1, 2**31, (3000, 4))
    path = saved(tmp_path, ecg(Group(values, "SL", 32, sensitivity="0.001"), sop_class="1.2.840.10008.5.1.4.1.1.9.1.4"))
    group, proof, record = archive_of(path, tmp_path)
    assert (proof.format, proof.identical) == (32, True)
    assert (tmp_path / "rec_1" / "rec_1.dat").read_bytes() == path.read_bytes()[group.offset :][: group.length]
    assert np.array_equal(record.d_signal, values)
    assert np.abs(physical(tmp_path) - values * 0.001).max() < 1e-8


@pytest.mark.parametrize(
    ("interpretation", "bits", "values", "wfdb_format"),
    [
        ("SB", 8, np.arange(-128, 128).reshape(-1, 2), 16),
        ("UB", 8, np.arange(256).reshape(-1, 2), 16),
        ("US", 16, np.arange(1, 65535).reshape(-1, 2), 16),
        ("US", 16, np.arange(65536).reshape(-1, 2), 32),
        ("UL", 32, np.array([[0, 1], [2**31 - 1, 77]]), 32),
    ],
)
def test_other_types_are_converted_value_for_value(tmp_path, interpretation, bits, values, wfdb_format):
    path = saved(tmp_path, ecg(Group(values, interpretation, bits, sensitivity="1.25", baseline="2500")))
    group, proof, _ = archive_of(path, tmp_path)
    assert (proof.format, proof.identical) == (wfdb_format, False)
    expected = values * 1.25 + 2500
    assert np.abs(physical(tmp_path) - expected).max() < 1e-10 * max(1, np.abs(expected).max())
    with path.open("rb") as payload:
        assert np.array_equal(microvolts(group, payload), expected)


@pytest.mark.parametrize(("interpretation", "bits"), [("SS", 16), ("US", 16)])
def test_big_endian_is_swapped(tmp_path, interpretation, bits):
    values = np.abs(sines(700, 3)) + 1
    path = saved(tmp_path, ecg(Group(values, interpretation, bits), syntax=BIG))
    group, proof, _ = archive_of(path, tmp_path)
    assert not proof.identical
    assert np.abs(physical(tmp_path) - values * 2.5).max() < 1e-10
    with path.open("rb") as payload:
        assert np.array_equal(microvolts(group, payload), values * 2.5)


def with_rail(value: int) -> np.ndarray:
    values = sines(30_000, 12)
    values[29_990, 3] = value  # far behind the first block
    return values


@pytest.mark.parametrize("padding", [None, 0])
def test_undeclared_smallest_value_goes_as_format_32(tmp_path, padding):
    values = with_rail(-32768)
    _, proof, record = archive_of(saved(tmp_path, ecg(Group(values, padding=padding))), tmp_path)
    assert (proof.format, proof.identical) == (32, False)
    assert np.array_equal(record.d_signal, values)
    assert np.abs(physical(tmp_path) - values * 2.5).max() < 1e-9


def test_declared_smallest_value_is_missing_on_purpose(tmp_path):
    values = with_rail(-32768)
    path = saved(tmp_path, ecg(Group(values, padding=-32768)))
    group, proof, record = archive_of(path, tmp_path)
    assert (proof.format, proof.identical) == (16, True)
    assert np.array_equal(record.d_signal, values)
    read = physical(tmp_path)
    assert np.argwhere(np.isnan(read)).tolist() == [[29_990, 3]]
    with path.open("rb") as payload:
        assert np.allclose(microvolts(group, payload), read, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(("interpretation", "padding"), [("SB", -128), ("UB", 0)])
def test_declared_padding_of_8_bit_samples_becomes_wfdbs_own(tmp_path, interpretation, padding):
    values = np.abs(sines(100, 2, peak=100)) + 1
    values[7, 1] = padding
    _, proof, record = archive_of(saved(tmp_path, ecg(Group(values, interpretation, 8, padding=padding))), tmp_path)
    assert proof.format == 16
    assert record.d_signal[7, 1] == -32768
    assert np.argwhere(np.isnan(physical(tmp_path))).tolist() == [[7, 1]]


def test_padding_that_is_zero_stays_signal(tmp_path):
    values = sines(500, 2)
    assert (values == 0).any()
    path = saved(tmp_path, ecg(Group(values, padding=0)))
    archive_of(path, tmp_path)
    assert not np.isnan(physical(tmp_path)).any()


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (Group(np.array([[-(2**31)], [5]]), "SL", 32), "reserves"),
        (Group(np.array([[2**31], [5]]), "UL", 32), "32 bits"),
        (Group(np.array([[2**31], [5]]), "SV", 64), "32 bits"),
        (Group(sines(5, 1), sensitivity="2.5", baseline="1"), "baseline"),
        (Group(sines(5, 1), sensitivity=None), "no sensitivity"),
    ],
)
def test_what_wfdb_cannot_hold_exactly_is_held(tmp_path, group, words):
    path = saved(tmp_path, ecg(group))
    with pytest.raises(CannotScale, match=words):
        written(path)


def test_baseline_of_whole_steps_is_exact(tmp_path):
    values = sines(500, 3)
    steps, baselines = ["4.88", "0.333333", "1.25"], ["-48.8", "333.333", "1000"]
    _, _, record = archive_of(saved(tmp_path, ecg(Group(values, sensitivity=steps, baseline=baselines))), tmp_path)
    assert record.baseline == [10, -1000, -800]
    expected = values * [float(s) for s in steps] + [float(b) for b in baselines]
    assert np.abs(physical(tmp_path) - expected).max() < 1e-9


def test_correction_factor_counts(tmp_path):
    values = sines(500, 2)
    archive_of(saved(tmp_path, ecg(Group(values, sensitivity="1", correction="4.88"))), tmp_path)
    assert np.abs(physical(tmp_path) - values * 4.88).max() < 1e-10


def test_millivolts_are_read_as_millivolts(tmp_path):
    values = sines(500, 2)
    archive_of(saved(tmp_path, ecg(Group(values, sensitivity="0.005", units="mV"))), tmp_path)
    assert np.abs(physical(tmp_path) - values * 5.0).max() < 1e-9


def test_only_the_rhythm_is_in_the_archive(tmp_path):
    rhythm, median = sines(5000, 12), sines(600, 12) + 7
    path = saved(tmp_path, ecg(Group(median, originality="DERIVED"), Group(rhythm)))
    _, _, record = archive_of(path, tmp_path)
    assert np.array_equal(record.d_signal, rhythm)


def test_the_same_object_gives_the_same_bytes(tmp_path):
    path = saved(tmp_path, ecg(Group(with_rail(-32768))))
    assert written(path) == written(path)


def test_p6_no_patient_value_and_no_time_in_the_archive(tmp_path):
    content = written(saved(tmp_path, ecg(Group(sines(50, 12)))))
    for phi in (b"Testfrau", b"Erika", b"TEST-0001", b"1970", b"2024", b"1.2.826"):
        assert phi not in content
    assert b"# V1: high-pass 0.05 Hz, low-pass 150 Hz" in content


def test_a_record_name_is_letters_digits_and_underscores(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(5, 2))))
    group = read_object(path).recording.rhythm()
    for name in ("", "a b", "../x", "ä", "x" * 41):
        with path.open("rb") as payload, pytest.raises(ValueError, match="record name"):
            write_archive(group, payload, io.BytesIO(), record=name)


def test_over_an_older_archive_nothing_of_it_remains(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(50, 2))))
    group = read_object(path).recording.rhythm()
    out = io.BytesIO(b"x" * 100_000)
    with path.open("rb") as payload:
        proof = write_archive(group, payload, out, record="r")
    assert len(out.getvalue()) == proof.total_size < 2000


def test_a_payload_that_became_shorter_is_noticed(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(50, 2))))
    group = read_object(path).recording.rhythm()
    cut = io.BytesIO(path.read_bytes()[: group.offset + group.length - 1])
    with pytest.raises(SamplesChanged):
        write_archive(group, cut, io.BytesIO(), record="r")


class Flipping(io.BytesIO):
    """A disk that changes one byte of what was written, after it was written."""

    def __init__(self, at: int, mask: int = 1) -> None:
        super().__init__()
        self.at, self.mask, self.done = at, mask, False

    def seek(self, offset, whence=0):
        size = len(self.getvalue())
        if whence == 2 and not self.done and size > 1000:  # the proof begins by asking for the end
            self.done = True
            self.getbuffer()[self.at] ^= self.mask
        return super().seek(offset, whence)


@pytest.mark.parametrize(("interpretation", "syntax"), [("SS", None), ("US", None), ("SS", BIG)])
def test_p4_a_changed_sample_fails_the_proof(tmp_path, interpretation, syntax):
    values = np.abs(sines(5000, 3)) + 1
    ds = ecg(Group(values, interpretation), **({"syntax": syntax} if syntax else {}))
    path = saved(tmp_path, ds)
    group = read_object(path).recording.rhythm()
    for at in (100, 15_000, 30_000):
        out = Flipping(at)
        with path.open("rb") as payload, pytest.raises(SamplesChanged, match="sample"):
            write_archive(group, payload, out, record="r")
        assert out.done


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: text.replace("400(0)", "200(0)"),
        lambda text: text.replace("400(0)", "400(1)"),
        lambda text: text.replace("r 2 500 700", "r 2 500 699"),
        lambda text: text.replace("r 2 500 700", "r 2 250 700"),
        lambda text: text.replace(".dat 16 ", ".dat 32 "),
        lambda text: text.replace(" 0 I\n", " 0\n"),
        lambda text: text.replace("16 0 0 ", "16 0 1 "),
        lambda text: text.replace("16 0 0 ", "16 0 0 1"),
    ],
)
def test_p4_a_header_that_tells_something_else_fails_the_proof(tmp_path, monkeypatch, wrong):
    path = saved(tmp_path, ecg(Group(sines(700, 2))))
    right = writer.header_text

    def text(*args, **kwargs):
        told = right(*args, **kwargs)
        assert wrong(told) != told
        return wrong(told)

    monkeypatch.setattr(writer, "header_text", text)
    with pytest.raises(SamplesChanged):
        written(path)


def test_zip64_is_written_where_the_signal_file_needs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    path = saved(tmp_path, ecg(Group(sines(5000, 2))))
    _, proof, record = archive_of(path, tmp_path)
    assert proof.identical
    assert record.sig_len == 5000


@pytest.mark.parametrize(("start", "count"), [(0, None), (10, 5), (0, 0), (4990, 100), (5000, 1), (9999, None)])
def test_microvolts_of_a_window(tmp_path, start, count):
    values = sines(5000, 3)
    path = saved(tmp_path, ecg(Group(values)))
    group = read_object(path).recording.rhythm()
    stop = None if count is None else start + count
    with path.open("rb") as payload:
        window = microvolts(group, payload, start, count)
    assert window.dtype == np.float64
    assert np.array_equal(window, values[start:stop] * 2.5)


def test_microvolts_of_what_cannot_be_scaled_are_refused(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(5, 2))))
    group = read_object(path).recording.rhythm()
    group = replace(group, channels=(replace(group.channels[0], microvolts=None), group.channels[1]))
    with path.open("rb") as payload, pytest.raises(CannotScale):
        microvolts(group, payload)


REAL = [Path(pydicom.data.__file__).parent / "test_files" / "waveform_ecg.dcm"]


@pytest.mark.parametrize(
    "path",
    [p for p in [*REAL, *sorted(CORPUS.glob("*ecg*.dcm")), *sorted(CORPUS.glob("cabolabs*.dcm"))] if p.is_file()],
    ids=lambda p: p.name,
)
def test_published_recordings_go_over_without_a_changed_sample(path, tmp_path):
    group, proof, record = archive_of(path, tmp_path)
    item = pydicom.dcmread(path).WaveformSequence[group.number - 1]
    assert proof.identical
    assert proof.samples_sha256 == hashlib.sha256(item.WaveformData).hexdigest()
    raw = np.frombuffer(item.WaveformData, "<i2").reshape(-1, proof.channels)
    assert np.array_equal(record.d_signal, raw)
    steps = [float(c.ChannelSensitivity) * float(c.ChannelSensitivityCorrectionFactor)
             for c in item.ChannelDefinitionSequence]  # fmt: skip
    there = raw != -32768
    assert np.abs((physical(tmp_path) - raw * steps)[there]).max() < 1e-10
