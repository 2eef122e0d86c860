"""How samples are cut into EDF's data records, and the time that each record carries (EDF+ §2.2.4).

EDF has no count of samples: a file is whole records, so samples = records x samples in one. A writer that pads the
last record adds samples that nobody recorded; here a length that cannot be cut exactly is refused.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from bridge.domain.recording import MultiplexGroup
from bridge.errors import CannotScale

ADVISED = 61_440  # bytes of a record (EDF, 1992)
MOST = 10 << 20  # bytes of a record: EDFlib, on which most readers rest, refuses longer ones
SHORTEST = Fraction(1, 10)  # s; below it the time in each record outgrows its samples
_CHARACTERS = 8
_MOST_CHANNELS = 9998  # the count has four characters, and one signal is the annotations


@dataclass(frozen=True, slots=True)
class Layout:
    """The data records of a file: `channels` x `frames` samples and the annotations, one signal after the other."""

    channels: int
    records: int
    frames: int  # samples of each channel in a record
    seconds: str  # a record's duration, exact
    note_bytes: int  # of the annotations signal, even

    @property
    def header_bytes(self) -> int:
        return 256 * (1 + self.channels + 1)

    @property
    def sample_words(self) -> int:
        return self.channels * self.frames

    @property
    def words(self) -> int:
        """16-bit words of a record."""
        return self.sample_words + self.note_bytes // 2

    def notes(self, start: int, count: int) -> bytes:
        """The annotations signals of records from `start`: each says its record's onset, and nothing else."""
        return b"".join(note.ljust(self.note_bytes, b"\0") for note in _notes(self.seconds, start, count))


def layout_of(group: MultiplexGroup) -> Layout:
    """The records of a group. Raises `CannotScale` where its samples and rate allow none.

    Records of whole seconds within the advised size, the shortest; else the longest within that size; else the
    shortest beyond: a prime number of samples is one record.
    """
    channels = len(group.channels)
    if channels > _MOST_CHANNELS:
        raise CannotScale("more channels than EDF counts", where=f"WaveformSequence[{group.number}]")
    frames = _frames(group.samples, Fraction(group.rate), channels)
    if frames is None:
        raise CannotScale(
            "the samples cannot be cut into EDF's data records without padding the last: their number has no divisor "
            f"that makes a record of at least {float(SHORTEST):g} s, at most {MOST >> 20} MiB and an exact duration",
            where=f"WaveformSequence[{group.number}].NumberOfWaveformSamples",
        )
    records = group.samples // frames
    seconds = str(_seconds(frames, Fraction(group.rate)))
    (last,) = _notes(seconds, records - 1, 1)
    return Layout(channels, records, frames, seconds, len(last) + len(last) % 2)


def _notes(seconds: str, start: int, count: int) -> Iterator[bytes]:
    """Time-stamped annotation lists with an empty annotation: `+12.5`, two separators, the end (EDF+ §2.2.2)."""
    if seconds.isdecimal():  # a day has 86,400 of them
        each = int(seconds)
        return (b"+%d\x14\x14\0" % (each * number) for number in range(start, start + count))
    exact = Decimal(seconds)
    return (f"+{exact * number:f}\x14\x14\0".encode("ascii") for number in range(start, start + count))


@lru_cache(maxsize=256)
def _frames(samples: int, rate: Fraction, channels: int) -> int | None:
    """Samples of each channel in a record; None where no number will do."""
    counted = [n for n in _divisors(samples) if samples // n < 10**_CHARACTERS]
    fit = [n for n in counted if n / rate >= SHORTEST and _seconds(n, rate) is not None]
    advised = [n for n in fit if _bytes(n, channels) <= ADVISED]
    whole = [n for n in advised if (n / rate).denominator == 1]
    if whole or advised:
        return min(whole, default=max(advised))
    return min((n for n in fit if _bytes(n, channels) <= MOST), default=None)


def _bytes(frames: int, channels: int) -> int:
    longest_note = 32
    return 2 * frames * channels + longest_note


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return [*small, *(number // n for n in small)]


def _seconds(frames: int, rate: Fraction) -> str | None:
    """The duration of a record as a decimal of eight characters; None where those cannot say it exactly."""
    exact = frames / rate
    for places in range(_CHARACTERS - 1):
        if (exact * 10**places).denominator == 1:
            text = f"{Decimal(int(exact * 10**places)).scaleb(-places):f}"
            return text if len(text) <= _CHARACTERS else None
    return None
