"""A multiplex group as an EDF+ file, streamed and proved.

Samples go over as the 16-bit numbers that they are and never through floats, which re-quantise (dicom_ecg.md §0). The
file is written in one pass and read back in another; neither holds more than a data record or a block in memory.
The same group always gives the same bytes.

Written by our own hand, since edfio takes whole signals: 372 MB of memory and three times as long for a recording of
130 MB, which this needs none for (measured; 3 h of 12 channels). It reads uploads in the sandbox API instead, and so
judges what is written here.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bridge.domain.recording import Channel, MultiplexGroup
from bridge.errors import CannotScale
from bridge.formats.ecg.edf_header import Signal, header_bytes, read_header
from bridge.formats.ecg.edf_records import Layout, layout_of
from bridge.formats.ecg.edf_scale import LARGEST, SMALLEST, Bound, allowed, bounds_of, deviation
from bridge.formats.ecg.proof import Form, Proof
from bridge.formats.ecg.samples import BLOCK, SamplesChanged, as_array, fill, frame_bytes, sample_blocks, scaled
from bridge.formats.ecg.scaling import require_scalable, scale_of, trusted_padding

_STORED = np.dtype("<i2")
Records = npt.NDArray[np.int16]
Samples = npt.NDArray[Any]


def write_edf(group: MultiplexGroup, payload: BinaryIO, out: BinaryIO) -> Proof:
    """Writes the file over `out`, which is read back, so it can be read and sought.

    Raises `CannotScale` where the samples have no voltage or EDF has no exact form for them, and `SamplesChanged`
    where the file as read back is not what the payload says. After an error `out` holds nothing of use.
    """
    require_scalable(group)
    shift = 32768 if group.dtype[1:] == "u2" else 0  # stored value = sample - shift
    layout = layout_of(group)
    out.seek(0)
    out.truncate()
    out.write(bytes(layout.header_bytes))  # its bounds follow from the samples
    lowest, highest = _write(group, payload, out, layout, shift)
    bounds = _bounds(group, shift, lowest, highest)
    out.seek(0)
    out.write(header_bytes(group, layout, bounds))
    return _prove(group, payload, out, layout, shift)


def _write(
    group: MultiplexGroup, payload: BinaryIO, out: BinaryIO, layout: Layout, shift: int
) -> tuple[list[int], list[int]]:
    """Every data record; the smallest and the largest stored value of each channel."""
    lowest = np.full(layout.channels, LARGEST, dtype=_STORED)
    highest = np.full(layout.channels, SMALLEST, dtype=_STORED)
    padding = trusted_padding(group)
    missing = None if padding is None else padding - shift
    for first, records in _batches(group, layout):
        for block, place in _blocks(group, payload, layout, first, records):
            place[...] = _split(_stored(group, as_array(group, block), shift), place.shape)
            np.minimum(lowest, place.min(axis=(0, 2)), out=lowest)
            np.maximum(highest, place.max(axis=(0, 2)), out=highest)
            if missing is not None and lowest.min() <= missing and (place == missing).any():
                raise CannotScale(
                    "EDF has no sign for a missing sample, and the recording has such",
                    where=f"WaveformSequence[{group.number}].WaveformPaddingValue",
                )
        records[:, layout.sample_words :] = _notes(layout, first, len(records))
        out.write(records.data)
    return lowest.tolist(), highest.tolist()


def _stored(group: MultiplexGroup, samples: Samples, shift: int) -> Records:
    """Samples as EDF's 16-bit numbers."""
    if group.dtype == _STORED.str:
        return samples
    # As Python's numbers: those of 64 bits, unsigned, have no room in numpy's signed ones
    if int(samples.min()) - shift < SMALLEST or int(samples.max()) - shift > LARGEST:
        raise CannotScale(
            "a sample needs more than EDF's 16 bits", where=f"WaveformSequence[{group.number}].WaveformData"
        )
    stored: Records = (samples.astype(np.int64) - shift).astype(_STORED)
    return stored


