"""DICOM ECG objects as carts and Holter recorders make them, from samples in µV (PS3.3 A.34.3, A.34.4, C.10.9).

Everything in an object follows from the arguments, its UIDs too: the same call gives the same bytes.
"""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    AmbulatoryECGWaveformStorage,
    ExplicitVRLittleEndian,
    General32bitECGWaveformStorage,
    GeneralECGWaveformStorage,
    ImplicitVRLittleEndian,
    TwelveLeadECGWaveformStorage,
)

from bridge.sandbox.ecg_signal import TWELVE


class Kind(StrEnum):
    """The ECG waveform SOP classes (PS3.4 B.5)."""

    TWELVE_LEAD = TwelveLeadECGWaveformStorage
    GENERAL = GeneralECGWaveformStorage
    AMBULATORY = AmbulatoryECGWaveformStorage
    GENERAL_32 = General32bitECGWaveformStorage


class LeadCodes(StrEnum):
    """Which scheme names the leads; both count them alike (PS3.16 CID 3001)."""

    SCPECG = "SCPECG"
    MDC = "MDC"


LEAD_NUMBERS = {
    "I": 1,
    "II": 2,
    "III": 61,
    "aVR": 62,
    "aVL": 63,
    "aVF": 64,
    "V1": 3,
    "V2": 4,
    "V3": 5,
    "V4": 6,
    "V5": 7,
    "V6": 8,
}

_NAMESPACE = uuid.UUID("6d0f2d5e-6a0f-5b65-9a53-1f6a4e9b7c21")


def uid(*names: object) -> UID:
    """A UID of the `2.25.` arc that is always the same for the same names (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, names))).int}")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who lay on the couch, as the cart knew it. `name` is a DICOM PN, component groups and all."""

    id: str
    name: str
    birth_date: str = ""  # DA
    sex: str = ""
    issuer: str = ""
    age: str = ""  # AS
    metres: str = ""
    kilograms: str = ""
    diagnoses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """What recorded it."""

    manufacturer: str = "Invented Instruments"
    model: str = "Testcart 12"
    serial: str = "TC-0001"
    station: str = "CART1"


@dataclass(frozen=True, slots=True)
class Scale:
    """How samples become µV: sample x sensitivity x correction + baseline (PS3.3 C.10.9.1.4.2).

    `sensitivity` None leaves all of it out (type 1C); a sample is 1 µV then, but nothing says so.
    `bits` is 16 (SS) or 32 (SL).
    """

    sensitivity: Decimal | None = Decimal("4.88")
    correction: Decimal = Decimal(1)
    baseline: Decimal = Decimal(0)
    bits: int = 16

    def samples(self, microvolts: NDArray[np.int32]) -> bytes:
        """The value of WaveformData, little endian, channels interleaved. OverflowError if a sample has no room."""
        step = float((self.sensitivity or Decimal(1)) * self.correction)
        counted = np.rint((microvolts - float(self.baseline)) / step)
        kind = np.dtype(f"<i{self.bits // 8}")
        room = np.iinfo(kind)
        if counted.size and (counted.min() <= room.min or counted.max() > room.max):
            raise OverflowError(f"a sample does not fit {self.bits} bits at {step} µV a step")
        value: bytes = counted.astype(kind).tobytes()
        return value


def build(
    microvolts: NDArray[np.int32],
    *,
    rate: int,
    seed: str,
    subject: Subject,
    start: datetime,
    kind: Kind = Kind.TWELVE_LEAD,
    leads: Sequence[str] = TWELVE,
    scale: Scale | None = None,
    median: NDArray[np.int32] | None = None,
    accession: str = "",
    device: Device | None = None,
    charset: str | Sequence[str] = "ISO_IR 192",
    codes: LeadCodes = LeadCodes.SCPECG,
    implicit: bool = False,
    statement: str = "",
) -> Dataset:
    """One object with its file meta. `microvolts` has shape (samples, leads); `median` is a DERIVED group behind it.

    `start` is written as local time; an aware one adds TimezoneOffsetFromUTC, a naive one leaves the zone open,
    as most carts do. Every UID follows from `seed`.
    """
    scale, device = scale or Scale(), device or Device()
    made = Dataset()
    made.SpecificCharacterSet = charset if isinstance(charset, str) else list(charset)
    made.SOPClassUID = UID(kind)
    made.SOPInstanceUID = uid(seed, "instance")
    made.StudyInstanceUID = uid(seed, "study")
    made.SeriesInstanceUID = uid(seed, "series")
    _say_when(made, start)
    _say_who(made, subject)
    made.AccessionNumber = accession
    made.StudyID, made.SeriesNumber, made.InstanceNumber = "", 1, 1
    made.StudyDescription = "Invented ECG, no person"
    made.Modality, made.ReferringPhysicianName = "ECG", ""
    made.Manufacturer, made.ManufacturerModelName = device.manufacturer, device.model
    made.DeviceSerialNumber, made.StationName = device.serial, device.station
    made.SoftwareVersions = "1.0"
    made.AcquisitionContextSequence = Items(_context(leads))
    groups = [_group("ORIGINAL", "RHYTHM", microvolts, rate, leads, scale, codes)]
    if median is not None:
        groups.append(_group("DERIVED", "MEDIAN BEAT", median, rate, leads, scale, codes))
    made.WaveformSequence = Items(groups)
    if statement:
        made.WaveformAnnotationSequence = Items([_statement(statement)])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    meta.ImplementationVersionName = "TESTCART"
    made.file_meta = meta
    return made


