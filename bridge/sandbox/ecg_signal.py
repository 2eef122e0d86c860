"""Invented ECGs that look like ECGs: a heart vector in space, seen by electrodes on the body.

Each wave (P, QRS, T) is a sum of Gaussians in time, each with a direction: x to the patient's left, y to the feet,
z to the front. A lead is the vector's shadow on the lead's own direction, so the leads agree with each other as
in a person: I + III = II to the microvolt (Einthoven), and R grows from V1 to V5 while S shrinks.
Noise and baseline wander are made at the electrodes, before leads are formed, so they obey the same law.

The random numbers are the raw words of PCG64, a stream that numpy keeps stable from version to version:
the same seed gives the same samples wherever the samples of this project are made again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

Floats = NDArray[np.float64]


class Rhythm(StrEnum):
    """What the heart does."""

    SINUS = "sinus"
    FIBRILLATION = "atrial fibrillation"  # no P, fine waves instead, beats at any distance
    PREMATURE = "premature beats"  # every fifth beat comes early from a ventricle: broad, T against it


@dataclass(frozen=True, slots=True)
class _Bump:
    """One Gaussian of a wave: seconds from the R peak, its width (sigma) in seconds, its vector in µV."""

    at: float
    width: float
    vector: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Beat:
    """A heartbeat: R peak in seconds, seconds since the beat before, and whether it comes from a ventricle."""

    at: float
    interval: float
    ventricular: bool = False


_P = (
    _Bump(-0.172, 0.018, (25.0, 60.0, 40.0)),  # the right atrium first
    _Bump(-0.142, 0.019, (50.0, 62.0, -45.0)),  # then the left one, which lies behind
)
_QRS = (
    _Bump(-0.026, 0.0070, (-130.0, -45.0, 170.0)),  # the septum, from left to right: small q in I and V6, r in V1
    _Bump(-0.010, 0.0085, (330.0, 400.0, 420.0)),  # the apex
    _Bump(0.005, 0.0095, (820.0, 800.0, -560.0)),  # the free wall of the left ventricle: the R wave
    _Bump(0.028, 0.0085, (-110.0, -230.0, -300.0)),  # the base at last: the S wave
)
_T = (
    _Bump(0.225, 0.048, (80.0, 85.0, 70.0)),  # rises slowly,
    _Bump(0.275, 0.030, (165.0, 170.0, 115.0)),  # falls faster
)
_EARLY_QRS = (
    _Bump(-0.030, 0.022, (-250.0, 500.0, 500.0)),
    _Bump(0.018, 0.026, (-560.0, 1000.0, 760.0)),
    _Bump(0.062, 0.018, (160.0, -260.0, -200.0)),
)
_EARLY_T = (_Bump(0.270, 0.055, (230.0, -390.0, -300.0)),)

_CHEST = {
    "V1": (-0.42, 0.05, 0.80),
    "V2": (-0.18, 0.06, 1.45),
    "V3": (0.35, 0.15, 1.25),
    "V4": (0.90, 0.25, 0.85),
    "V5": (1.15, 0.30, 0.25),
    "V6": (0.90, 0.26, -0.08),
}
_RATE_MIN, _RATE_MAX = 20.0, 250.0


class _Dice:
    """Random numbers of a seed, from PCG64's raw words."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.PCG64(seed)

    def even(self, count: int) -> Floats:
        """Evenly spread over [0, 1)."""
        words: NDArray[np.uint64] = self._source.random_raw(count)
        spread: Floats = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return spread

    def bell(self, count: int) -> Floats:
        """Nearly normal, mean 0, deviation 1: the sum of four even ones."""
        sums: Floats = self.even(4 * count).reshape(4, count).sum(axis=0)
        return (sums - 2.0) * math.sqrt(3.0)


def ecg(
    *,
    seconds: float,
    rate: int,
    heart_rate: float = 72,
    seed: int = 1,
    leads: Sequence[str] = TWELVE,
    rhythm: Rhythm = Rhythm.SINUS,
    noise: float = 1.0,
) -> NDArray[np.int32]:
    """An ECG in whole µV, shape (samples, leads); the same arguments give the same samples.

    I + III = II exactly; aVR + aVL + aVF is at most 1 µV. `noise` scales muscle noise and baseline wander; 0 is clean.
    Raises ValueError for a lead that is not one of the twelve, and a heart rate outside 20 to 250.
    """
    unknown = sorted(set(leads) - set(TWELVE))
    if unknown:
        raise ValueError(f"no such lead: {', '.join(unknown)}; the leads are {', '.join(TWELVE)}")
    if not _RATE_MIN <= heart_rate <= _RATE_MAX:
        raise ValueError(f"a heart rate is from {_RATE_MIN:g} to {_RATE_MAX:g} a minute")
    dice = _Dice(seed)
    count = round(seconds * rate)
    time = np.arange(count, dtype=np.float64) / rate
    heart = np.zeros((count, 3))
    for beat in _beats(seconds, 60.0 / heart_rate, rhythm, dice):
        _draw(heart, beat, rate, with_p=rhythm is not Rhythm.FIBRILLATION)
    if rhythm is Rhythm.FIBRILLATION:
        heart += _fibrillation(time, dice)
    return _seen_by(heart, _disturbance(time, rate, dice) * noise, leads)


