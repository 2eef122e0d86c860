"""Encodings of samples, one by one: what each says of the signal, and which of them say too little (PS3.3 C.10.9)."""

import io
import tempfile
import warnings
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from bridge.domain.recording import MultiplexGroup
from bridge.errors import BadInput, CannotScale
from bridge.formats.dicom.reader import read_object, require_scalable
from bridge.formats.dicom.sameness import digests
from bridge.formats.ecg.samples import check_samples, microvolts
from bridge.formats.ecg.scaling import trusted_padding
from bridge.formats.ecg.wfdb import write_archive
from tests.unit.dicom.ecg_factory import BIG, EXPLICIT, IMPLICIT, Group, ecg, encoded, saved, sines, without_meta

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb's own imports meet a deprecation of pandas
    import wfdb

WIDTHS = {"SB": 8, "UB": 8, "SS": 16, "US": 16, "SL": 32, "UL": 32, "SV": 64, "UV": 64}


def group_in(path: Path) -> MultiplexGroup:
    return read_object(path).recording.groups[0]


def why_not(path: Path) -> CannotScale:
    """Why the samples of the first group cannot be taken for what it says they are."""
    with path.open("rb") as payload, pytest.raises(CannotScale) as caught:
        check_samples(group_in(path), payload)
    return caught.value


def uploaded(path: Path, folder: Path) -> wfdb.Record:
    """The group's archive, as the `wfdb` package reads it."""
    out = io.BytesIO()
    with path.open("rb") as payload:
        write_archive(group_in(path), payload, out, record="r1")
    with zipfile.ZipFile(out) as archive:
        archive.extractall(folder)
    return wfdb.rdrecord(str(folder / "r1"), physical=False, return_res=64)