def write(path: str | os.PathLike[str], made: Dataset) -> None:
    """A DICOM file (PS3.10 §7) in the transfer syntax that the object's file meta names."""
    dcmwrite(path, made, enforce_file_format=True)


def _say_when(made: Dataset, start: datetime) -> None:
    day, clock = start.strftime("%Y%m%d"), start.strftime("%H%M%S")
    made.StudyDate = made.ContentDate = day
    made.StudyTime = made.ContentTime = clock
    made.AcquisitionDateTime = day + clock
    if start.tzinfo is not None:
        made.TimezoneOffsetFromUTC = start.strftime("%z")


def _say_who(made: Dataset, subject: Subject) -> None:
    made.PatientName, made.PatientID = subject.name, subject.id
    made.PatientBirthDate, made.PatientSex = subject.birth_date, subject.sex
    optional = {
        "IssuerOfPatientID": subject.issuer,
        "PatientAge": subject.age,
        "PatientSize": subject.metres,
        "PatientWeight": subject.kilograms,
        "AdmittingDiagnosesDescription": list(subject.diagnoses),
    }
    for keyword, value in optional.items():
        if value:
            setattr(made, keyword, value)


def _code(value: str, scheme: str, meaning: str, version: str = "") -> Dataset:
    """A code sequence item (PS3.3 §8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    if version:
        item.CodingSchemeVersion = version
    return item


def _context(leads: Sequence[str]) -> list[Dataset]:
    """Where the electrodes were (PS3.16 TID 3401), which only a full twelve can say."""
    if tuple(leads) != TWELVE:
        return []
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = Items([_code("10:11345", "MDC", "Lead System")])
    placed = "Standard 12-lead positions: electrodes placed individually"
    item.ConceptCodeSequence = Items([_code("10:11265", "MDC", placed)])
    return [item]


def _group(
    originality: str,
    label: str,
    microvolts: NDArray[np.int32],
    rate: int,
    leads: Sequence[str],
    scale: Scale,
    codes: LeadCodes,
) -> Dataset:
    """One multiplex group (PS3.3 C.10.9.1)."""
    if microvolts.ndim != 2 or microvolts.shape[1] != len(leads):
        raise ValueError("the samples need one column for each lead")
    group = Dataset()
    group.WaveformOriginality, group.MultiplexGroupLabel = originality, label
    group.MultiplexGroupTimeOffset = "0"
    group.NumberOfWaveformSamples, group.NumberOfWaveformChannels = microvolts.shape
    group.SamplingFrequency = str(rate)
    group.ChannelDefinitionSequence = Items(
        [_channel(number, lead, scale, codes) for number, lead in enumerate(leads, 1)]
    )
    group.WaveformBitsAllocated = scale.bits
    group.WaveformSampleInterpretation = {16: "SS", 32: "SL"}[scale.bits]
    # The type's least value, which no sample may have: `Scale.samples` keeps it free.
    group.add_new(
        "WaveformPaddingValue", "OW", int(-(2 ** (scale.bits - 1))).to_bytes(scale.bits // 8, "little", signed=True)
    )
    group.add_new("WaveformData", "OW", scale.samples(microvolts))
    return group


def _channel(number: int, lead: str, scale: Scale, codes: LeadCodes) -> Dataset:
    channel = Dataset()
    channel.WaveformChannelNumber, channel.ChannelLabel = number, lead
    position = LEAD_NUMBERS[lead]
    source = (
        _code(f"5.6.3-9-{position}", "SCPECG", f"Lead {lead}", "1.3")
        if codes is LeadCodes.SCPECG
        else _code(f"2:{position}", "MDC", f"Lead {lead}")
    )
    channel.ChannelSourceSequence = Items([source])
    if scale.sensitivity is not None:
        channel.ChannelSensitivity = str(scale.sensitivity)
        channel.ChannelSensitivityUnitsSequence = Items([_code("uV", "UCUM", "microvolt", "1.4")])
        channel.ChannelSensitivityCorrectionFactor = str(scale.correction)
        channel.ChannelBaseline = str(scale.baseline)
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = scale.bits
    channel.FilterLowFrequency, channel.FilterHighFrequency = "0.05", "150"
    return channel


def _statement(text: str) -> Dataset:
    """What the device itself reads in the curve: of the first group, all channels (PS3.3 C.10.10)."""
    item = Dataset()
    item.ReferencedWaveformChannels, item.AnnotationGroupNumber = [1, 0], 0
    item.UnformattedTextValue = text
    return item
