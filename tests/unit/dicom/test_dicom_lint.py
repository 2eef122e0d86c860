import pytest

from bridge.formats.dicom.lint import lint_object
from tests.unit.dicom.ecg_factory import Group, ecg, encoded, saved, sines


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
