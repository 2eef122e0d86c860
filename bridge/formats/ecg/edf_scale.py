"""A channel's scale as EDF can say it: two digital values and the µV that they stand for, in eight characters each.

A reader draws a straight line through the two points, so the points may lie anywhere that spans the samples. They are
put where their µV need no rounding: for 4.88 µV at multiples of 25, which are whole µV (dicom_ecg.md §4.2, note 3).
Bounds at +-32768 would have to say -159907.84, which is two characters too long.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from bridge.errors import CannotScale

SMALLEST, LARGEST = -32768, 32767
CHARACTERS = 8
MOST_DEVIATION = Fraction(1, 20)
"""µV: what one decimal may round by, and eight characters leave one down to -100 mV, where no ECG comes. A 25th of what
the finest carts count in (1.25 µV); that no recording need be held for a scale alone is worth it."""
MOST_OF_A_STEP = Fraction(1, 10)
"""Of a sample's step: a reader that rounds to whole steps then still finds each sample, with room to spare."""
_WINDOW = 1024  # digital values tried for the least rounding where none has none: it falls by about that much
_PLACES = range(CHARACTERS - 1)


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a scale: a digital value, and its µV as the header spells it."""

    digital: int
    text: str

    @property
    def microvolts(self) -> Fraction:
        return _read(self.text)


def bounds_of(step: Fraction, offset: Fraction, lowest: int, highest: int) -> tuple[Bound, Bound]:
    """The two ends of a scale that spans the digital values from `lowest` to `highest`, both inside 16 bits.

    µV = digital x `step` + `offset`. Exact where any two ends are, then in whole µV if possible; else off by at most
    `deviation`. Raises `CannotScale`, `where` an attribute of the channel, where that is too much.
    """
    if lowest == highest:  # a line needs two points
        lowest, highest = (lowest, highest + 1) if highest < LARGEST else (lowest - 1, highest)
    low = _end(step, offset, lowest, down=True)
    high = _end(step, offset, highest, down=False)
    if low is None or high is None or deviation(step, offset, low, high) > allowed(step):
        raise CannotScale(
            "the scale cannot be said in the eight characters that EDF has for it without moving the values",
            where="ChannelSensitivity",
        )
    return low, high


def allowed(step: Fraction) -> Fraction:
    """The largest deviation that is taken, in µV."""
    return min(MOST_DEVIATION, step * MOST_OF_A_STEP)


@lru_cache(maxsize=1024)  # fractions are slow, and a device has the same few scales in every recording
def deviation(step: Fraction, offset: Fraction, low: Bound, high: Bound) -> Fraction:
    """The most that a reader of the two ends is off from digital x `step` + `offset`, in µV, exact.

    The difference of two straight lines is largest at an end.
    """
    return max(abs(end.microvolts - (end.digital * step + offset)) for end in (low, high))


@lru_cache(maxsize=1024)
def _read(text: str) -> Fraction:
    return Fraction(text)


def _end(step: Fraction, offset: Fraction, sample: int, *, down: bool) -> Bound | None:
    """The end that lies at `sample` or beyond it; None where nothing fits into eight characters."""
    for bound in _exact_ends(step, offset, down=down):
        if bound.digital <= sample if down else bound.digital >= sample:
            return bound
    near = [
        _nearest(step, offset, places, *span)
        for places in _PLACES
        if (span := _span(step, offset, places, sample, down=down))
    ]
    return min((b for b in near if b), key=lambda b: abs(b.microvolts - (b.digital * step + offset)), default=None)


@lru_cache(maxsize=1024)
def _exact_ends(step: Fraction, offset: Fraction, *, down: bool) -> tuple[Bound, ...]:
    """The outermost exact end with no decimals, with one, and so on; each is nearer to the middle than the last.

    `places` decimals are enough where digital x step + offset is a whole number of their units. Over the common
    denominator that is a linear congruence, whose solutions are `period` apart.
    """
    found: list[Bound] = []
    for places in _PLACES:
        room = _room(step, offset, places)
        if room is None:
            continue
        scaled_step, scaled_offset = step * 10**places, offset * 10**places
        whole = math.lcm(scaled_step.denominator, scaled_offset.denominator)
        by, plus = int(scaled_step * whole), int(scaled_offset * whole)
        shared = math.gcd(by, whole)
        if plus % shared:
            continue
        period = whole // shared
        first = -(plus // shared) * pow(by // shared, -1, period) % period
        digital = room[0] + (first - room[0]) % period if down else room[1] - (room[1] - first) % period
        if room[0] <= digital <= room[1]:
            found.append(Bound(digital, _text(step, offset, digital, places)))
    return tuple(found)


@lru_cache(maxsize=4096)
def _nearest(step: Fraction, offset: Fraction, places: int, start: int, stop: int) -> Bound | None:
    """The digital value from `start` to `stop` whose µV are rounded least by so many decimals."""
    scaled_step, scaled_offset = step * 10**places, offset * 10**places
    whole = math.lcm(scaled_step.denominator, scaled_offset.denominator)
    by, plus = int(scaled_step * whole), int(scaled_offset * whole)

    def rounding(digital: int) -> int:
        over = (digital * by + plus) % whole
        return min(over, whole - over)

    digital = min(range(start, stop + 1), key=rounding)
    text = _text(step, offset, digital, places)
    return Bound(digital, text) if len(text) <= CHARACTERS else None


def _span(step: Fraction, offset: Fraction, places: int, sample: int, *, down: bool) -> tuple[int, int] | None:
    """The outermost digital values with room for so many decimals that lie at the sample or beyond it."""
    room = _room(step, offset, places)
    if room is None:
        return None
    start, stop = (room[0], min(room[1], sample)) if down else (max(room[0], sample), room[1])
    if start > stop:
        return None
    return (start, min(stop, start + _WINDOW)) if down else (max(start, stop - _WINDOW), stop)


def _room(step: Fraction, offset: Fraction, places: int) -> tuple[int, int] | None:
    """The digital values whose µV have room for so many decimals, point and sign: -9999999, -99999.9, 99999.99."""
    point = 1 if places else 0
    above = 10 ** (CHARACTERS - point) - 1  # in units of the last decimal
    below = 10 ** (CHARACTERS - point - 1) - 1
    if CHARACTERS - point - 1 <= places:
        below = 0  # no digit is left for the zero before the point
    unit = 10**places
    low = max(SMALLEST, math.ceil((Fraction(-below, unit) - offset) / step))
    high = min(LARGEST, math.floor((Fraction(above, unit) - offset) / step))
    return (low, high) if low <= high else None


def _text(step: Fraction, offset: Fraction, digital: int, places: int) -> str:
    return f"{Decimal(round((digital * step + offset) * 10**places)).scaleb(-places):f}"
