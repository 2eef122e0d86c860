"""An invented ECG must obey what every ECG obeys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sandbox.ecg_signal import TWELVE, Rhythm, ecg


def lead(signal, name):
    return signal[:, TWELVE.index(name)].astype(np.int64)


def r_peaks(signal, rate):
    """Sample numbers of the R peaks, from lead II: the highest point of each stretch above half the maximum."""
    two = lead(signal, "II")
    above = np.flatnonzero(two > two.max() / 2)
    beats = np.split(above, np.flatnonzero(np.diff(above) > rate * 0.1) + 1)
    return np.array([beat[np.argmax(two[beat])] for beat in beats])


@given(
    rate=st.sampled_from([200, 250, 500, 1000]),
    heart_rate=st.floats(30, 200),
    seed=st.integers(0, 2**32),
    rhythm=st.sampled_from(Rhythm),
)
@settings(max_examples=25, deadline=None)
def test_einthoven_and_goldberger_hold_for_every_sample(rate, heart_rate, seed, rhythm):
    signal = ecg(seconds=4, rate=rate, heart_rate=heart_rate, seed=seed, rhythm=rhythm)
    assert signal.shape == (4 * rate, 12)
    assert signal.dtype == np.int32
    assert np.array_equal(lead(signal, "I") + lead(signal, "III"), lead(signal, "II"))
    assert np.abs(lead(signal, "aVR") + lead(signal, "aVL") + lead(signal, "aVF")).max() <= 1
    assert np.abs(2 * lead(signal, "aVR") + lead(signal, "I") + lead(signal, "II")).max() <= 1


def test_same_arguments_give_the_same_samples_and_another_seed_does_not():
    once, again, other = (ecg(seconds=2, rate=500, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_leads_are_chosen_by_name_and_keep_their_samples():
    whole, some = ecg(seconds=2, rate=250), ecg(seconds=2, rate=250, leads=("V5", "I"))
    assert np.array_equal(some, whole[:, [TWELVE.index("V5"), TWELVE.index("I")]])


def test_r_grows_and_s_shrinks_across_the_chest():
    clean = ecg(seconds=5, rate=1000, noise=0)
    r = [lead(clean, f"V{n}").max() for n in range(1, 7)]
    s = [-lead(clean, f"V{n}").min() for n in range(1, 7)]
    assert r[0] < r[1] < r[2] < r[3] < r[4], "R grows from V1 to V5"
    assert s[1] > s[2] > s[3] > s[4] > s[5], "S shrinks from V2 to V6"
    assert r[0] < s[0] < 2000, "V1 is mostly below the line"
    assert r[4] > 3 * s[4], "V5 is mostly above the line"
    assert lead(clean, "aVR").max() < -lead(clean, "aVR").min() / 3, "aVR looks from the other side"
    assert 500 < lead(clean, "II").max() < 2500


@pytest.mark.parametrize("heart_rate", [45, 72, 150])
def test_the_heart_rate_is_the_one_asked_for(heart_rate):
    signal = ecg(seconds=20, rate=500, heart_rate=heart_rate)
    gaps = np.diff(r_peaks(signal, 500)) / 500
    assert 60 / gaps.mean() == pytest.approx(heart_rate, rel=0.03)
    assert gaps.std() / gaps.mean() < 0.05, "a sinus rhythm is even"


def test_fibrillation_is_irregular_and_has_no_p_wave():
    fibrillation = ecg(seconds=30, rate=500, heart_rate=90, rhythm=Rhythm.FIBRILLATION, noise=0)
    gaps = np.diff(r_peaks(fibrillation, 500)) / 500
    assert gaps.std() / gaps.mean() > 0.12
    assert p_height(fibrillation) < 25
    assert p_height(ecg(seconds=30, rate=500, heart_rate=90, noise=0)) > 60


def p_height(signal):
    """Mean over the beats of lead II, in µV, 190 to 130 ms before R, over the level 60 ms before R."""
    two = lead(signal, "II")
    beats = [two[peak - 95 : peak - 65].mean() - two[peak - 30] for peak in r_peaks(signal, 500) if peak > 100]
    return abs(np.mean(beats))


def test_premature_beats_come_early_are_broad_and_are_followed_by_a_pause():
    signal = ecg(seconds=30, rate=500, heart_rate=70, rhythm=Rhythm.PREMATURE, noise=0)
    three = lead(signal, "III")
    early = np.flatnonzero((three[1:-1] > 900) & (three[1:-1] >= three[:-2]) & (three[1:-1] > three[2:])) + 1
    assert len(early) >= 5, "only the premature beats are that high in III"
    broad = [np.count_nonzero(three[peak - 60 : peak + 60] > three[peak] / 2) / 500 for peak in early if peak > 60]
    assert min(broad) > 0.05
    assert np.count_nonzero(lead(signal, "I")[early] < -400) == len(early), "and away from the left"


@pytest.mark.parametrize(("wrong", "what"), [({"leads": ("I", "V9")}, "V9"), ({"heart_rate": 400}, "250")])
def test_what_cannot_be_made_is_refused_by_name(wrong, what):
    with pytest.raises(ValueError, match=what):
        ecg(seconds=1, rate=500, **wrong)