# --- bits stored ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interpretation", "low", "high"), [("SS", -2048, 2047), ("US", 0, 4095)])
def test_c_10_9_1_7_twelve_bits_in_sixteen_are_read_as_they_stand(tmp_path, interpretation, low, high):
    values = np.array([[low, high], [-(low + high) // 2, 0], [1, high - 1]]) if low else np.array([[0, 4095], [7, 2]])
    path = saved(tmp_path, ecg(Group(values, interpretation, bits_stored=12)))
    assert [c.bits_stored for c in group_in(path).channels] == [12, 12]
    with path.open("rb") as payload:
        assert np.array_equal(microvolts(group_in(path), payload), values * 2.5)


@pytest.mark.parametrize(
    ("interpretation", "bits", "stored", "value"),
    [
        ("SS", 16, 12, 0x0FFF),  # -1 whose sign bit was not extended
        ("SS", 16, 12, 2048),
        ("SS", 16, 12, -2049),
        ("US", 16, 12, 4096),
        ("SB", 8, 7, 64),
        ("SL", 32, 24, 1 << 23),
        ("UL", 32, 24, 1 << 24),
    ],
)
def test_c_10_9_1_7_a_sample_beyond_its_bits_is_no_signal(tmp_path, interpretation, bits, stored, value):
    values = np.zeros((4000, 3), dtype=np.int64)
    values[3990, 1] = value
    path = saved(tmp_path, ecg(Group(values, interpretation, bits, bits_stored=stored)))
    problem = why_not(path)
    assert f"{stored} bits" in str(problem)
    assert problem.where == "WaveformSequence[1].ChannelDefinitionSequence[2].WaveformBitsStored"
    with path.open("rb") as payload, pytest.raises(CannotScale):
        write_archive(group_in(path), payload, io.BytesIO(), record="r1")


def test_each_channel_has_its_own_bits(tmp_path):
    def other(item: Dataset) -> None:
        item.ChannelDefinitionSequence[1].WaveformBitsStored = 14

    values = np.array([[2047, 8191], [-2048, -8192]])
    path = saved(tmp_path, ecg(Group(values, bits_stored=12, change_item=other)))
    with path.open("rb") as payload:
        check_samples(group_in(path), payload)
    assert (
        "[1].WaveformBitsStored"
        in why_not(saved(tmp_path, ecg(Group(values[:, ::-1], bits_stored=12, change_item=other)))).where
    )


@pytest.mark.parametrize("bits", [17, 0])
def test_bits_stored_that_cannot_be_are_said_and_all_are_taken(tmp_path, bits):
    def change(item: Dataset) -> None:
        for channel in item.ChannelDefinitionSequence:
            channel.WaveformBitsStored = bits

    obj = read_object(saved(tmp_path, ecg(Group(sines(9, 2), change_item=change))))
    assert obj.recording.groups[0].channels[0].bits_stored is None
    assert "WaveformBitsStored" in obj.recording.warnings[0]


def test_bits_stored_once_for_the_group_count_for_its_channels(tmp_path):
    def change(item: Dataset) -> None:
        for channel in item.ChannelDefinitionSequence:
            del channel.WaveformBitsStored
        item.WaveformBitsStored = 12

    path = saved(tmp_path, ecg(Group(np.array([[4095], [0]]), change_item=change)))
    assert "12 bits" in str(why_not(path))


# --- padding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "trusted"),
    [
        (Group(sines(9, 2), padding=-32768), True),
        (Group(sines(9, 2), padding=0), False),
        (Group(sines(9, 2), padding=32767), False),
        (Group(sines(9, 2), padding=-32768, bits_stored=12), True),
        (Group(sines(9, 2), padding=-2048, bits_stored=12), False),
        (Group(sines(9, 2), padding=2048, bits_stored=12), True),  # no sample of 12 bits can have it
        (Group(sines(9, 2), padding=0, bits_stored=12), False),
        (Group(abs(sines(9, 2)), "US", padding=0), True),
        (Group(abs(sines(9, 2)), "US", padding=65535), False),
        (Group(abs(sines(9, 2)), "US", padding=65535, bits_stored=12), True),
        (Group(sines(9, 2, peak=99), "SB", 8, padding=-128), True),
        (Group(sines(9, 2), "SL", 32, padding=-(2**31)), True),
        (Group(sines(9, 2), "SL", 32, padding=-32768), False),
    ],
)
def test_a_padding_value_is_trusted_where_no_true_sample_has_it(tmp_path, group, trusted):
    path = saved(tmp_path, ecg(group))
    obj = read_object(path)
    assert trusted_padding(obj.recording.groups[0]) == (group.padding if trusted else None)
    assert any("WaveformPaddingValue" in w for w in obj.recording.warnings) is not trusted


def test_padding_beyond_the_bits_stored_becomes_a_missing_sample(tmp_path):
    values = sines(600, 2, peak=2000)
    values[100:200, 1] = 4095
    record = uploaded(saved(tmp_path, ecg(Group(values, bits_stored=12, padding=4095))), tmp_path)
    missing = record.d_signal == -32768
    assert missing.sum() == 100
    assert np.array_equal(record.d_signal[~missing], values[~missing])


def test_a_padding_value_shorter_than_a_sample_is_said(tmp_path):
    def change(item: Dataset) -> None:
        item.add_new("WaveformPaddingValue", "OB", b"\x80\0")

    obj = read_object(saved(tmp_path, ecg(Group(sines(9, 2), "SL", 32, change_item=change))))
    assert obj.recording.groups[0].padding is None
    assert "shorter than a sample" in obj.recording.warnings[0]


# --- byte order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpretation", "bits", "vr", "told"),
    [
        ("SB", 8, "OB", True),
        ("SB", 8, "OW", False),
        ("SS", 16, "OW", True),
        ("SS", 16, "OB", False),
        ("US", 16, "UN", False),
        ("SL", 32, "OW", False),
        ("SV", 64, "OW", False),
    ],
)
def test_ps3_5_8_3_big_endian_is_taken_where_it_says_the_order_of_the_bytes(tmp_path, interpretation, bits, vr, told):
    def change(item: Dataset) -> None:
        item["WaveformData"].VR = vr

    values = np.abs(sines(50, 3, peak=100))
    path = saved(tmp_path, ecg(Group(values, interpretation, bits, change_item=change), syntax=BIG))
    group = group_in(path)
    if told:
        with path.open("rb") as payload:
            assert np.array_equal(microvolts(group, payload), values * 2.5)
    else:
        assert "byte order" in str(why_not(path))


@pytest.mark.parametrize("vr", ["OB", "OW", "UN", "OL", "UT"])
def test_little_endian_samples_are_bytes_whatever_their_vr_says(tmp_path, vr):
    """A PACS writes the VR anew, and not always the right one (dicom_ecg.md §3.3)."""
    values = sines(50, 3)
    raw = encoded(ecg(Group(values)))
    at = raw.index(b"\x00\x54\x10\x10OW")
    path = tmp_path / "vr.dcm"
    path.write_bytes(raw[: at + 4] + vr.encode() + raw[at + 6 :])
    with path.open("rb") as payload:
        assert np.array_equal(microvolts(group_in(path), payload), values * 2.5)


def test_private_elements_stand_between(tmp_path):
    def change(item: Dataset) -> None:
        for number in (0x1455, 0x5401):
            block = item.private_block(number, "INVENTED", create=True)
            block.add_new(1, "LO", "Prüfling")
            block.add_new(2, "OB", bytes(range(200)))
            block.add_new(3, "SQ", [Dataset()])

    values = sines(50, 3)
    for syntax in (IMPLICIT, EXPLICIT, BIG):
        path = saved(tmp_path, ecg(Group(values, change_item=change), syntax=syntax))
        with path.open("rb") as payload:
            assert np.array_equal(microvolts(group_in(path), payload), values * 2.5)


# --- what the header says ---------------------------------------------------------------------------------------


def replaced(tmp_path: Path, before: bytes, after: bytes, **group: object) -> Path:
    """An object with other bytes in place of some, of the same length: what pydicom would not write."""
    raw = encoded(ecg(Group(sines(9, 2), **group)))
    assert before in raw
    assert len(before) == len(after)
    path = tmp_path / "odd.dcm"
    path.write_bytes(raw.replace(before, after))
    return path


def test_a_filter_that_is_no_number_is_left_out_and_changes_nothing_else(tmp_path):
    obj = read_object(replaced(tmp_path, b"DS\x04\x000.05", b"DS\x04\x00DC  "))
    channel = obj.recording.groups[0].channels[0]
    assert (channel.low_cut_hz, channel.high_cut_hz) == (None, 150)
    assert "FilterLowFrequency" in obj.recording.warnings[0]
    require_scalable(obj.recording.groups[0])


@pytest.mark.parametrize(
    ("where", "group"),
    [
        ("ChannelSensitivity", {"sensitivity": "7.7777"}),
        ("ChannelSensitivityCorrectionFactor", {"correction": "7.7777"}),
        ("ChannelBaseline", {"baseline": "7.7777"}),
    ],
)
@pytest.mark.parametrize("text", [b"7,7777", b"7.77u ", b"NaN   ", b"inf   "])
def test_a_scale_that_is_no_number_is_never_replaced_by_a_usual_one(tmp_path, where, group, text):
    path = replaced(tmp_path, b"7.7777", text, **group)
    assert why_not(path).where == f"WaveformSequence[1].ChannelDefinitionSequence[1].{where}"


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-2", "0.05"), (" 2.50 ", "2.5"), ("+4.88", "4.88"), (".7324219", "0.7324219"), ("1E1", "10")],
)
def test_ps3_5_6_2_ds_in_its_odd_forms(tmp_path, text, value):
    path = saved(tmp_path, ecg(Group(sines(9, 2), sensitivity=text)))
    assert Fraction(group_in(path).channels[0].sensitivity) == Fraction(value)