def _batches(group: MultiplexGroup, layout: Layout) -> Iterator[tuple[int, Records]]:
    """The number of a record and the room for it and those behind it, again and again the same memory."""
    together = min(max(BLOCK // frame_bytes(group) // layout.frames, 1), layout.records)
    buffer = np.empty((together, layout.words), dtype=_STORED)
    for first in range(0, layout.records, together):
        yield first, buffer[: layout.records - first]


def _blocks(
    group: MultiplexGroup, payload: BinaryIO, layout: Layout, first: int, records: Records
) -> Iterator[tuple[memoryview, Records]]:
    """The payload's blocks of these records, each with its place in them, of shape (records, channels, frames).

    Several records are one block; a record longer than a block takes several.
    """
    done = 0
    samples = records[:, : layout.sample_words].reshape(len(records), layout.channels, layout.frames)
    for block in sample_blocks(group, payload, start=first * layout.frames, count=len(records) * layout.frames):
        frames = len(block) // frame_bytes(group)
        yield block, samples if len(records) > 1 else samples[:, :, done : done + frames]
        done += frames


def _split(samples: Samples, shape: tuple[int, ...]) -> Samples:
    """Samples of shape (frames, channels), channel by channel in each record."""
    records, channels, frames = shape
    return samples.reshape(records, frames, channels).transpose(0, 2, 1)


def _notes(layout: Layout, first: int, count: int) -> Records:
    return np.frombuffer(layout.notes(first, count), dtype=_STORED).reshape(count, -1)


def _bounds(
    group: MultiplexGroup, shift: int, lowest: Sequence[int], highest: Sequence[int]
) -> list[tuple[Bound, Bound]]:
    found: list[tuple[Bound, Bound]] = []
    for number, (channel, low, high) in enumerate(zip(group.channels, lowest, highest, strict=True), 1):
        try:
            found.append(bounds_of(*_line(channel, shift), low, high))
        except CannotScale as problem:
            problem.where = f"WaveformSequence[{group.number}].ChannelDefinitionSequence[{number}].{problem.where}"
            raise
    return found


def _line(channel: Channel, shift: int) -> tuple[Fraction, Fraction]:
    """µV of a step, and of the stored value 0."""
    scale = scale_of(channel)
    return scale.microvolts, scale.baseline_microvolts + (shift * scale.microvolts if shift else 0)


def _prove(group: MultiplexGroup, payload: BinaryIO, out: BinaryIO, layout: Layout, shift: int) -> Proof:
    """Reads the file back and compares it with the payload, value by value."""
    size = out.seek(0, 2)
    if size != layout.header_bytes + 2 * layout.words * layout.records:
        raise SamplesChanged("the file does not hold the data records as they were written")
    out.seek(0)
    header = out.read(layout.header_bytes)
    signals = read_header(header, group, layout)
    off = _deviation(group, signals, shift)
    whole, before = hashlib.sha256(header), hashlib.sha256()
    for first, records in _batches(group, layout):
        fill(out, records.data.cast("B"))
        whole.update(records.data)
        for block, place in _blocks(group, payload, layout, first, records):
            before.update(block)
            samples = as_array(group, block)
            _compare(samples, place, signals, shift)
            if first == 0 or first + len(records) == layout.records:
                _compare_microvolts(group, samples, place, signals, off)
        if not np.array_equal(records[:, layout.sample_words :], _notes(layout, first, len(records))):
            raise SamplesChanged("a data record does not say its time")
    return Proof(
        form=Form.EDF,
        record="",
        format=16,
        samples=group.samples,
        channels=layout.channels,
        rate=group.rate,
        samples_sha256=before.hexdigest(),
        dat_sha256="",
        identical=False,
        total_size=size,
        sha256=whole.hexdigest(),
        deviation=_told(off),
    )


def _deviation(group: MultiplexGroup, signals: Sequence[Signal], shift: int) -> Fraction:
    """The most that a reader of the header is off from DICOM's own formula, over all channels."""
    most = Fraction(0)
    for channel, signal in zip(group.channels, signals, strict=True):
        step, offset = _line(channel, shift)
        off = deviation(step, offset, signal.low, signal.high)
        if off > allowed(step):
            raise SamplesChanged("the header's scale does not give the object's microvolts")
        most = max(most, off)
    return most


def _compare(samples: Samples, place: Records, signals: Sequence[Signal], shift: int) -> None:
    """Whether the stored values, decoded, are the object's samples, and lie between the ends that the header names."""
    # As a reader does: a channel's part of each record, one after the other
    read: Samples = place.swapaxes(0, 1).reshape(len(signals), -1)
    if samples.dtype != _STORED:
        read = read.astype(np.int64) + shift
    if not np.array_equal(read, samples.T):
        raise SamplesChanged("a sample of the file differs from the object's")
    ends = ((signal.low.digital, signal.high.digital) for signal in signals)
    extremes = zip(place.min(axis=(0, 2)).tolist(), place.max(axis=(0, 2)).tolist(), strict=True)
    if any(low < least or most < high for (least, most), (low, high) in zip(ends, extremes, strict=True)):
        raise SamplesChanged("a sample of the file is outside of the range that its header names")


def _compare_microvolts(
    group: MultiplexGroup, samples: Samples, place: Records, signals: Sequence[Signal], off: Fraction
) -> None:
    """What a reader of the header makes of some points of a record, in doubles, against DICOM's own formula."""
    frames = place.shape[2]
    points = slice(None, frames, max(frames // 8, 1))
    steps, lows = np.array([signal.line for signal in signals]).T
    read = (place[0].T[points] - np.array([signal.low.digital for signal in signals])) * steps + lows
    # Both sides round, by the size of the numbers that they add
    tolerance = float(off) + 1e-9 + 1e-12 * (np.abs(read).max() + np.abs(lows).max())
    if not (np.abs(read - scaled(group, samples[points])) <= tolerance).all():
        raise SamplesChanged("the header's scale does not give the object's microvolts")


def _told(off: Fraction) -> Decimal:
    """In µV, rounded up to what counts."""
    return Decimal(math.ceil(off * 10**9)).scaleb(-9).normalize()