def _beats(seconds: float, interval: float, rhythm: Rhythm, dice: _Dice) -> list[_Beat]:
    """The beats that are seen, from one before the start to one after the end.

    A sinus beat comes a little sooner or later with the breath; in fibrillation the distance is anything.
    """
    beats = [_Beat(0.35 - interval, interval)]
    while beats[-1].at < seconds + 0.5:
        last, number = beats[-1], len(beats)
        if rhythm is Rhythm.FIBRILLATION:
            gap = interval * (0.62 + 0.85 * float(dice.even(1)[0]))
            beats.append(_Beat(last.at + gap, gap))
            continue
        breath = 1.0 + 0.03 * float(np.sin(2 * np.pi * 0.22 * last.at))
        gap = interval * (breath + 0.008 * float(dice.bell(1)[0]))
        if rhythm is Rhythm.PREMATURE and number % 5 == 4:
            early = 0.6 * gap
            beats.append(_Beat(last.at + early, early, ventricular=True))
        elif last.ventricular:
            pause = 1.4 * gap  # the sinus beat after it falls where it would have fallen anyway
            beats.append(_Beat(last.at + pause, pause))
        else:
            beats.append(_Beat(last.at + gap, gap))
    return beats


def _draw(heart: Floats, beat: _Beat, rate: int, *, with_p: bool) -> None:
    """Add one beat to the heart vector. A faster heart has a shorter QT (Bazett) and a shorter PR."""
    stretch = float(np.sqrt(min(max(beat.interval, 0.3), 1.3)))
    if beat.ventricular:
        waves = [(_EARLY_QRS, 1.0), (_EARLY_T, stretch**0.5)]
    else:
        waves = [(_QRS, 1.0), (_T, stretch)]
        if with_p:
            waves.append((_P, stretch**0.5))
    for bumps, factor in waves:
        for bump in bumps:
            middle, width = beat.at + bump.at * factor, bump.width * factor
            first = max(int((middle - 6 * width) * rate), 0)
            last = min(int((middle + 6 * width) * rate) + 2, len(heart))
            if first < last:
                away = (np.arange(first, last) / rate - middle) / width
                heart[first:last] += np.exp(-0.5 * away**2)[:, np.newaxis] * np.array(bump.vector)


def _fibrillation(time: Floats, dice: _Dice) -> Floats:
    """Fine waves of 5 to 7 a second, most of them to the front (V1), never twice alike."""
    wave = np.zeros_like(time)
    for frequency, share in ((5.3, 1.0), (6.1, 0.8), (6.9, 0.5), (11.3, 0.25)):
        start, drift = dice.even(2)
        bend = 1.3 * np.sin(2 * np.pi * (0.21 + 0.3 * drift) * time)
        wave += share * np.sin(2 * np.pi * (frequency * time + start) + bend)
    seen: Floats = wave[:, np.newaxis] * np.array([6.0, 20.0, 34.0])
    return seen


def _disturbance(time: Floats, rate: int, dice: _Dice) -> Floats:
    """What is not the heart, in µV at each of nine electrodes: RA, LA, LL, C1 to C6."""
    made = np.empty((len(time), 9))
    soft = np.ones(max(rate // 250, 1)) / max(rate // 250, 1)  # an electrocardiograph ends near 150 Hz
    for electrode in range(9):
        muscle = np.convolve(dice.bell(len(time)), soft, mode="same") * 3.0
        wander = np.zeros_like(time)
        for frequency, share in ((0.22, 22.0), (0.09, 16.0), (0.37, 7.0)):
            start, size = dice.even(2)
            wander += share * (0.4 + size) * np.sin(2 * np.pi * (frequency * time + start))
        made[:, electrode] = muscle + wander
    return made


def _seen_by(heart: Floats, disturbance: Floats, leads: Sequence[str]) -> NDArray[np.int32]:
    """The leads in whole µV. I and II are rounded, the limb leads that follow from them are computed after that."""
    right_arm, left_arm, left_leg = disturbance[:, 0], disturbance[:, 1], disturbance[:, 2]
    one = np.rint(heart[:, 0] * 0.85 + left_arm - right_arm)
    two = np.rint(heart @ np.array([0.43, 0.87, 0.0]) + left_leg - right_arm)
    seen = {
        "I": one,
        "II": two,
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
    terminal = (right_arm + left_arm + left_leg) / 3  # Wilson's central terminal
    for number, (name, direction) in enumerate(_CHEST.items()):
        seen[name] = heart @ np.array(direction) + disturbance[:, 3 + number] - terminal
    return np.stack([np.rint(seen[lead]) for lead in leads], axis=1).astype(np.int32)
