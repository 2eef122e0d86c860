"""The upload file of a group, in the form that the site prefers, or in the other where only that one is exact.

WFDB knows no baseline between two steps. EDF has 16 bits, no sign for a missing sample, eight characters for a scale
and lengths that data records can make. Hardly a recording meets both limits; such a one is held.
"""

from dataclasses import replace
from typing import BinaryIO

from bridge.domain.recording import MultiplexGroup
from bridge.errors import CannotScale
from bridge.formats.ecg.edf import write_edf
from bridge.formats.ecg.proof import Form, Proof
from bridge.formats.ecg.scaling import require_scalable
from bridge.formats.ecg.wfdb import write_archive

OTHER = {Form.WFDB: Form.EDF, Form.EDF: Form.WFDB}
NAMES = {Form.WFDB: "WFDB", Form.EDF: "EDF+"}


def write_upload(group: MultiplexGroup, payload: BinaryIO, out: BinaryIO, *, record: str, preferred: Form) -> Proof:
    """Writes the group over `out`; where it is not the preferred form, the proof's `instead` says why.

    Raises `CannotScale` where the samples have no voltage or neither form is exact, and `SamplesChanged` where what
    was written is not what the payload says. After an error `out` holds nothing of use.
    """
    require_scalable(group)
    try:
        return write_as(preferred, group, payload, out, record=record)
    except CannotScale as first:
        try:
            proof = write_as(OTHER[preferred], group, payload, out, record=record)
        except CannotScale as second:
            both = f"{NAMES[preferred]}: {first} ({first.where}); {NAMES[OTHER[preferred]]}: {second} ({second.where})"
            text = f"no form of an upload holds it exactly. {both}"
            raise CannotScale(text, where=f"WaveformSequence[{group.number}]") from second
        return replace(proof, instead=f"{first.where}: {first}")


def write_as(form: Form, group: MultiplexGroup, payload: BinaryIO, out: BinaryIO, *, record: str) -> Proof:
    """Writes the group in that form alone; errors as `write_upload`. `record` names a WFDB record."""
    if form is Form.EDF:
        return write_edf(group, payload, out)
    return write_archive(group, payload, out, record=record)
