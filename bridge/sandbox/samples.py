"""The DICOM ECGs of `sample_messages/`, made anew byte for byte: `python -m bridge.sandbox.samples [FOLDER]`.

The HL7 messages beside them are written by hand; their README tells the story that all of them play.
"""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from pydicom.dataset import Dataset

from bridge.sandbox.ecg_object import Device, Kind, LeadCodes, Scale, Subject, build, write
from bridge.sandbox.ecg_signal import Rhythm, ecg

_ISSUER = "MUSTERKLINIK"
_SUMMER = timezone(timedelta(hours=2))

ERIKA = Subject("4711001", "Müller-Muster^Erika", "19640812", "F", issuer=_ISSUER)
JAN = Subject("4711002", "Łącki-Testowy^Jan", "19510302", "M", issuer=_ISSUER)
HANAKO = Subject("4711003", "Yamada^Hanako=山田^花子", "19881123", "F", issuer=_ISSUER)
METTE = Subject("4711004", "Østergård-Prøve^Mette", "19790530", "F")
GIORGOS = Subject("4711005", "ΔΟΚΙΜΑΣΤΙΚΟΣ^ΓΙΩΡΓΟΣ", "19461206", "M", issuer=_ISSUER)
JOSE = Subject("4711006", "Ñandú-Prueba^José", age="068Y", metres="1.71", kilograms="80.25")


def _at(hour: int, minute: int, zone: timezone | None = None) -> datetime:
    """A moment of the day on which the story plays."""
    return datetime(2026, 9, 14, hour, minute, 20, tzinfo=zone)


def _for_order() -> Dataset:
    """What most carts send: 12 leads, 500 Hz, 4.88 µV a step, the median beat as a second group.

    Both groups together have more channels than the 12-lead class allows (13, PS3.3 A.34.3.4): as real carts do.
    """
    return build(
        ecg(seconds=10, rate=500, heart_rate=72, seed=3),
        rate=500,
        seed="03",
        subject=ERIKA,
        start=_at(8, 41, _SUMMER),
        median=ecg(seconds=1.2, rate=500, heart_rate=50, noise=0),
        accession="EKG260914002",
        charset="ISO_IR 100",
        statement="Sinus rhythm (invented)",
    )


def _implicit_with_correction() -> Dataset:
    """Implicit VR; a step is 1 µV by ChannelSensitivity and 4.88 µV with the correction factor."""
    return build(
        ecg(seconds=10, rate=500, heart_rate=64, seed=6, rhythm=Rhythm.PREMATURE),
        rate=500,
        seed="06",
        subject=JAN,
        start=_at(9, 12),
        scale=Scale(Decimal(1), Decimal("4.88")),
        accession="EKG260914005",
        charset="ISO_IR 101",
        implicit=True,
    )


def _thirty_two_bits() -> Dataset:
    """General 32-bit ECG: steps of 0.02 µV, so that a sample needs more than 16 bits; eight leads, MDC codes."""
    leads = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    return build(
        ecg(seconds=8, rate=1000, heart_rate=80, seed=8, leads=leads),
        rate=1000,
        seed="08",
        subject=HANAKO,
        start=_at(9, 40, _SUMMER),
        kind=Kind.GENERAL_32,
        leads=leads,
        scale=Scale(Decimal("0.02"), bits=32),
        accession="EKG260914007",
        device=Device(model="Testcart 32", serial="TC-3201", station="EKG3"),
        charset=("", "ISO 2022 IR 87"),
        codes=LeadCodes.MDC,
    )


def _holter() -> Dataset:
    """Ambulatory ECG: a minute of a two-channel recorder."""
    leads = ("V5", "V1")
    return build(
        ecg(seconds=60, rate=250, heart_rate=88, seed=10, leads=leads),
        rate=250,
        seed="10",
        subject=METTE,
        start=_at(10, 5),
        kind=Kind.AMBULATORY,
        leads=leads,
        scale=Scale(Decimal(5)),
        accession="EKG260914010",
        device=Device(model="Testrecorder 2", serial="TR-0007", station="HOLTER7"),
        charset="ISO_IR 100",
        codes=LeadCodes.MDC,
    )


def _urgent() -> Dataset:
    """General ECG, 1000 Hz, 1.25 µV, recorded before its order was written."""
    return build(
        ecg(seconds=10, rate=1000, heart_rate=104, seed=11),
        rate=1000,
        seed="11",
        subject=GIORGOS,
        start=_at(10, 30, _SUMMER),
        kind=Kind.GENERAL,
        scale=Scale(Decimal("1.25")),
        accession="EKG260914012",
        device=Device(model="Testcart 12", serial="TC-0002", station="NOTAUFN1"),
    )


def _unordered() -> Dataset:
    """No accession number, no birth date, no sex: atrial fibrillation at 250 Hz, its reason in the object."""
    subject = Subject(
        JOSE.id,
        JOSE.name,
        age=JOSE.age,
        metres=JOSE.metres,
        kilograms=JOSE.kilograms,
        diagnoses=("Palpitations (invented)",),
    )
    return build(
        ecg(seconds=10, rate=250, heart_rate=96, seed=14, rhythm=Rhythm.FIBRILLATION),
        rate=250,
        seed="14",
        subject=subject,
        start=_at(11, 0, _SUMMER),
        scale=Scale(Decimal(5)),
    )


def _of_another_patient() -> Dataset:
    """Mette's order number, Erika on the couch: to be held."""
    return build(
        ecg(seconds=10, rate=250, heart_rate=70, seed=17),
        rate=250,
        seed="17",
        subject=ERIKA,
        start=_at(11, 20, _SUMMER),
        scale=Scale(Decimal(5)),
        accession="EKG260914009",
        charset="ISO_IR 100",
    )


def _without_sensitivity() -> Dataset:
    """Samples without a scale: to be held."""
    return build(
        ecg(seconds=10, rate=250, heart_rate=66, seed=18),
        rate=250,
        seed="18",
        subject=JOSE,
        start=_at(11, 40, _SUMMER),
        scale=Scale(None),
    )


SAMPLES: dict[str, Callable[[], Dataset]] = {
    "03_ecg_for_order.dcm": _for_order,
    "06_ecg_implicit_vr_correction.dcm": _implicit_with_correction,
    "08_ecg_32_bit.dcm": _thirty_two_bits,
    "10_ecg_holter.dcm": _holter,
    "11_ecg_before_its_order.dcm": _urgent,
    "14_ecg_without_order.dcm": _unordered,
    "17_ecg_of_another_patient.dcm": _of_another_patient,
    "18_ecg_without_sensitivity.dcm": _without_sensitivity,
}


def write_samples(folder: Path) -> list[Path]:
    """Write every sample into the folder, over what is there."""
    written = []
    for name, made in SAMPLES.items():
        write(folder / name, made())
        written.append(folder / name)
    return written


if __name__ == "__main__":
    for made_file in write_samples(Path(sys.argv[1] if len(sys.argv) > 1 else "sample_messages")):
        sys.stdout.write(f"{made_file}\n")
