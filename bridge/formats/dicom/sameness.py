"""Whether two objects with one SOP Instance UID are the same recording of the same person (failures.md F29).

The bytes of a data set differ with its transfer syntax and with whatever a PACS adds. Two digests tell apart what
matters: the samples with what they mean, and whose they are.
"""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from bridge.domain.recording import MultiplexGroup
from bridge.formats.dicom.reader import EcgObject

_BLOCK = 1 << 20
_WHOSE = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "RequestAttributesSequence.AccessionNumber",
    "RequestAttributesSequence.RequestedProcedureID",
    "RequestedProcedureID",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "TimezoneOffsetFromUTC",
)
"""What matching and the task's patient fields rest on, and when it was recorded."""


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256, hex. Equal for one object in two transfer syntaxes."""

    waveform: str
    identity: str


def digests(obj: EcgObject) -> Digests:
    """Reads the samples block by block: flat memory, whatever the object's size."""
    waveform = hashlib.sha256()
    with obj.path.open("rb") as file:
        for group in obj.recording.groups:
            waveform.update(_meaning(group))
            file.seek(group.offset)
            left = group.length
            swap = group.dtype.startswith(">")
            while left > 0 and (block := file.read(min(left, _BLOCK))):
                left -= len(block)
                waveform.update(np.frombuffer(block, group.dtype).byteswap().tobytes() if swap else block)
    said = [[keyword, [found.value for found in obj.source.find(keyword)]] for keyword in _WHOSE]
    identity = hashlib.sha256(json.dumps(said, ensure_ascii=False).encode())
    return Digests(waveform.hexdigest(), identity.hexdigest())


def _meaning(group: MultiplexGroup) -> bytes:
    """What the samples of a group mean, however it was written."""
    leads = [
        [
            c.lead,
            None if c.microvolts is None else str(c.microvolts),
            *(None if n is None else str(n.normalize()) for n in (c.sensitivity, c.correction)),
            c.bits_stored,
            c.no_number,
        ]
        for c in group.channels
    ]
    baselines = [str(c.baseline.normalize()) for c in group.channels]
    facts = [
        group.originality,
        str(group.rate.normalize()),
        group.samples,
        group.dtype[1:],
        group.padding,
        leads,
        baselines,
    ]
    return json.dumps([*facts, str(group.time_offset_ms.normalize())]).encode()
