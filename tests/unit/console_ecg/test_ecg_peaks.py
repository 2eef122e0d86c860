"""The ECG picture against the samples: what a ruler measures on it is what pydicom reads in the object."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bridge.console.ecg.paper import Layout
from bridge.console.ecg.picture import picture
from bridge.sandbox.ecg_object import Kind, Scale, Subject, build, write
from bridge.sandbox.ecg_signal import TWELVE, ecg
from tests.unit.console_ecg.ruler import CURVES_BEGIN, HALF_A_PIXEL, Ruler, beats, millivolts

SAMPLES = Path(__file__).parents[3] / "sample_messages"
START = datetime(2026, 3, 1, tzinfo=UTC)
AROUND = 0.06  # seconds before and after an R peak


def made(
    folder: Path, *, seconds: float, rate: int, leads=TWELVE, kind=Kind.TWELVE_LEAD, scale=None, noise=1.0
) -> Path:
    path = folder / "ecg.dcm"
    signal = ecg(seconds=seconds, rate=rate, seed=21, leads=leads, noise=noise)
    write(path, build(signal, rate=rate, seed="picture", subject=Subject("1", "Muster^Max"), start=START, leads=leads,
                      kind=kind, scale=scale))  # fmt: skip
    return path


def assert_peaks(path: Path, names: list[str], *, start: float = 0.0, **asked) -> int:
    """Both ends of each QRS complex on the paper, in place and in size. Returns how many were measured."""
    shown = Ruler(picture(path, start=start, **asked).svg)
    rate, signal = millivolts(pydicom.dcmread(path))
    reference = signal[:, names.index("II")] if "II" in names else signal[:, 0]
    measured = 0
    for curve in shown.curves:
        pulse = shown.pulse_of(curve)
        second, millivolt = pulse.width / 0.2, pulse.height
        seconds, height = shown.read(curve)
        assert seconds.min() >= 0
        lead = signal[:, names.index(curve.lead)]
        for peak in beats(reference, rate):
            begin, end = (peak / rate - start + side * AROUND for side in (-1, 1))
            if begin < seconds[0] or end > seconds[-1]:
                continue
            frames = np.arange(np.ceil((begin + start) * rate), np.floor((end + start) * rate) + 1).astype(int)
            there = np.flatnonzero((seconds >= begin - 1e-3) & (seconds <= end + 1e-3))
            for extreme in (np.max, np.min):
                value = extreme(lead[frames])
                at = there[height[there] == extreme(height[there])]
                assert abs(height[at[0]] - value) * millivolt <= HALF_A_PIXEL
                places = frames[lead[frames] == value] / rate - start
                assert np.abs(places[:, np.newaxis] - seconds[at]).min() * second <= HALF_A_PIXEL
                measured += 1
    return measured


@pytest.mark.parametrize(
    "name",
    ["03_ecg_for_order", "06_ecg_implicit_vr_correction", "11_ecg_before_its_order", "14_ecg_without_order"],
)
def test_r_peaks_of_twelve_leads_stand_where_the_samples_are(name):
    measured = assert_peaks(SAMPLES / f"{name}.dcm", list(TWELVE))
    assert measured > 60


def test_r_peaks_of_twelve_leads_stacked(tmp_path):
    path = made(tmp_path, seconds=10, rate=500)
    assert assert_peaks(path, list(TWELVE), layout=Layout.STACKED) > 200


def test_r_peaks_of_32_bit_samples_at_1000_hz():
    assert assert_peaks(SAMPLES / "08_ecg_32_bit.dcm", ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]) > 100


@pytest.mark.parametrize(("rate", "start"), [(128, 0), (250, 0.2513), (500, 2.1), (2000, 0), (8000, 1.03125)])
def test_r_peaks_of_one_lead(tmp_path, rate, start):
    path = made(
        tmp_path, seconds=12, rate=rate, leads=("II",), kind=Kind.GENERAL_32, scale=Scale(Decimal("0.5"), bits=32)
    )
    assert assert_peaks(path, ["II"], start=start) > 18


@pytest.mark.parametrize("start", [0, 24.4, 49.9])
def test_r_peaks_of_a_holter_in_any_window(start):
    assert assert_peaks(SAMPLES / "10_ecg_holter.dcm", ["V5", "V1"], start=start) > 36


def test_a_long_window_goes_on_line_after_line(tmp_path):
    path = made(tmp_path, seconds=60, rate=250, leads=("V5", "V1"), kind=Kind.AMBULATORY)
    shown = Ruler(picture(path, start=15, seconds=25).svg)
    _, signal = millivolts(pydicom.dcmread(path))
    assert [curve.lead for curve in shown.curves] == ["V5", "V1"] * 3
    for line, length in enumerate((10, 10, 5)):
        first = round((15 + 10 * line) * 250)
        for curve, lead in zip(shown.curves[2 * line : 2 * line + 2], signal.T, strict=True):
            _, height = shown.read(curve)
            assert np.abs(height - lead[first : first + length * 250]).max() <= 0.001
            assert curve.points[0, 0] == CURVES_BEGIN
    assert shown.words("time") == ["0:00:15", "0:00:25", "0:00:35"]


def test_every_sample_of_a_curve_is_drawn_where_pixels_have_room():
    path = SAMPLES / "03_ecg_for_order.dcm"
    rate, signal = millivolts(pydicom.dcmread(path))
    shown = Ruler(picture(path).svg)
    columns = {
        name: n for row in ("I aVR V1 V4", "II aVL V2 V5", "III aVF V3 V6") for n, name in enumerate(row.split())
    }
    assert [c.lead for c in shown.curves] == [*columns, "II"]
    for place, curve in enumerate(shown.curves):
        seconds, height = shown.read(curve)
        begin, length = (0, 10) if place == 12 else (2.5 * columns[curve.lead], 2.5)
        frames = np.arange(round(begin * rate), round((begin + length) * rate))
        assert np.abs(seconds - frames / rate).max() * 25 <= 0.006  # drawn in steps of 1/100 mm
        assert np.abs(height - signal[frames, TWELVE.index(curve.lead)]).max() * 10 <= 0.006