@pytest.mark.parametrize("rate", ["0", "-500", "1e-9", "1e9"])
def test_a_sampling_frequency_that_cannot_be_right_is_c000(tmp_path, rate):
    with pytest.raises(BadInput) as caught:
        read_object(saved(tmp_path, ecg(Group(sines(9, 2), rate=rate))))
    assert (caught.value.code, caught.value.where) == (0xC000, "WaveformSequence[1].SamplingFrequency")


def test_a_channel_status_is_said_in_the_standards_words_alone(tmp_path):
    def change(item: Dataset) -> None:
        item.ChannelDefinitionSequence[0].ChannelStatus = ["OK"]
        item.ChannelDefinitionSequence[1].ChannelStatus = ["DISCONNECTED", "MUSTER"]

    said = read_object(saved(tmp_path, ecg(Group(sines(9, 2), change_item=change)))).recording.warnings
    assert said == ("WaveformSequence[1]: channel 2: ChannelStatus is DISCONNECTED",)


def test_a_skew_that_cannot_be_read_is_a_skew(tmp_path):
    def change(item: Dataset) -> None:
        item.ChannelDefinitionSequence[0].ChannelSampleSkew = "7.7777"

    assert "skewed" in read_object(replaced(tmp_path, b"7.7777", b"soon  ", change_item=change)).recording.warnings[0]


