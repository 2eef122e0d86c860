"""How samples become those of a WFDB signal file, and back (WFDB signal(5), formats 16 and 32).

Both formats are two's complement, little endian, interleaved: what DICOM writes for SS and SL. So those two are
copied byte for byte; every other type is converted value for value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.domain.recording import MultiplexGroup
from bridge.formats.ecg.scaling import trusted_padding

Samples = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A WFDB format for one group. Stored value = sample - `shift`; `padding` is stored as `missing`."""

    format: int  # 16 or 32, which are its bits too
    shift: int
    padding: int | None
    dtype: str  # of the payload

    @property
    def stored_dtype(self) -> str:
        return f"<i{self.format // 8}"

    @property
    def missing(self) -> int:
        """The value that readers of the format take for "no sample"."""
        return -(1 << (self.format - 1))

    @property
    def is_copy(self) -> bool:
        """Whether the signal file is the payload's samples, byte for byte."""
        return self.dtype == self.stored_dtype and self.padding in {None, self.missing}

    def encode(self, samples: Samples) -> Samples | None:
        """The stored values; None where a true sample would be read as missing or does not fit."""
        if self.is_copy:
            return None if self.padding is None and samples.min() == self.missing else samples
        gone = None if self.padding is None else samples == self.padding
        true = samples if gone is None else samples[~gone]
        low, high = self.missing + 1 + self.shift, -self.missing - 1 + self.shift
        # As Python's numbers: those of 64 bits, unsigned, have no room in numpy's signed ones
        if true.size and not (low <= int(true.min()) and int(true.max()) <= high):
            return None
        stored: Samples = (samples.astype(np.int64) - self.shift).astype(self.stored_dtype)
        if gone is not None:
            stored[gone] = self.missing
        return stored

    def decode(self, stored: Samples) -> Samples:
        """The samples that stored values stand for, as 64-bit integers."""
        samples = stored.astype(np.int64) + self.shift
        if self.dtype[1:] == "u8":
            samples = samples.astype(np.uint64)
        if self.padding is not None:
            samples[stored == self.missing] = self.padding
        return samples


def encodings_for(group: MultiplexGroup) -> list[Encoding]:
    """The formats that can hold the group, the smaller one first: it may turn out to hold a reserved value."""
    padding = trusted_padding(group)
    kind = group.dtype[1:]
    if kind in {"i1", "u1", "i2", "u2"}:
        narrow = Encoding(16, 32768 if kind == "u2" else 0, padding, group.dtype)
        return [narrow, Encoding(32, 0, padding, group.dtype)]
    return [Encoding(32, 0, padding, group.dtype)]  # of 64 bits too, where every sample has room


def channel_sums(stored: Samples) -> npt.NDArray[np.uint16]:
    """The sum of each channel's values, modulo 65536: the checksum of WFDB header(5), as an unsigned number."""
    low = stored.view("<u2") if stored.dtype.itemsize == 2 else stored.astype(np.uint16)
    frames, channels = low.shape
    # Summing rows of 12 numbers leaves the processor idle; rows of 256 frames fill it (ten times as fast).
    together = 256
    whole = frames - frames % together
    wide = low[:whole].reshape(-1, together * channels).sum(axis=0, dtype=np.uint16)
    sums = wide.reshape(together, channels).sum(axis=0, dtype=np.uint16)
    sums += low[whole:].sum(axis=0, dtype=np.uint16)
    return np.asarray(sums, dtype=np.uint16)
