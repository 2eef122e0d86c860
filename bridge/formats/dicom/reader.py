"""A DICOM ECG object, read: its recording, and its header as a source of values.

What is needed to decode is checked here, and nothing else: the strict IOD would refuse the mainstream (GE and
Mortara put 24 channels where 13 are allowed, dicom_ecg.md §0). The rest is said by `lint`.
"""

from dataclasses import dataclass
from pathlib import Path

from bridge.domain.found import Source
from bridge.domain.recording import Recording
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.groups import read_groups
from bridge.formats.dicom.part10 import read_part10
from bridge.formats.ecg.scaling import require_scalable

__all__ = ["ECG_SOP_CLASSES", "EcgObject", "read_object", "require_scalable"]

ECG_SOP_CLASSES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG Waveform Storage",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "General ECG Waveform Storage",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "Ambulatory ECG Waveform Storage",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "General 32-bit ECG Waveform Storage",
}
"""The SOP classes that we take (PS3.4 B.5)."""


@dataclass(frozen=True, slots=True)
class EcgObject:
    """An object whose samples can be read from `path`, by the offsets of `recording.groups`."""

    recording: Recording
    source: Source
    path: Path
    patient_identity_removed: bool


def read_object(path: Path) -> EcgObject:
    """The object in a file. Memory stays below a few megabytes whatever the file's size.

    Raises `BadInput` (C000, `where` an attribute) for what is no DICOM, cut short, has no waveform, or whose
    samples cannot be told apart. An `OSError` is a fault of our own disk and never the sender's (failures.md F5).
    """
    with path.open("rb") as file:
        part10 = read_part10(file)
    data_set = part10.data_set
    groups, odd = read_groups(data_set)
    recording = Recording(
        sop_class_uid=data_set.text("SOPClassUID"),
        sop_instance_uid=data_set.text("SOPInstanceUID"),
        transfer_syntax_uid=part10.transfer_syntax_uid,
        groups=groups,
        warnings=(*part10.warnings, *_warnings(data_set), *odd),
    )
    return EcgObject(recording, data_set, path, _is_anonymous(data_set))


def _is_anonymous(data_set: DataSet) -> bool:
    """PatientIdentityRemoved is YES, or it says nothing and a de-identification method stands there."""
    removed = data_set.text("PatientIdentityRemoved").upper()
    return removed == "YES" or (not removed and bool(data_set.text("DeidentificationMethod")))


def _warnings(data_set: DataSet) -> list[str]:
    found: list[str] = []
    if data_set.text("SOPClassUID") not in ECG_SOP_CLASSES:
        found.append("SOPClassUID is none of the ECG classes")
    if data_set.is_undeclared("PatientName"):
        found.append("PatientName has characters outside the declared character set: they may be read wrongly")
    return found
