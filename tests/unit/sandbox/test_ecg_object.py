"""Objects as carts make them: conformant, deterministic, and the samples in them are the ones that went in."""

import subprocess
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bridge.sandbox.ecg_object import LEAD_NUMBERS, Device, Kind, LeadCodes, Scale, Subject, build, write
from bridge.sandbox.ecg_signal import TWELVE, ecg
from bridge.sandbox.samples import SAMPLES, write_samples

START = datetime(2026, 9, 14, 8, 41, 20, tzinfo=timezone(timedelta(hours=2)))
SUBJECT = Subject("T1", "Testfrau^Erika", "19640812", "F", issuer="TESTHAUS")
FOLDER = Path(__file__).parents[3] / "sample_messages"


def made(**options):
    arguments = {"rate": 500, "seed": "t", "subject": SUBJECT, "start": START} | options
    signal = arguments.pop("signal", None)
    return build(ecg(seconds=1, rate=arguments["rate"]) if signal is None else signal, **arguments)


def reread(dataset):
    buffer = BytesIO()
    write(buffer, dataset)
    buffer.seek(0)
    return pydicom.dcmread(buffer), buffer.getvalue()


def microvolts(group, number):
    """One channel by C.10.9.1.4.2, with arithmetic of this test."""
    width = {16: "<i2", 32: "<i4"}[group.WaveformBitsAllocated]
    samples = np.frombuffer(group.WaveformData, width).reshape(-1, group.NumberOfWaveformChannels)[:, number]
    channel = group.ChannelDefinitionSequence[number]
    step = Decimal(str(channel.ChannelSensitivity)) * Decimal(str(channel.ChannelSensitivityCorrectionFactor))
    return samples * float(step) + float(channel.ChannelBaseline)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    "scale",
    [
        Scale(),
        Scale(Decimal("2.5")),
        Scale(Decimal(1), Decimal("4.88")),
        Scale(Decimal("2.5"), baseline=Decimal("-117.25")),
        Scale(Decimal("0.02"), bits=32),
    ],
    ids=str,
)
def test_ps33_c_10_9_1_4_2_samples_scale_back_to_the_microvolts_within_half_a_step(scale, implicit):
    signal = ecg(seconds=1, rate=500, seed=4)
    kind = Kind.GENERAL_32 if scale.bits == 32 else Kind.TWELVE_LEAD
    back, _ = reread(made(signal=signal, scale=scale, implicit=implicit, kind=kind))
    assert back.file_meta.TransferSyntaxUID.is_implicit_VR is implicit
    group = back.WaveformSequence[0]
    assert len(group.WaveformData) == 500 * 12 * scale.bits // 8
    step = float(scale.sensitivity * scale.correction)
    for number in range(12):
        assert np.abs(microvolts(group, number) - signal[:, number]).max() <= step / 2 + 1e-9


