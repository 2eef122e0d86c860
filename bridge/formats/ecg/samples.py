"""Samples out of a payload file: in blocks as they stand, or as microvolts. Never the whole recording at once."""

import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bridge.domain.recording import MultiplexGroup
from bridge.errors import BridgeError, CannotScale
from bridge.formats.ecg.scaling import require_scalable, scale_of, stored_range, trusted_padding

BLOCK = 256 * 1024  # bytes; stays in the processor's cache while it is hashed, summed and written


class SamplesChanged(BridgeError):
    """What was written, or what can be read now, is not what the object said. Nothing of it may be uploaded."""


def frame_bytes(group: MultiplexGroup) -> int:
    """Bytes of one sample of every channel."""
    return len(group.channels) * np.dtype(group.dtype).itemsize


def sample_blocks(
    group: MultiplexGroup, payload: BinaryIO, *, start: int = 0, count: int | None = None
) -> Iterator[memoryview]:
    """The bytes of `count` frames from frame `start`, whole frames at a time, as they stand in the payload.

    A block is valid until the next one is asked for. Raises `SamplesChanged` where the payload has become shorter
    than the object that was read from it.
    """
    frame = frame_bytes(group)
    start = min(max(start, 0), group.samples)
    left = group.samples - start if count is None else min(max(count, 0), group.samples - start)
    left *= frame
    buffer = memoryview(bytearray(min(left, max(BLOCK // frame, 1) * frame)))
    payload.seek(group.offset + start * frame)
    while left:
        block = buffer[: min(left, len(buffer))]
        fill(payload, block)
        yield block
        left -= len(block)


def fill(stream: BinaryIO, block: memoryview) -> None:
    """Fills the block from the stream; `SamplesChanged` where the stream ends before."""
    done = 0
    while done < len(block):
        got: int | None = stream.readinto(block[done:])  # type: ignore[attr-defined]  # every stream of io has it
        if not got:
            raise SamplesChanged("the payload ends before its samples do")
        done += got


def microvolts(
    group: MultiplexGroup, payload: BinaryIO, start: int = 0, count: int | None = None
) -> npt.NDArray[np.float64]:
    """µV of `count` frames from frame `start`, shape (frames, channels); fewer where the recording ends.

    sample x sensitivity x correction + baseline (PS3.3 C.10.9.1.4), in the payload's byte order. A trusted
    padding value is NaN. Raises `CannotScale` where there is no voltage.
    """
    require_scalable(group)
    parts = [scaled(group, as_array(group, block)) for block in sample_blocks(group, payload, start=start, count=count)]
    return np.concatenate(parts) if parts else np.empty((0, len(group.channels)))


def as_array(group: MultiplexGroup, block: memoryview) -> npt.NDArray[Any]:
    """The samples of whole frames, shape (frames, channels), in the payload's own type and byte order.

    Raises `CannotScale` where one has more bits than the object stores: every way to an upload goes through here.
    """
    samples = np.frombuffer(block, dtype=group.dtype).reshape(-1, len(group.channels))
    if any(c.bits_stored is not None for c in group.channels):
        _require_stored_bits(group, samples)
    return samples


def _require_stored_bits(group: MultiplexGroup, samples: npt.NDArray[Any]) -> None:
    """The sign is extended to the highest bit, unlike that of pixels (PS3.3 C.10.9.1.7): a sample of 12 bits in 16
    is read as it stands, and one beyond its 12 bits is none. The writer left the sign bits empty then, or says too
    few bits: -1 would be read as 4095, and nothing tells which it was.
    """
    padding = trusted_padding(group)
    for number, channel in enumerate(group.channels, 1):
        if channel.bits_stored is None:
            continue
        low, high = stored_range(group.dtype, channel.bits_stored)
        column = samples[:, number - 1]
        beyond = (column < low) | (column > high)
        if padding is not None:
            beyond &= column != padding
        if beyond.any():
            raise CannotScale(
                f"a sample has more than the {channel.bits_stored} bits that are said to be stored",
                where=f"WaveformSequence[{group.number}].ChannelDefinitionSequence[{number}].WaveformBitsStored",
            )


def scaled(group: MultiplexGroup, samples: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Samples of the payload as µV."""
    scales = [scale_of(c) for c in group.channels]
    values = samples * np.array([float(s.microvolts) for s in scales])
    values += np.array([float(s.baseline_microvolts) for s in scales])
    padding = trusted_padding(group)
    if padding is not None:
        values[samples == padding] = np.nan
    result: npt.NDArray[np.float64] = values
    return result


def check_samples(group: MultiplexGroup, payload: BinaryIO) -> str:
    """SHA-256 of the samples, which every proof names.

    Raises `CannotScale` or `SamplesChanged` where they cannot be taken for what the object says they are.
    """
    require_scalable(group)
    digest = hashlib.sha256()
    for block in sample_blocks(group, payload):
        as_array(group, block)
        digest.update(block)
    return digest.hexdigest()
