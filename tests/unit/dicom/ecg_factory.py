"""ECG objects for tests, made by pydicom: an encoder that is not ours, so that our reader is judged by another."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence

TWELVE_LEADS = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DTYPES = {
    ("SB", 8): "i1", ("UB", 8): "u1", ("SS", 16): "i2", ("US", 16): "u2",
    ("SL", 32): "i4", ("UL", 32): "u4", ("SV", 64): "i8", ("UV", 64): "u8", ("MB", 8): "u1",
}  # fmt: skip


def sines(samples: int, channels: int, *, peak: int = 1500) -> np.ndarray:
    """Recognisably invented: each channel a sine of its own frequency. Shape (samples, channels), int64."""
    at = np.arange(samples)[:, None] / 500
    return np.round(peak * np.sin(2 * math.pi * at * (1 + np.arange(channels)))).astype(np.int64)


@dataclass
class Group:
    """What one item of WaveformSequence says. `values` has shape (samples, channels)."""

    values: np.ndarray
    interpretation: str = "SS"
    bits: int = 16
    bits_stored: int | None = None
    rate: str = "500"
    originality: str = "ORIGINAL"
    label: str = "RHYTHM"
    leads: Sequence[int] = TWELVE_LEADS
    scheme: str = "SCPECG"
    sensitivity: Sequence[str] | str | None = "2.5"
    correction: str | None = "1"
    baseline: Sequence[str] | str = "0"
    units: str = "uV"
    padding: int | None = None
    offset_ms: str | None = None
    tail: bytes = b""  # after the samples
    change_item: Callable[[Dataset], None] = field(default=lambda _: None)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _group(group: Group, *, big: bool) -> Dataset:
    samples, channels = group.values.shape
    dtype = DTYPES[group.interpretation, group.bits]
    order = ">" if big else "<"
    item = Dataset()
    item.WaveformOriginality = group.originality
    item.NumberOfWaveformChannels = channels
    item.NumberOfWaveformSamples = samples
    item.SamplingFrequency = group.rate
    if group.offset_ms is not None:
        item.MultiplexGroupTimeOffset = group.offset_ms
    if group.label:
        item.MultiplexGroupLabel = group.label
    item.WaveformBitsAllocated = group.bits
    item.WaveformSampleInterpretation = group.interpretation
    if group.padding is not None:
        signed = dtype.startswith("i")
        item.WaveformPaddingValue = group.padding.to_bytes(group.bits // 8, "big" if big else "little", signed=signed)
        item["WaveformPaddingValue"].VR = "OB" if group.bits == 8 else "OW"
    definitions = []
    for n in range(channels):
        channel = Dataset()
        prefix = "5.6.3-9-" if group.scheme == "SCPECG" else "2:"
        lead = group.leads[n % len(group.leads)]
        channel.ChannelSourceSequence = [_code(f"{prefix}{lead}", group.scheme, "any words\0")]
        if group.sensitivity is not None:
            one = group.sensitivity if isinstance(group.sensitivity, str) else group.sensitivity[n]
            channel.ChannelSensitivity = one
            channel.ChannelSensitivityUnitsSequence = [_code(group.units, "UCUM", "unit")]
            if group.correction is not None:
                channel.ChannelSensitivityCorrectionFactor = group.correction
            channel.ChannelBaseline = group.baseline if isinstance(group.baseline, str) else group.baseline[n]
        channel.WaveformBitsStored = group.bits_stored or group.bits
        channel.FilterLowFrequency, channel.FilterHighFrequency = "0.05", "150"
        definitions.append(channel)
    item.ChannelDefinitionSequence = DicomSequence(definitions)
    raw = group.values.astype(order + dtype if group.bits > 8 else dtype).tobytes() + group.tail
    item.WaveformData = raw + b"\0" * (len(raw) % 2)
    item["WaveformData"].VR = "OB" if group.bits == 8 else "OW"
    group.change_item(item)
    return item


def ecg(
    *groups: Group, syntax: str = EXPLICIT, sop_class: str = "1.2.840.10008.5.1.4.1.1.9.1.1", **header: Any
) -> Dataset:
    """A whole object of an invented patient; `header` sets or (with None) removes attributes by keyword."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, "1.2.826.0.1.3680043.10.9999.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.10.9999.2", "1.2.826.0.1.3680043.10.9999.3"
    ds.PatientName, ds.PatientID = "Testfrau^Erika", "TEST-0001"
    ds.PatientBirthDate, ds.PatientSex = "19700131", "F"
    ds.Modality, ds.AcquisitionDateTime = "ECG", "20240623183000"
    for keyword, value in header.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.WaveformSequence = DicomSequence([_group(g, big=syntax == BIG) for g in groups])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return ds


def encoded(ds: Dataset, *, undefined_lengths: bool = False) -> bytes:
    """The file's bytes."""
    if undefined_lengths:
        for sequence in (e for e in ds.iterall() if e.VR == "SQ"):
            sequence.is_undefined_length = True
            for item in sequence.value:
                item.is_undefined_length_sequence_item = True
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def without_meta(ds: Dataset) -> bytes:
    """The data set alone, as some vendors leave it on disk."""
    out = io.BytesIO()
    syntax = ds.file_meta.TransferSyntaxUID
    bare = Dataset(ds)
    pydicom.dcmwrite(out, bare, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    return out.getvalue()


def saved(folder: Path, ds: Dataset, name: str = "ecg.dcm", **how: Any) -> Path:
    """The object as a file."""
    path = folder / name
    path.write_bytes(encoded(ds, **how))
    return path
