"""A recording: what an ECG waveform object says about its samples, without holding them.

Words follow PS3.3 C.10.9 (Waveform Module). Samples stay in the payload file; `offset` says where.
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

_UNNAMED = re.compile(r"ch\d+(-\d+)?", re.ASCII)


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
    bits_stored: int | None = None  # of each sample, right justified; None: all of them
    no_number: str = ""  # the attribute of the scale that stands there and is no number


@dataclass(frozen=True, slots=True)
class MultiplexGroup:
    """One item of WaveformSequence: channels sampled by one clock, samples interleaved.

    `offset` and `length` are bytes of the payload file: where the value of WaveformData begins and how long it is
    without a pad byte. `dtype` is a numpy name with byte order (`<i2`, `|u1`, `<i4`); samples that are no numbers to
    us are plain bytes (`|V1`), and `unreadable` says why.
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
    unreadable: str = ""
    originality_stated: bool = True

    @property
    def seconds(self) -> Decimal:
        """How long it lasts."""
        return self.samples / self.rate

    def is_twin_of(self, other: "MultiplexGroup") -> bool:
        """Whether it says of itself what the other says, its place aside: the same samples make it the same group."""
        return replace(self, number=0, label="", offset=0) == replace(other, number=0, label="", offset=0)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which groups of a recording are uploaded, one upload and one task each, in this order.

    `left_out` are the numbers of those that are original too and are not. `held`: none is, and why; a person must
    look.
    """

    groups: tuple[MultiplexGroup, ...]
    places: tuple[int, ...] = (0,)  # of each among the original groups: the same whatever else is selected
    left_out: tuple[int, ...] = ()
    held: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """An ECG waveform object, read."""

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
            key=lambda g: (g.originality is not Originality.ORIGINAL, -g.seconds, g.number),
        )

    def selected(self, several: str) -> Selection:
        """The groups to upload. `several` is what a site wants of several original ones: `each`, `longest`, `hold`.

        Derived groups (median beats) are never uploaded beside original ones. Groups of unlike leads, or of leads
        that nothing names, may be one recording, written in parts (4 x 3 leads, each after the other, PS3.3
        A.34.3.4): no upload holds them together, and each for itself would pass a part for the whole, so they are
        held. So is a group that does not say whether it is original where others stand beside it: it may be a median
        beat. `longest` is a site's own word for such objects, and is heard where one is the longest.
        """
        originals = tuple(g for g in self.groups if g.originality is Originality.ORIGINAL)
        if len(originals) < 2:
            return Selection((self.rhythm(),))
        leads = {frozenset(c.lead.casefold() for c in g.channels) for g in originals}
        alike = len(leads) == 1 and not any(_UNNAMED.fullmatch(lead) for lead in next(iter(leads)))
        if several == "longest":
            rhythm = self.rhythm()
            others = [g for g in originals if g is not rhythm]
            if not alike and any(g.seconds == rhythm.seconds for g in others):
                return Selection((), (), held="groups_differ")
            return Selection((rhythm,), (originals.index(rhythm),), tuple(g.number for g in others))
        if several == "hold" or not all(g.originality_stated for g in originals):
            return Selection((), (), held="several_groups")
        if not alike:
            return Selection((), (), held="groups_differ")
        return Selection(originals, tuple(range(len(originals))))
