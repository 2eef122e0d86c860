import pytest

from bridge.formats.dicom.lint import lint_object
from tests.unit.dicom.ecg_factory import IMPLICIT, Group, ecg, encoded, saved, sines


def remarks(path, severity):
    return {where: text for kind, where, text in lint_object(path) if kind == severity}


def test_what_stops_the_recording_is_an_error_and_stands_first(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(50, 2))))
    assert remarks(path, "E") == {}
    path.write_bytes(encoded(ecg(Group(sines(50, 2))))[:-40])
    assert lint_object(path)[0][:2] == ("E", "WaveformSequence")
    unscaled = saved(tmp_path, ecg(Group(sines(50, 2), sensitivity=None)))
    assert list(remarks(unscaled, "E")) == ["WaveformSequence[1].ChannelDefinitionSequence[1].ChannelSensitivity"]


def test_a_median_group_without_scale_is_only_a_warning(tmp_path):
    median = Group(sines(60, 2), originality="DERIVED", sensitivity=None)
    path = saved(tmp_path, ecg(Group(sines(500, 2)), median))
    assert remarks(path, "E") == {}
    assert "WaveformSequence[2].ChannelDefinitionSequence[1].ChannelSensitivity" in remarks(path, "W")


def test_ps3_3_a_34_3_4_limits_of_the_12_lead_iod(tmp_path):
    path = saved(tmp_path, ecg(*[Group(sines(16_400, 12), rate="1200")] + [Group(sines(60, 12))] * 5))
    warned = remarks(path, "W")
    assert {
        "WaveformSequence",
        "WaveformSequence[1].SamplingFrequency",
        "WaveformSequence[1].NumberOfWaveformSamples",
    } <= set(warned)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "AcquisitionDateTime", "PatientID"])
def test_missing_attributes_are_named(tmp_path, keyword):
    whole = saved(tmp_path, ecg(Group(sines(50, 2)), StudyDate="20240623"))
    without = saved(tmp_path, ecg(Group(sines(50, 2)), **{keyword: None}), "without.dcm")
    assert keyword not in remarks(whole, "W")
    assert keyword in remarks(without, "W")


def test_ps3_5_9_1_a_bad_uid_is_said_and_kept(tmp_path):
    raw = encoded(ecg(Group(sines(50, 2)))).replace(b"10.9999.2", b"10..999.2")
    path = tmp_path / "uid.dcm"
    path.write_bytes(raw)
    assert "UID" in remarks(path, "W")["StudyInstanceUID"]


def test_no_patient_value_in_remarks(tmp_path):
    text = repr(lint_object(saved(tmp_path, ecg(Group(sines(50, 2), padding=0)))))
    assert "Testfrau" not in text
    assert "TEST-0001" not in text


def in_each_channel(keyword, value=None):
    def change(item):
        for channel in item.ChannelDefinitionSequence:
            delattr(channel, keyword) if value is None else setattr(channel, keyword, value)

    return change


FIRST = "WaveformSequence[1].ChannelDefinitionSequence[1]"


@pytest.mark.parametrize(
    ("change", "severity", "where"),
    [
        (in_each_channel("ChannelSourceSequence"), "W", f"{FIRST}.ChannelSourceSequence"),
        (in_each_channel("WaveformBitsStored"), "W", f"{FIRST}.WaveformBitsStored"),
        (in_each_channel("ChannelBaseline"), "W", f"{FIRST}.ChannelBaseline"),
        (
            in_each_channel("ChannelSensitivityCorrectionFactor"),
            "W",
            f"{FIRST}.ChannelSensitivityCorrectionFactor",
        ),
        (in_each_channel("ChannelTimeSkew"), "W", f"{FIRST}.ChannelTimeSkew"),
        (
            lambda item: delattr(item.ChannelDefinitionSequence[0].ChannelSourceSequence[0], "CodeMeaning"),
            "W",
            f"{FIRST}.ChannelSourceSequence[1].CodeMeaning",
        ),
        (
            lambda item: setattr(
                item.ChannelDefinitionSequence[0].ChannelSourceSequence[0], "CodingSchemeDesignator", "99VENDOR"
            ),
            "I",
            f"{FIRST}.ChannelSourceSequence[1].CodingSchemeDesignator",
        ),
        (
            lambda item: setattr(
                item.ChannelDefinitionSequence[0].ChannelSensitivityUnitsSequence[0], "CodingSchemeDesignator", "SI"
            ),
            "W",
            f"{FIRST}.ChannelSensitivityUnitsSequence",
        ),
        (lambda item: setattr(item["WaveformData"], "VR", "OB"), "W", "WaveformSequence[1].WaveformData"),
    ],
)
def test_table_c_10_9_what_a_channel_lacks_is_named(tmp_path, change, severity, where):
    def good(item):
        in_each_channel("ChannelTimeSkew", "0")(item)

    def bad(item):
        good(item)
        change(item)

    assert where not in remarks(saved(tmp_path, ecg(Group(sines(50, 2), change_item=good))), severity)
    assert where in remarks(saved(tmp_path, ecg(Group(sines(50, 2), change_item=bad)), "bad.dcm"), severity)


def test_c_10_9_a_time_offset_is_due_where_the_clocks_agree(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(50, 2)), AcquisitionTimeSynchronized="Y"))
    assert "WaveformSequence[1].MultiplexGroupTimeOffset" in remarks(path, "W")
    path = saved(tmp_path, ecg(Group(sines(50, 2), offset_ms="0"), AcquisitionTimeSynchronized="Y"))
    assert "WaveformSequence[1].MultiplexGroupTimeOffset" not in remarks(path, "W")


def test_implicit_vr_says_no_vr_and_none_is_judged(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(50, 2)), syntax=IMPLICIT))
    assert "WaveformSequence[1].WaveformData" not in remarks(path, "W")


@pytest.mark.parametrize(
    ("groups", "severity", "words"),
    [
        ((Group(sines(50, 2)), Group(sines(60, 2))), "I", "2 original groups"),
        ((Group(sines(50, 2)), Group(sines(60, 2), leads=(3, 4))), "E", "unlike leads"),
        ((Group(sines(50, 2)), Group(sines(60, 2), originality="")), "E", "does not say that it is original"),
    ],
)
def test_several_groups_are_said_and_what_becomes_of_them(tmp_path, groups, severity, words):
    assert words in remarks(saved(tmp_path, ecg(*groups)), severity)["WaveformSequence"]


def test_a_sample_beyond_its_bits_stops_us_and_one_of_a_median_does_not(tmp_path):
    values = sines(50, 2)
    values[7, 1] = 0x0FFF
    bad = Group(values, bits_stored=12)
    where = "WaveformSequence[1].ChannelDefinitionSequence[2].WaveformBitsStored"
    assert list(remarks(saved(tmp_path, ecg(bad)), "E")) == [where]
    median = Group(values, bits_stored=12, originality="DERIVED")
    assert remarks(saved(tmp_path, ecg(Group(sines(500, 2)), median), "median.dcm"), "E") == {}


def test_nothing_is_said_of_limits_that_are_not_known(tmp_path):
    """Of General 32-bit ECG the standard's text is not at hand: only what every waveform must have is asked of it."""
    many = [Group(sines(50, 30), "SL", 32, rate="8000") for _ in range(7)]
    path = saved(tmp_path, ecg(*many, sop_class="1.2.840.10008.5.1.4.1.1.9.1.4"))
    said = [(where, text) for _, where, text in lint_object(path)]
    assert not [s for s in said if "at the most" in s[1] or "between" in s[1] or "allows" in s[1]]
    assert "AcquisitionContextSequence" not in dict(said)
