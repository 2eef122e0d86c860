import hashlib
import stat
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

import bridge.cli.convert_command as convert
from bridge.cli.convert_command import command
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines
from tests.unit.ecg.edf_reading import digital


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


@pytest.fixture
def source(tmp_path):
    return saved(tmp_path, ecg(Group(sines(5000, 12)), Group(sines(600, 12), originality="DERIVED")))


def test_convert_writes_a_private_archive_and_prints_the_proof(source, tmp_path):
    out = tmp_path / "out.zip"
    result = run(source, out)
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(out) as archive:
        assert sorted(name[-4:] for name in archive.namelist()) == [".dat", ".hea"]
    for words in ("12 channels x 5000 samples at 500 Hz, 10 s", "aVR", "format 16", "every byte", "sha256"):
        assert words in result.output
    assert "Testfrau" not in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ecg.dcm", "out.zip"]


def test_convert_writes_a_private_edf_file_and_prints_the_proof(source, tmp_path):
    out = tmp_path / "out.edf"
    result = run(source, out)
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert np.array_equal(digital(out), sines(5000, 12))
    for words in ("12 channels x 5000 samples at 500 Hz, 10 s", "aVR", "EDF+, 16 bits", "every value", " 0 µV off"):
        assert words in result.output
    assert hashlib.sha256(out.read_bytes()).hexdigest() in result.output
    assert "Testfrau" not in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ecg.dcm", "out.edf"]


def test_convert_tells_what_edf_cannot_say(tmp_path):
    source = saved(tmp_path, ecg(Group(sines(500, 2), sensitivity="0.7324219")))
    assert "at most 0.0000044 µV off" in run(source, tmp_path / "out.edf").output


@pytest.mark.parametrize(
    ("group", "asked", "other"),
    [
        (Group(sines(500, 2), sensitivity="2.5", baseline="1"), "out.zip", ".edf"),
        (Group(np.resize([-32768, 5], (500, 2)), padding=-32768), "out.edf", ".zip"),
    ],
)
def test_convert_refuses_a_form_that_is_not_exact_and_names_the_other(tmp_path, group, asked, other):
    source = saved(tmp_path, ecg(group))
    refused = run(source, tmp_path / asked)
    assert refused.exit_code == 1
    assert f"holds it exactly: name OUT with {other}" in refused.output
    assert [p.name for p in tmp_path.iterdir()] == ["ecg.dcm"]
    assert run(source, tmp_path / f"out{other}").exit_code == 0


@pytest.mark.parametrize("asked", ["out.zip", "out.edf"])
def test_convert_names_no_other_form_that_would_fail_too(tmp_path, asked):
    source = saved(tmp_path, ecg(Group(np.resize([40_000, 5], (500, 2)), "SL", 32, baseline="1")))
    refused = run(source, tmp_path / asked)
    assert refused.exit_code == 1
    assert "cannot hold it exactly either" in refused.output
    assert "name OUT" not in refused.output


def test_convert_replaces_nothing_unless_told(source, tmp_path):
    out = tmp_path / "out.zip"
    out.write_text("mine")
    assert run(source, out).exit_code == 2
    assert out.read_text() == "mine"
    assert run(source, out, "--force").exit_code == 0
    assert zipfile.is_zipfile(out)


@pytest.mark.parametrize("name", ["out.scp", "out.dat", "out"])
def test_convert_says_which_outputs_there_are(source, tmp_path, name):
    result = run(source, tmp_path / name)
    assert result.exit_code == 2
    assert ".zip" in result.output
    assert ".edf" in result.output


def test_convert_of_what_is_no_ecg_leaves_nothing(tmp_path):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"nothing")
    refused = run(bad, tmp_path / "out.zip")
    assert (refused.exit_code, "bad.dcm" in refused.output) == (1, True)
    unscaled = saved(tmp_path, ecg(Group(sines(50, 2), sensitivity=None)), "unscaled.dcm")
    held = run(unscaled, tmp_path / "out.zip")
    assert (held.exit_code, "unscaled.dcm" in held.output) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.dcm", "unscaled.dcm"]


def test_convert_into_a_folder_that_is_not_there_is_one_line(source, tmp_path):
    result = run(source, tmp_path / "gone" / "out.zip")
    assert result.exit_code == 1
    assert "No such file" in result.output


@pytest.mark.parametrize("name", ["out.zip", "out.edf"])
def test_convert_shows_progress_of_a_big_recording(source, tmp_path, monkeypatch, name):
    monkeypatch.setattr(convert, "_BIG", 1)
    result = run(source, tmp_path / name)
    assert result.exit_code == 0
    assert "writing and comparing" in result.output


def test_convert_warns_of_what_is_odd(tmp_path):
    source = saved(tmp_path, ecg(Group(sines(50, 2), padding=0)))
    assert "WaveformPaddingValue" in run(source, tmp_path / "out.zip").stderr