# --- all at once ------------------------------------------------------------------------------------------------


@st.composite
def groups(draw: st.DrawFn) -> tuple[Group, str]:
    """An object's only group in any encoding that says enough, and its transfer syntax."""
    syntax = draw(st.sampled_from([IMPLICIT, EXPLICIT, BIG]))
    interpretation = draw(st.sampled_from(sorted(WIDTHS if syntax != BIG else ("SB", "UB", "SS", "US"))))
    bits = WIDTHS[interpretation]
    stored = draw(st.integers(2, min(bits, 31)))
    signed = interpretation.startswith("S")
    low, high = (-(1 << (stored - 1)) + 1, (1 << (stored - 1)) - 1) if signed else (1, (1 << stored) - 1)
    channels = draw(st.integers(1, 5))
    flat = draw(st.lists(st.integers(low, high), min_size=channels, max_size=40 * channels))
    values = np.array(flat[: len(flat) // channels * channels], dtype=np.int64).reshape(-1, channels)
    step = draw(st.sampled_from(["1", "2.5", "4.88", "5e-2", "0.7324219", "1.25"]))
    correction = draw(st.sampled_from([None, "1", "0.5", "4.88"]))
    zero = draw(st.integers(-1000, 1000))
    offset = Fraction(step) * Fraction(correction or "1") * zero
    baseline = str(float(offset))
    return Group(
        values,
        interpretation,
        bits,
        bits_stored=stored,
        rate=draw(st.sampled_from(["500", "1000", "128.2051", "499.5", "1e3"])),
        scheme=draw(st.sampled_from(["SCPECG", "MDC"])),
        sensitivity=step,
        correction=correction,
        baseline=baseline if len(baseline) <= 16 and Fraction(baseline) == offset else "0",
        units=draw(st.sampled_from(["uV", "mV"])),
        padding=draw(st.sampled_from([None, 0] + ([-(1 << (bits - 1))] if signed else []))),
    ), syntax


@settings(max_examples=150, deadline=None)
@given(groups(), st.booleans())
def test_every_encoding_goes_to_wfdb_value_for_value(given_group, undefined_lengths):
    group, syntax = given_group
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = saved(folder, ecg(group, syntax=syntax), undefined_lengths=undefined_lengths)
        record = uploaded(path, folder)
        shift = 32768 if record.fmt[0] == "16" and group.interpretation == "US" else 0
        assert np.array_equal(record.d_signal + shift, group.values)
        assert record.fs == float(group.rate)
        scale = Fraction(group.sensitivity) * Fraction(group.correction or "1") * (1 if group.units == "uV" else 1000)
        offset = Fraction(group.baseline) * (1 if group.units == "uV" else 1000)
        expected = group.values * float(scale) + float(offset)
        tolerance = 1e-12 * (np.abs(group.values * float(scale)).max() + 70_000 * float(scale) + abs(float(offset)) + 1)
        assert np.abs(record.dac() * 1000 - expected).max() <= tolerance


# --- cut short --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("group", [Group(sines(120, 3, peak=99), "SB", 8), Group(sines(120, 3), "SS", bits_stored=12)])
def test_f5_a_data_set_cut_at_every_97th_byte_is_c000(tmp_path, syntax, group):
    raw = without_meta(ecg(group, group, syntax=syntax))
    path = tmp_path / "cut.dcm"
    codes = set()
    for size in range(0, len(raw), 97):
        path.write_bytes(raw[:size])
        with pytest.raises(BadInput) as caught:
            read_object(path)
        codes.add(caught.value.code)
    assert codes == {0xC000}


def test_f29_an_object_whose_correction_is_zero_has_digests_like_any_other(tmp_path: Path) -> None:
    zero, one = (
        saved(tmp_path, ecg(Group(sines(20, 2), correction=correction)), f"{correction}.dcm")
        for correction in ("0", "1")
    )
    assert digests(read_object(zero)).waveform != digests(read_object(one)).waveform
