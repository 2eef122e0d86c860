"""What the IOD asks of a DICOM ECG and this object lacks, apart from what stops us.

Severities as in ERR-4: E stops the recording, W breaks the standard or loses a field of the task, I is good to know.
Texts hold no patient value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.domain.recording import MultiplexGroup, Recording
from bridge.errors import BadInput, CannotScale
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.lint_waveform import Remark, waveform_remarks
from bridge.formats.dicom.part10 import IMPLICIT_VR_LITTLE_ENDIAN
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, EcgObject, read_object
from bridge.formats.ecg.samples import SamplesChanged, check_samples
from bridge.formats.ecg.scaling import require_scalable, trusted_padding

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", re.ASCII)  # PS3.5 §9.1


@dataclass(frozen=True, slots=True)
class _Limits:
    """What an IOD allows (PS3.3 A.34.3 to A.34.5)."""

    groups: int | None
    channels: int | None
    all_channels: int | None
    rates: tuple[int, int]
    samples: int | None
    kinds: tuple[str, ...]


_LIMITS: dict[str, _Limits] = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": _Limits(5, 13, 13, (200, 1000), 16_384, ("i2",)),
    "1.2.840.10008.5.1.4.1.1.9.1.2": _Limits(4, 24, None, (200, 1000), None, ("i2",)),
    "1.2.840.10008.5.1.4.1.1.9.1.3": _Limits(1, 12, None, (50, 1000), None, ("i1", "i2")),
}

_MUST_HAVE_VALUE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "AcquisitionDateTime",
    "ContentDate",
    "ContentTime",
    "InstanceNumber",
)
_MUST_STAND = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "ReferringPhysicianName",
    "AccessionNumber",
    "Manufacturer",
)
_ACQUISITION_CONTEXT = frozenset({"1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.9.1.2"})
"""The classes whose IOD has the module for certain (PS3.3 tables A.34.3-1, A.34.4-1)."""
_FEED_THE_TASK = (
    ("PatientID", "without it the recording is held"),
    ("PatientBirthDate", "a match with an order then rests on the name"),
    ("PatientSex", "patient_gender is left out"),
    ("AccessionNumber", "the order is then looked for by other numbers"),
    ("DeviceSerialNumber", "device_id then comes from a weaker source"),
    ("TimezoneOffsetFromUTC", "the start time then rests on the site's time zone"),
)


def lint_object(path: Path) -> list[Remark]:
    """Remarks on the object in a file, what stops us first. An `OSError` is the disk's."""
    try:
        obj = read_object(path)
    except BadInput as problem:
        return [("E", problem.where, str(problem))]
    remarks = [*_several(obj.recording), *_scaling(obj)]
    remarks += [("W", *_placed(text)) for text in obj.recording.warnings]
    if isinstance(obj.source, DataSet):
        explicit = obj.recording.transfer_syntax_uid != IMPLICIT_VR_LITTLE_ENDIAN
        remarks += [*_attributes(obj.source), *waveform_remarks(obj.source, explicit=explicit)]
        if obj.recording.sop_class_uid in _ACQUISITION_CONTEXT:
            remarks += _stands(obj.source, "AcquisitionContextSequence")
    remarks += _iod(obj.recording)
    if obj.patient_identity_removed:
        remarks.append(("I", "PatientIdentityRemoved", "the object says that it is anonymous"))
    return sorted(remarks, key=lambda remark: remark[0] != "E")


def _placed(warning: str) -> tuple[str, str]:
    """A warning of the reader, which names its place first where it has one."""
    where, separator, text = warning.partition(": ")
    return (where, text) if separator and " " not in where else ("", warning)


