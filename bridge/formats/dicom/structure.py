"""Whether an object is whole: the bounded check before a C-STORE is answered (failures.md A2, F5).

It costs a tenth of a reading, because it sees a group's own attributes and passes over the definitions of its
channels. What it refuses, `read_object` refuses too. What it lets pass and `read_object` refuses lies in there, or in
another sequence that nothing here needs: such an object was answered 0000 and is in custody, so it must be held.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bridge.errors import BadInput
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.groups import KINDS, RATES
from bridge.formats.dicom.part10 import read_part10
from bridge.formats.dicom.walk import refuse

_WAVEFORM_SEQUENCE = 0x54000100


@dataclass(frozen=True, slots=True)
class GroupStructure:
    """One multiplex group. `length` is that of WaveformData, which holds `channels` x `samples` x `bits` or more."""

    number: int
    channels: int
    samples: int
    bits: int
    length: int


@dataclass(frozen=True, slots=True)
class Structure:
    """A whole object, as far as its answer needs it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    groups: tuple[GroupStructure, ...]


def check_structure(path: Path) -> Structure:
    """The structure of the object in a file. Of the samples of a long recording nothing is read.

    Raises `BadInput` (C000, `where` an attribute) for what is no DICOM, cut short, has no waveform, or has fewer
    samples than it declares. An `OSError` is a fault of our own disk and never the sender's (failures.md F5).
    """
    with path.open("rb") as file:
        return structure_of(file)


def structure_of(file: BinaryIO) -> Structure:
    """As `check_structure`, of a file that is open already: it is read from its beginning, and left open."""
    part10 = read_part10(file, only=frozenset({_WAVEFORM_SEQUENCE}))
    data_set = part10.data_set
    items = data_set.items("WaveformSequence")
    if not items:
        raise refuse("the object has no waveform", "WaveformSequence")
    return Structure(
        data_set.text("SOPClassUID"),
        data_set.text("SOPInstanceUID"),
        part10.transfer_syntax_uid,
        tuple(_placed(item, number) for number, item in enumerate(items, 1)),
    )


def _placed(item: DataSet, number: int) -> GroupStructure:
    try:
        return _group(item, number)
    except BadInput as problem:
        place = f"WaveformSequence[{number}]"
        problem.where = f"{place}.{problem.where}" if problem.where else place
        raise


def _group(item: DataSet, number: int) -> GroupStructure:
    channels = _positive(item, "NumberOfWaveformChannels")
    samples = _positive(item, "NumberOfWaveformSamples")
    bits = _positive(item, "WaveformBitsAllocated")
    rate = item.number("SamplingFrequency")
    if rate is None or not RATES[0] <= rate <= RATES[1]:
        raise refuse("no sampling frequency that can be right", "SamplingFrequency")
    if (bits, item.text("WaveformSampleInterpretation").upper()) not in KINDS:
        raise refuse("unknown sample interpretation or size", "WaveformSampleInterpretation")
    item.number("MultiplexGroupTimeOffset")  # nonsense there is refused when the object is read
    definitions = item.element("ChannelDefinitionSequence")
    if definitions is None or definitions.vr != "SQ" or definitions.length == 0:
        raise refuse(f"no definitions for {channels} channels", "ChannelDefinitionSequence")
    data = item.element("WaveformData")
    if data is None:
        raise refuse("the group has no samples", "WaveformData")
    needed = channels * samples * bits // 8
    if data.length < needed:
        raise refuse(f"{data.length} bytes of samples where {needed} are declared", "WaveformData")
    return GroupStructure(number, channels, samples, bits, data.length)


def _positive(item: DataSet, keyword: str) -> int:
    value = item.integer(keyword)
    if value is None or value < 1:
        raise refuse("missing, or not above zero", keyword)
    return value
