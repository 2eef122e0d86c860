import io
import resource
from decimal import Decimal
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from bridge.domain.recording import Originality, Recording
from bridge.errors import BadInput, CannotScale
from bridge.formats.dicom.part10 import read_part10
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, read_object, require_scalable
from tests.unit.dicom.ecg_factory import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    Group,
    ecg,
    encoded,
    saved,
    sines,
    without_meta,
)

NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
CHARSETS = Path(pydicom.data.__file__).parent / "charset_files"
CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "dicom"


def refused(path: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_object(path)
    assert caught.value.code == 0xC000
    return caught.value


def read_or_code(path: Path) -> Recording | int:
    try:
        return read_object(path).recording
    except BadInput as problem:
        return problem.code


def group_of(folder: Path, group: Group):
    return read_object(saved(folder, ecg(group))).recording.groups[0]


@pytest.mark.parametrize("undefined_lengths", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_samples_are_found_in_every_encoding(tmp_path, syntax, undefined_lengths):
    values = sines(500, 12)
    ds = ecg(Group(values), Group(values[:60], originality="DERIVED", label=""), syntax=syntax)
    obj = read_object(saved(tmp_path, ds, undefined_lengths=undefined_lengths))
    rhythm, median = obj.recording.groups
    assert obj.recording.transfer_syntax_uid == syntax
    assert (rhythm.number, rhythm.originality, rhythm.label, rhythm.rate) == (
        1, Originality.ORIGINAL, "RHYTHM", Decimal(500),
    )  # fmt: skip
    assert (median.number, median.originality, median.samples) == (2, Originality.DERIVED, 60)
    raw = obj.path.read_bytes()
    for group, expected in ((rhythm, values), (median, values[:60])):
        found = np.frombuffer(raw[group.offset :][: group.length], dtype=group.dtype)
        assert np.array_equal(found.reshape(-1, 12), expected)
    assert [c.lead for c in rhythm.channels] == list(NAMES)
    first = rhythm.channels[0]
    assert (first.sensitivity, first.correction, first.baseline, first.microvolts) == (Decimal("2.5"), 1, 0, 1)
    assert (first.low_cut_hz, first.high_cut_hz, first.notch_hz) == (Decimal("0.05"), Decimal(150), None)
    assert obj.recording.warnings == ()
    assert obj.recording.rhythm() is rhythm


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_ps3_10_header_less_files_are_read(tmp_path, syntax):
    path = tmp_path / "bare"
    path.write_bytes(without_meta(ecg(Group(sines(50, 12)), syntax=syntax)))
    obj = read_object(path)
    assert obj.recording.transfer_syntax_uid == syntax
    assert obj.recording.warnings


def test_ps3_10_file_without_preamble_is_read(tmp_path):
    path = tmp_path / "bare"
    path.write_bytes(encoded(ecg(Group(sines(50, 12))))[132:])
    assert read_object(path).recording.transfer_syntax_uid == EXPLICIT


def test_source_gives_values_with_addresses_that_find_them_again(tmp_path):
    ds = ecg(Group(sines(50, 12)))
    ds.AdmittingDiagnosesDescription = ["Chest pain", "", "Palpitations "]
    ds.RequestAttributesSequence = [pydicom.Dataset(), pydicom.Dataset()]
    for item, number in zip(ds.RequestAttributesSequence, ("A1", "A2"), strict=True):
        item.AccessionNumber = number
    ds.PatientSize = "1.70"
    source = read_object(saved(tmp_path, ds)).source

    def flat(address):
        return [(f.value, f.where) for f in source.find(address)]

    assert flat("PatientID") == [("TEST-0001", "PatientID")]
    assert flat("PatientSize") == [("1.70", "PatientSize")]
    assert flat("AdmittingDiagnosesDescription") == [
        ("Chest pain", "AdmittingDiagnosesDescription[1]"),
        ("Palpitations", "AdmittingDiagnosesDescription[3]"),
    ]
    assert flat("RequestAttributesSequence.AccessionNumber") == [
        ("A1", "RequestAttributesSequence[1].AccessionNumber"),
        ("A2", "RequestAttributesSequence[2].AccessionNumber"),
    ]
    for address in ("AdmittingDiagnosesDescription", "RequestAttributesSequence.AccessionNumber", "PatientName"):
        for found in source.find(address):
            assert source.find(found.where) == [found]
    for nothing in ("AccessionNumber", "@peer", "NoSuchKeyword", "RequestAttributesSequence", "WaveformSequence", ""):
        assert source.find(nothing) == []
    assert [f.value for f in source.find("WaveformSequence[1].NumberOfWaveformChannels")] == ["12"]


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller-Testfrau^Jörg"),
        ("ISO_IR 192", "Testfrau^Erika=試験^花子"),
        ("ISO_IR 144", "Тестова^Эрика"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_ps3_5_6_1_2_names_are_decoded_by_character_set(tmp_path, charset, name):
    obj = read_object(saved(tmp_path, ecg(Group(sines(50, 12)), SpecificCharacterSet=charset, PatientName=name)))
    assert [f.value for f in obj.source.find("PatientName")] == [name]
    assert obj.recording.warnings == ()


@pytest.mark.parametrize("path", sorted(CHARSETS.glob("*.dcm")), ids=lambda p: p.stem)
def test_ps3_5_6_1_2_names_agree_with_pydicom_on_its_own_samples(path):
    with path.open("rb") as file:
        data_set = read_part10(file).data_set
    expected = pydicom.dcmread(path)
    expected.decode()
    assert data_set.text("PatientName") == str(expected.get("PatientName", "")).rstrip()


def test_undeclared_character_set_is_said(tmp_path):
    ds = ecg(Group(sines(50, 12)), SpecificCharacterSet="ISO_IR 192", PatientName="Tästfrau^Erika")
    raw = encoded(ds).replace(b"ISO_IR 192", b"ISO_IR 6  ")
    path = tmp_path / "ecg.dcm"
    path.write_bytes(raw)
    assert any("character set" in w for w in read_object(path).recording.warnings)


def test_f5_truncation_at_every_97th_byte_is_bad_input_or_the_whole_recording(tmp_path):
    ds = ecg(Group(sines(150, 12)), Group(sines(60, 12), originality="DERIVED"))
    ds.DataSetTrailingPadding = bytes(40)
    path = tmp_path / "cut.dcm"
    whole_reads = 0
    for undefined_lengths in (False, True):
        raw = encoded(ds, undefined_lengths=undefined_lengths)
        path.write_bytes(raw)
        full = read_object(path).recording
        end_of_waveform = len(raw) - 52
        for size in [*range(0, len(raw), 97), *range(len(raw) - 70, len(raw))]:
            path.write_bytes(raw[:size])
            cut = read_or_code(path)
            if cut != 0xC000:
                assert size >= end_of_waveform
                assert cut == full
                whole_reads += 1
    assert whole_reads == 2  # only the cut that takes exactly the padding away


def test_f5_an_error_of_our_own_disk_is_no_bad_input(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "gone.dcm")
    with pytest.raises(IsADirectoryError):
        read_object(tmp_path)


def test_f5_garbled_bytes_end_as_bad_input_or_as_a_reading(tmp_path):
    raw = encoded(ecg(Group(sines(20, 2))))
    path = tmp_path / "garbled.dcm"
    random = np.random.default_rng(7)
    refusals = 0
    for _ in range(400):
        bad = bytearray(raw)
        for at in random.integers(0, len(raw), 6):
            bad[at] = random.integers(256)
        path.write_bytes(bad)
        outcome = read_or_code(path)
        assert isinstance(outcome, Recording) or outcome == 0xC000
        refusals += outcome == 0xC000
    assert 50 < refusals < 400


def nested(depth: int) -> bytes:
    """`depth` sequences of undefined length, one in another, closed again."""
    open_one = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close_one = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return open_one * depth + close_one * depth


def test_f28_depth_limit_and_one_past_it(tmp_path):
    raw = without_meta(ecg(Group(sines(20, 2))))
    at = raw.index(b"\x00\x54\x00\x01SQ")
    path = tmp_path / "deep.dcm"
    path.write_bytes(raw[:at] + nested(16) + raw[at:])
    read_object(path)
    for depth in (17, 300, 5000):
        path.write_bytes(raw[:at] + nested(depth) + raw[at:])
        assert "nested" in str(refused(path))


def test_f28_element_limit(tmp_path):
    ds = ecg(Group(sines(20, 2)))
    ds.WaveformAnnotationSequence = [pydicom.Dataset() for _ in range(20_000)]
    assert "elements" in str(refused(saved(tmp_path, ds)))


def test_f28_header_of_many_large_values_is_refused_without_loading_them(tmp_path):
    ds = ecg(Group(sines(20, 2)))
    block = ds.private_block(0x0009, "TEST", create=True)
    block.add_new(1, "OB", bytes(40_000_000))  # longer than any value that we read: found, not loaded
    path = saved(tmp_path, ds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_object(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000
    for n in range(2, 250):
        block.add_new(n, "OB", bytes(65_536))
    read_object(saved(tmp_path, ds))
    del ds[0x0009, 0x1001]
    more = ds.private_block(0x0011, "TEST", create=True)
    for n in range(1, 20):
        more.add_new(n, "OB", bytes(65_536))
    assert "too large" in str(refused(saved(tmp_path, ds)))


def test_an_element_that_stands_twice_is_refused(tmp_path):
    raw = without_meta(ecg(Group(sines(20, 2))))
    at = raw.index(b"\x10\x00\x20\x00LO")
    element = raw[at : raw.index(b"\x10\x00\x30\x00DA")]
    path = tmp_path / "twice.dcm"
    path.write_bytes(raw[:at] + element + raw[at:])
    assert refused(path).where == "PatientID"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda i: delattr(i, "WaveformData"), "WaveformSequence[1].WaveformData"),
        (lambda i: setattr(i, "NumberOfWaveformSamples", 51), "WaveformSequence[1].WaveformData"),
        (lambda i: setattr(i, "NumberOfWaveformSamples", 0), "WaveformSequence[1].NumberOfWaveformSamples"),
        (lambda i: setattr(i, "SamplingFrequency", "0"), "WaveformSequence[1].SamplingFrequency"),
        (lambda i: delattr(i, "SamplingFrequency"), "WaveformSequence[1].SamplingFrequency"),
        (lambda i: setattr(i, "WaveformBitsAllocated", 24), "WaveformSequence[1].WaveformSampleInterpretation"),
        (
            lambda i: setattr(i, "WaveformSampleInterpretation", "XX"),
            "WaveformSequence[1].WaveformSampleInterpretation",
        ),
        (lambda i: i.ChannelDefinitionSequence.pop(), "WaveformSequence[1].ChannelDefinitionSequence"),
    ],
)
def test_c000_names_what_makes_the_samples_unreadable(tmp_path, change, where):
    assert refused(saved(tmp_path, ecg(Group(sines(50, 3), change_item=change)))).where == where


def test_c000_for_what_is_no_ecg_object(tmp_path):
    path = tmp_path / "thing"
    for content in (b"", b"\x08", b"\x08\x00", b"hello world" * 40, bytes(4000), b"\0" * 128 + b"DICM"):
        path.write_bytes(content)
        refused(path)
    assert refused(saved(tmp_path, ecg())).where == "WaveformSequence"
    deflated = encoded(ecg(Group(sines(20, 2)))).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    path.write_bytes(deflated)
    assert refused(path).where == "TransferSyntaxUID"


def test_no_patient_value_in_a_refusal(tmp_path):
    ds = ecg(Group(sines(50, 3), change_item=lambda i: setattr(i, "NumberOfWaveformSamples", 51)))
    text = str(refused(saved(tmp_path, ds)))
    assert "Testfrau" not in text
    assert "TEST-0001" not in text


def test_more_data_than_declared_is_a_warning_and_the_declared_count_stays(tmp_path):
    obj = read_object(saved(tmp_path, ecg(Group(sines(50, 12), tail=bytes(24)))))
    assert obj.recording.groups[0].samples == 50
    assert obj.recording.groups[0].length == 50 * 12 * 2
    assert "24 bytes more" in obj.recording.warnings[0]


def test_ps3_5_one_pad_byte_is_no_surplus(tmp_path):
    obj = read_object(saved(tmp_path, ecg(Group(sines(51, 3, peak=100), "SB", 8))))
    assert obj.recording.groups[0].length == 153
    assert obj.recording.warnings == ()


def test_padding_value_is_read_in_the_samples_own_type(tmp_path):
    values = sines(50, 2, peak=100)
    for interpretation, bits, value in (("SS", 16, -32768), ("US", 16, 0), ("SB", 8, -128), ("SL", 32, -(2**31))):
        group = group_of(tmp_path, Group(abs(values), interpretation, bits, padding=value))
        assert group.padding == value
    big = read_object(saved(tmp_path, ecg(Group(values, padding=-32768), syntax=BIG))).recording.groups[0]
    assert big.padding == -32768


def test_padding_value_of_zero_is_said(tmp_path):
    obj = read_object(saved(tmp_path, ecg(Group(sines(50, 2), padding=0))))
    assert "WaveformPaddingValue" in obj.recording.warnings[0]


def test_channel_skew_is_said(tmp_path):
    def skew(item):
        item.ChannelDefinitionSequence[1].ChannelTimeSkew = "0.0005"

    assert "skewed" in read_object(saved(tmp_path, ecg(Group(sines(50, 2), change_item=skew)))).recording.warnings[0]


def test_ds_numbers_are_exact_and_nonsense_cannot_be_scaled(tmp_path):
    assert group_of(tmp_path, Group(sines(5, 2), sensitivity="5e-2")).channels[0].sensitivity == Decimal("0.05")
    ds = ecg(Group(sines(5, 2), sensitivity="2.5"))
    raw = encoded(ds).replace(b"DS\x04\x002.5 ", b"DS\x04\x002_.5")
    path = tmp_path / "odd.dcm"
    path.write_bytes(raw)
    with pytest.raises(CannotScale, match="no number") as caught:
        require_scalable(read_object(path).recording.groups[0])
    assert caught.value.where == "WaveformSequence[1].ChannelDefinitionSequence[1].ChannelSensitivity"


@pytest.mark.parametrize(
    ("group", "where"),
    [
        (Group(sines(5, 2), sensitivity=None), "ChannelDefinitionSequence[1].ChannelSensitivity"),
        (Group(sines(5, 2), sensitivity=["1", "0"]), "ChannelDefinitionSequence[2].ChannelSensitivity"),
        (Group(sines(5, 2), sensitivity="-1"), "ChannelDefinitionSequence[1].ChannelSensitivity"),
        (Group(sines(5, 2), sensitivity="1e99"), "ChannelDefinitionSequence[1].ChannelSensitivity"),
        (Group(sines(5, 2), units="mm[Hg]"), "ChannelDefinitionSequence[1].ChannelSensitivityUnitsSequence"),
        (Group(sines(5, 2), baseline="1e99"), "ChannelDefinitionSequence[1].ChannelBaseline"),
        (Group(abs(sines(5, 2, peak=100)), "MB", 8), "WaveformData"),
    ],
)
def test_whole_object_without_a_voltage_is_read_and_cannot_be_scaled(tmp_path, group, where):
    with pytest.raises(CannotScale) as caught:
        require_scalable(group_of(tmp_path, group))
    assert caught.value.where == f"WaveformSequence[1].{where}"


@pytest.mark.parametrize(("units", "factor"), [("uV", 1), ("mV", 1000), ("V", 1_000_000), ("nV", Decimal("0.001"))])
def test_ucum_voltages(tmp_path, units, factor):
    group = group_of(tmp_path, Group(sines(5, 2), units=units))
    require_scalable(group)
    assert group.channels[0].microvolts == factor


def test_sop_classes_are_those_of_the_standard():
    assert {pydicom.uid.UID(uid).name for uid in list(ECG_SOP_CLASSES)[:3]} == set(list(ECG_SOP_CLASSES.values())[:3])
    assert list(ECG_SOP_CLASSES) == [f"1.2.840.10008.5.1.4.1.1.9.1.{n}" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("header", "removed"),
    [
        ({}, False),
        ({"PatientIdentityRemoved": "YES"}, True),
        ({"PatientIdentityRemoved": "NO", "DeidentificationMethod": "names only"}, False),
        ({"DeidentificationMethod": "all"}, True),
    ],
)
def test_anonymous_objects_are_flagged(tmp_path, header, removed):
    assert read_object(saved(tmp_path, ecg(Group(sines(5, 2)), **header))).patient_identity_removed is removed


def test_vr_un_is_read_by_the_dictionary(tmp_path):
    """PS3.5 §6.2.2: a gateway that did not know an attribute sends it as UN, a sequence as implicit little endian."""
    raw = without_meta(ecg(Group(sines(5, 2))))
    inner = b"\x08\x00\x50\x00\x02\0\0\0A7"
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    at = raw.index(b"\x00\x54\x00\x01SQ")
    sequence = b"\x40\x00\x75\x02UN\0\0" + len(item).to_bytes(4, "little") + item
    path = tmp_path / "un.dcm"
    path.write_bytes(raw[:at] + sequence + raw[at:])
    assert [f.value for f in read_object(path).source.find("RequestAttributesSequence.AccessionNumber")] == ["A7"]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published objects are not beside the repository")
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.dcm")), ids=lambda p: p.name)
def test_published_objects_agree_with_pydicom(path):
    try:
        ds = pydicom.dcmread(io.BytesIO(path.read_bytes()), force=True)
        expected = list(ds.get("WaveformSequence", []))
    except EOFError:
        expected = []
    if not expected:
        refused(path)
        return
    obj = read_object(path)
    for group, item in zip(obj.recording.groups, expected, strict=True):
        assert path.read_bytes()[group.offset :][: group.length] == item.WaveformData[: group.length]
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "AcquisitionDateTime"):
        assert [f.value for f in obj.source.find(keyword)] == [v for v in [str(ds.get(keyword) or "")] if v]
