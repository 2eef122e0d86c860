"""A recording: what an ECG waveform object says about its samples, without holding them.

Words follow PS3.3 C.10.9 (Waveform Module). Samples stay in the payload file; `offset` says where.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Originality(StrEnum):
    """WaveformOriginality (003A,0004)."""

    ORIGINAL = "ORIGINAL"
    DERIVED = "DERIVED"


@dataclass(frozen=True, slots=True)
class Channel:
    """One lead. Physical value in µV = (sample x sensitivity x correction + baseline) x microvolts.

    `sensitivity` is None where the object has none (type 1C): it cannot be scaled. `microvolts` is the size of the
    channel's unit (uV: 1, mV: 1000); None where the unit is no voltage.
    """

    lead: str  # "I", "aVR", "V1"; "ch3" where nothing names it
    sensitivity: Decimal | None
    correction: Decimal = Decimal(1)
    baseline: Decimal = Decimal(0)
    microvolts: Decimal | None = Decimal(1)
    low_cut_hz: Decimal | None = None
    high_cut_hz: Decimal | None = None
    notch_hz: Decimal | None = None


@dataclass(frozen=True, slots=True)
class MultiplexGroup:
    """One item of WaveformSequence: channels sampled by one clock, samples interleaved.

    `offset` and `length` are bytes of the payload file: where the value of WaveformData begins and how long it is
    without a pad byte. `dtype` is a numpy name with byte order (`<i2`, `|u1`, `<i4`).
    """

    number: int  # position in WaveformSequence, from 1
    originality: Originality
    label: str
    rate: Decimal  # Hz
    samples: int  # per channel
    channels: tuple[Channel, ...]
    dtype: str
    bits_stored: int
    padding: int | None
    time_offset_ms: Decimal
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Recording:
    """An ECG waveform object, read. `start` is the local wall clock or an aware time, as the object says it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    groups: tuple[MultiplexGroup, ...]
    warnings: tuple[str, ...] = ()

    def rhythm(self) -> MultiplexGroup:
        """The group to upload: ORIGINAL before DERIVED, then the longest, then the first.

        Vendors leave MultiplexGroupLabel out, so it is never asked (dicom_ecg.md §3.2).
        """
        return min(
            self.groups,
            key=lambda g: (g.originality is not Originality.ORIGINAL, -g.samples / g.rate, g.number),
        )
