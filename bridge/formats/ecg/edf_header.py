"""The header of an EDF+ file: written, and read back for the proof (EDF, 1992; EDF+ §2.1).

It names no patient and no time (`X`: unknown or made anonymous; §2.1.3, items 3 and 4). EDF must have a date all the
same: it is always 01.01.85, the first that there is (item 2). Patient and start are fields of the task, which override
the file; only of a recording without any start of its own could a reader that does not know the `X` show 1985.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from bridge.domain.recording import MultiplexGroup
from bridge.formats.ecg.edf_records import Layout
from bridge.formats.ecg.edf_scale import LARGEST, SMALLEST, Bound
from bridge.formats.ecg.samples import SamplesChanged

_NOTES = "EDF Annotations"  # EDF+ §2.2.1: what a signal of that label holds are no samples
_FILE = (("0", 8), ("X X X X", 80), ("Startdate X X X X", 80), ("01.01.85", 8), ("00.00.00", 8))
_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)


@dataclass(frozen=True, slots=True)
class Signal:
    """What the header says of one signal. µV = the line through the two ends."""

    label: str
    low: Bound
    high: Bound

    @property
    def line(self) -> tuple[float, float]:
        """µV of one digital step and of the lower end, as a reader makes them of the two ends."""
        return _line(self.low, self.high)


@lru_cache(maxsize=1024)
def _line(low: Bound, high: Bound) -> tuple[float, float]:
    return float((high.microvolts - low.microvolts) / (high.digital - low.digital)), float(low.microvolts)


def header_bytes(group: MultiplexGroup, layout: Layout, bounds: Sequence[tuple[Bound, Bound]]) -> bytes:
    """The whole header: 256 bytes of the file and 256 of each signal, every field of all signals together."""
    signals = [
        (
            label,
            "",
            "uV",
            low.text,
            high.text,
            str(low.digital),
            str(high.digital),
            _filters(c.low_cut_hz, c.high_cut_hz, c.notch_hz),
        )
        for label, c, (low, high) in zip(_labels(group), group.channels, bounds, strict=True)
    ]
    signals.append((_NOTES, "", "", "-1", "1", str(SMALLEST), str(LARGEST), ""))
    counts = [*[layout.frames] * layout.channels, layout.note_bytes // 2]
    rows = [(*signal, str(count), "") for signal, count in zip(signals, counts, strict=True)]
    table = zip(zip(*rows, strict=True), _WIDTHS, strict=True)
    fields = [text.ljust(width) for text, width in (*_FILE, *_sizes(layout))]
    fields += [text.ljust(width) for column, width in table for text in column]
    whole = "".join(fields).encode("ascii")
    if len(whole) != layout.header_bytes:
        raise ValueError("a field of the header is too long for its place")
    return whole


def read_header(data: bytes, group: MultiplexGroup, layout: Layout) -> list[Signal]:
    """The channels' scales, read back. `SamplesChanged` where the header does not describe the group."""
    try:
        fields = _Fields(data)
        *_, records, seconds, _ = [fields.next(width) for _, width in (*_FILE, *_sizes(layout))]
        table = [[fields.next(width) for _ in range(layout.channels + 1)] for width in _WIDTHS]
        *channels, _ = zip(*table, strict=True)
        signals = [
            Signal(label, Bound(int(digital_low), low), Bound(int(digital_high), high))
            for label, _, _, low, high, digital_low, digital_high, *_ in channels
        ]
        ends = [s.low.microvolts < s.high.microvolts and s.low.digital < s.high.digital for s in signals]
        frames = {int(count) for *_, count, _ in channels}
        lengths = {(int(records) * n, n / Fraction(seconds)) for n in frames}
        # All else in it: the same scales make the same header, byte for byte
        same = header_bytes(group, layout, [(s.low, s.high) for s in signals]) == data
    except (ValueError, ZeroDivisionError) as problem:
        raise SamplesChanged("the header cannot be read back") from problem
    if not same or not all(ends) or lengths != {(group.samples, Fraction(group.rate))}:
        raise SamplesChanged("the header does not describe the recording")
    return signals


def _sizes(layout: Layout) -> Iterator[tuple[str, int]]:
    yield str(layout.header_bytes), 8
    yield "EDF+C", 44
    yield str(layout.records), 8
    yield layout.seconds, 8
    yield str(layout.channels + 1), 4


def _labels(group: MultiplexGroup) -> list[str]:
    return [_label(channel.lead) or f"ECG ch{number}" for number, channel in enumerate(group.channels, 1)]


@lru_cache(maxsize=1024)
def _label(lead: str) -> str:
    """The standard text, `ECG V1` (EDF+ §2.1.3, item 9); the lead alone where 16 characters have no room for both.

    Nothing where that has none either.
    """
    plain = re.sub(r"[^\x20-\x7e]", "_", lead).strip()
    fit = (text for text in (f"ECG {plain}", plain) if plain and len(text) <= 16 and text != _NOTES)
    return next(fit, "")


@lru_cache(maxsize=1024)
def _filters(low_cut_hz: Decimal | None, high_cut_hz: Decimal | None, notch_hz: Decimal | None) -> str:
    """`HP:0.05Hz LP:150Hz N:50Hz` (EDF+ §2.1.3, item 11)."""
    named = (("HP", low_cut_hz), ("LP", high_cut_hz), ("N", notch_hz))
    return " ".join(f"{name}:{float(value):g}Hz" for name, value in named if value)


class _Fields:
    """The fields of a header, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def next(self, width: int) -> str:
        """The next field without its padding."""
        self._at += width
        return self._data[self._at - width : self._at].decode("ascii").rstrip(" ")
