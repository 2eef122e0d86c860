"""Which form an upload takes: the one that the site prefers where it is exact, else the other, else none."""

import io

import numpy as np
import pytest

from bridge.errors import CannotScale
from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.proof import Form, Proof
from bridge.formats.ecg.upload import write_upload
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines


def upload(folder, group: Group, preferred: Form) -> tuple[Proof, bytes]:
    path = saved(folder, ecg(group))
    out = io.BytesIO()
    with path.open("rb") as payload:
        rhythm = read_object(path).recording.rhythm()
        proof = write_upload(rhythm, payload, out, record="r", preferred=preferred)
    return proof, out.getvalue()


def is_form(content: bytes) -> Form:
    return Form.WFDB if content.startswith(b"PK\x03\x04") else Form.EDF


ORDINARY = Group(sines(500, 2), padding=-32768)
BETWEEN_STEPS = Group(sines(500, 2), sensitivity="2.5", baseline="1")
RAIL = Group(np.resize([-32768, 32767], (500, 2)), sensitivity="4.88")
MISSING = Group(np.resize([-32768, 5, 6], (500, 2)), padding=-32768)
WIDE = Group(np.resize([40_000, 5], (500, 2)), "SL", 32)
ODD_LENGTH = Group(sines(1283, 2), rate="128")


@pytest.mark.parametrize("preferred", Form)
def test_an_ordinary_recording_goes_as_the_site_prefers(tmp_path, preferred):
    proof, content = upload(tmp_path, ORDINARY, preferred)
    assert proof.form is preferred is is_form(content)
    assert proof.instead == ""


def test_a_baseline_between_two_steps_goes_as_edf(tmp_path):
    proof, content = upload(tmp_path, BETWEEN_STEPS, Form.WFDB)
    assert proof.form is Form.EDF is is_form(content)
    assert proof.deviation == 0
    assert "ChannelBaseline" in proof.instead


@pytest.mark.parametrize(
    ("group", "where"),
    [
        (RAIL, "ChannelSensitivity"),
        (MISSING, "WaveformPaddingValue"),
        (WIDE, "WaveformData"),
        (ODD_LENGTH, "NumberOfWaveformSamples"),
    ],
)
def test_what_edf_cannot_hold_goes_as_wfdb(tmp_path, group, where):
    proof, content = upload(tmp_path, group, Form.EDF)
    assert proof.form is Form.WFDB is is_form(content)
    assert where in proof.instead
    assert upload(tmp_path, group, Form.WFDB)[0].instead == ""


@pytest.mark.parametrize("group", [ORDINARY, BETWEEN_STEPS, MISSING])
def test_the_samples_have_one_hash_whatever_the_form(tmp_path, group):
    assert len({upload(tmp_path, group, form)[0].samples_sha256 for form in Form}) == 1


@pytest.mark.parametrize("preferred", Form)
def test_what_neither_holds_is_refused_with_both_reasons(tmp_path, preferred):
    neither = Group(np.resize([40_000, 5], (500, 2)), "SL", 32, baseline="1")
    with pytest.raises(CannotScale) as refused:
        upload(tmp_path, neither, preferred)
    for word in ("WFDB", "ChannelBaseline", "EDF+", "WaveformData"):
        assert word in str(refused.value)
    assert refused.value.where == "WaveformSequence[1]"


@pytest.mark.parametrize("preferred", Form)
def test_what_has_no_voltage_is_refused_once(tmp_path, preferred):
    with pytest.raises(CannotScale, match=r"^the channel has no sensitivity"):
        upload(tmp_path, Group(sines(500, 2), sensitivity=None), preferred)


def test_nothing_of_the_form_that_failed_is_left(tmp_path):
    proof, content = upload(tmp_path, Group(MISSING.values.repeat(100, axis=0), padding=-32768), Form.EDF)
    assert len(content) == proof.total_size
    assert b"X X X X" not in content


@pytest.mark.parametrize("preferred", Form)
def test_the_same_object_gives_the_same_bytes(tmp_path, preferred):
    for group in (ORDINARY, BETWEEN_STEPS, MISSING):
        assert upload(tmp_path, group, preferred)[1] == upload(tmp_path, group, preferred)[1]