def _several(recording: Recording) -> Iterator[Remark]:
    """What becomes of several original groups, by the setting's default."""
    selection = recording.selected("each")
    if selection.held == "groups_differ":
        text = "groups of unlike leads, or unnamed ones: one recording in parts; held, unless several_groups is longest"
        yield "E", "WaveformSequence", text
    elif selection.held:
        text = "a group beside others does not say that it is original: held, unless several_groups is longest"
        yield "E", "WaveformSequence", text
    elif len(selection.groups) > 1:
        yield "I", "WaveformSequence", f"{len(selection.groups)} original groups: a task each"


def _scaling(obj: EcgObject) -> Iterator[Remark]:
    """Only a group that is uploaded stops us, and is read to its end where its samples can say too much."""
    uploaded = obj.recording.selected("each").groups or (obj.recording.rhythm(),)
    for group in obj.recording.groups:
        try:
            if group in uploaded and any(c.bits_stored for c in group.channels):
                with obj.path.open("rb") as payload:
                    check_samples(group, payload)
            require_scalable(group)
        except CannotScale as problem:
            yield ("E" if group in uploaded else "W", problem.where, str(problem))
        except SamplesChanged as problem:
            yield "E", f"WaveformSequence[{group.number}].WaveformData", str(problem)


def _attributes(data_set: DataSet) -> Iterator[Remark]:
    for keyword in _MUST_HAVE_VALUE:
        if not data_set.text(keyword):
            yield "W", keyword, "type 1: must be there with a value"
    for keyword in _MUST_STAND:
        yield from _stands(data_set, keyword)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = data_set.text(keyword)
        if uid and (len(uid) > 64 or not _UID.fullmatch(uid)):
            yield "W", keyword, "not a valid UID (PS3.5 §9.1); it is kept as it stands"
    if data_set.text("Modality") not in {"", "ECG"}:
        yield "W", "Modality", "must be ECG (PS3.3 A.34.3.4)"
    for keyword, effect in _FEED_THE_TASK:
        if not data_set.text(keyword):
            yield "I", keyword, f"empty: {effect}"


def _stands(data_set: DataSet, keyword: str) -> Iterator[Remark]:
    if data_set.element(keyword) is None:
        yield "W", keyword, "type 2: must be there, even if empty"


def _iod(recording: Recording) -> Iterator[Remark]:
    limits = _LIMITS.get(recording.sop_class_uid)
    if limits is not None:
        total = sum(len(g.channels) for g in recording.groups)
        name = ECG_SOP_CLASSES[recording.sop_class_uid]
        if limits.groups is not None and len(recording.groups) > limits.groups:
            yield "W", "WaveformSequence", f"{name} allows {limits.groups} groups at the most"
        if limits.all_channels is not None and total > limits.all_channels:
            yield "W", "WaveformSequence", f"{name} allows {limits.all_channels} channels in all, here are {total}"
        for group in recording.groups:
            yield from _group(group, limits)
    for group in recording.groups:
        if group.padding is not None and trusted_padding(group) is not None:
            yield "I", f"WaveformSequence[{group.number}].WaveformPaddingValue", "such samples count as missing"


def _group(group: MultiplexGroup, limits: _Limits) -> Iterator[Remark]:
    place = f"WaveformSequence[{group.number}]"
    if limits.channels is not None and len(group.channels) > limits.channels:
        yield "W", f"{place}.NumberOfWaveformChannels", f"{limits.channels} at the most"
    if not limits.rates[0] <= group.rate <= limits.rates[1]:
        yield "W", f"{place}.SamplingFrequency", "between {} and {} Hz".format(*limits.rates)
    if limits.samples is not None and group.samples > limits.samples:
        yield "W", f"{place}.NumberOfWaveformSamples", f"{limits.samples} at the most"
    if group.dtype[1:] not in limits.kinds:
        yield "W", f"{place}.WaveformSampleInterpretation", "not one that this class allows"
    for number, channel in enumerate(group.channels, 1):
        if channel.lead == f"ch{number}":
            yield "W", f"{place}.ChannelDefinitionSequence[{number}].ChannelSourceSequence", "names no lead"