def test_the_same_call_gives_the_same_bytes_and_another_seed_other_uids():
    (first, bytes_one), (_, bytes_two) = reread(made()), reread(made())
    other, _ = reread(made(seed="u"))
    assert bytes_one == bytes_two
    uids = [first.SOPInstanceUID, first.SeriesInstanceUID, first.StudyInstanceUID]
    uids += [other.SOPInstanceUID, other.SeriesInstanceUID, other.StudyInstanceUID]
    assert len(set(uids)) == 6
    assert all(uid.is_valid and uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@pytest.mark.parametrize(("codes", "pattern"), [(LeadCodes.SCPECG, "5.6.3-9-{}"), (LeadCodes.MDC, "2:{}")])
def test_ps316_cid_3001_each_lead_has_its_own_code(codes, pattern):
    back, _ = reread(made(codes=codes))
    sources = [c.ChannelSourceSequence[0] for c in back.WaveformSequence[0].ChannelDefinitionSequence]
    assert [s.CodeValue for s in sources] == [pattern.format(LEAD_NUMBERS[lead]) for lead in TWELVE]
    assert {s.CodingSchemeDesignator for s in sources} == {codes.value}
    assert [LEAD_NUMBERS[lead] for lead in ("I", "II", "III", "aVF", "V1", "V6")] == [1, 2, 61, 64, 3, 8]


def test_the_median_group_is_derived_and_behind_the_rhythm():
    median = ecg(seconds=1.2, rate=500, heart_rate=50, noise=0)
    back, _ = reread(made(median=median))
    rhythm, beat = back.WaveformSequence
    assert (rhythm.WaveformOriginality, beat.WaveformOriginality) == ("ORIGINAL", "DERIVED")
    assert beat.NumberOfWaveformSamples == 600
    assert np.abs(microvolts(beat, 1) - median[:, 1]).max() <= 2.44


def test_without_sensitivity_nothing_of_the_scale_is_there():
    back, _ = reread(made(scale=Scale(None)))
    for channel in back.WaveformSequence[0].ChannelDefinitionSequence:
        assert not [e.keyword for e in channel if e.keyword.startswith("ChannelSens") or e.keyword == "ChannelBaseline"]


def test_the_zone_is_said_by_an_aware_start_and_left_open_by_a_naive_one():
    aware, _ = reread(made())
    naive, _ = reread(made(start=START.replace(tzinfo=None)))
    west, _ = reread(made(start=START.astimezone(UTC) - timedelta(days=1)))
    assert aware.AcquisitionDateTime == naive.AcquisitionDateTime == "20260914084120"
    assert aware.TimezoneOffsetFromUTC == "+0200"
    assert west.TimezoneOffsetFromUTC == "+0000"
    assert "TimezoneOffsetFromUTC" not in naive


@pytest.mark.parametrize(
    ("charset", "name", "raw"),
    [
        ("ISO_IR 100", "Müller-Muster^Erika", b"M\xfcller-Muster^Erika"),
        ("ISO_IR 101", "Łącki-Testowy^Jan", b"\xa3\xb1cki-Testowy^Jan"),
        ("ISO_IR 192", "ΔΟΚΙΜΑΣΤΙΚΟΣ^ΓΙΩΡΓΟΣ", "ΔΟΚΙΜΑΣΤΙΚΟΣ^ΓΙΩΡΓΟΣ".encode()),
        (("", "ISO 2022 IR 87"), "Yamada^Hanako=山田^花子", b"Yamada^Hanako=\x1b$B;3ED\x1b(B^\x1b$B2V;R\x1b(B"),
    ],
)
def test_ps35_6_1_names_are_written_in_the_declared_character_set(charset, name, raw):
    back, written = reread(made(charset=charset, subject=Subject("T1", name)))
    assert str(back.PatientName) == name
    assert raw in written


def test_a_sample_without_room_is_refused_not_wrapped():
    loud = np.full((10, 12), 40_000, dtype=np.int32)
    with pytest.raises(OverflowError, match="16 bits"):
        made(signal=loud, scale=Scale(Decimal(1)))
    least = np.full((10, 12), -32_768, dtype=np.int32)
    with pytest.raises(OverflowError):  # the padding value is no sample
        made(signal=least, scale=Scale(Decimal(1)))


def test_one_column_for_each_lead():
    with pytest.raises(ValueError, match="one column"):
        made(leads=("I", "II"))


def test_patient_device_and_order_number_are_where_c_stores_look():
    subject = Subject("T1", "Testfrau^Erika", age="062Y", metres="1.71", kilograms="80.25", diagnoses=("a", "b"))
    back, _ = reread(
        made(subject=subject, device=Device(serial="S9", station="ST9"), accession="A1", statement="Sinus")
    )
    assert (back.PatientAge, str(back.PatientSize), str(back.PatientWeight)) == ("062Y", "1.71", "80.25")
    assert (back.DeviceSerialNumber, back.StationName, back.AccessionNumber) == ("S9", "ST9", "A1")
    assert list(back.AdmittingDiagnosesDescription) == ["a", "b"]
    assert back.WaveformAnnotationSequence[0].UnformattedTextValue == "Sinus"


def test_the_samples_in_the_folder_are_what_the_generator_makes(tmp_path):
    written = write_samples(tmp_path)
    assert [path.name for path in written] == sorted(path.name for path in FOLDER.glob("*.dcm")) == list(SAMPLES)
    for path in written:
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), f"{path.name}: python -m bridge.sandbox.samples"
        assert path.stat().st_size <= 300_000


def test_every_hl7_sample_is_one_message_or_batch_and_is_decodable_as_it_declares():
    messages = sorted(FOLDER.glob("*.hl7"))
    assert len(messages) >= 16
    seen = set()
    for path in messages:
        body = path.read_bytes()
        assert body[:3] in {b"MSH", b"FHS"}
        text = body.decode("latin-1" if b"|8859/1\r" in body else "utf-8")
        if path.name != "25_orm_o01_filler_number_line_feeds.hl7":
            assert "\n" not in text
            assert text.endswith("\r")
        if path.name != "04_orm_o01_resend.hl7":
            ids = {line.split("|")[9] for line in text.replace("\n", "\r").split("\r") if line.startswith("MSH")}
            assert not ids & seen
            seen |= ids
    assert (FOLDER / "02_orm_o01_order.hl7").read_bytes() == (FOLDER / "04_orm_o01_resend.hl7").read_bytes()


def test_the_samples_readme_has_a_row_for_every_file():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")]
    assert rows == sorted(path.name for path in FOLDER.iterdir() if path.suffix in {".hl7", ".dcm"})


@pytest.mark.peer
def test_dcmtk_reads_every_sample_without_a_complaint(peer):
    for path in sorted(FOLDER.glob("*.dcm")):
        read = subprocess.run([peer("dcmdump"), path], capture_output=True, check=False, timeout=30)
        assert read.returncode == 0, read.stderr
        assert read.stderr == b""
