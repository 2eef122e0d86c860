"""A printed ECG, measured with a ruler: what stands in the SVG, in millimetres, and nothing that the code knows.

The second and the millivolt are those of the picture's own calibration pulse (200 ms, 1 mV).
"""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pydicom

HALF_A_PIXEL = 25.4 / 96 / 2  # mm; CSS Values and Units 4 §6.2
CURVES_BEGIN = 20.0  # mm: the thick line behind the calibration pulse
_SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?[0-9.]+")
_VOLTS = {"uV": 0.001, "mV": 1.0, "nV": 1e-6, "V": 1000.0}


@dataclass(frozen=True)
class Pulse:
    """A calibration pulse: where its zero line is, and how wide and how high it is."""

    zero: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawn:
    """A curve: pieces of points in mm, between its gaps."""

    lead: str
    pieces: list[np.ndarray]

    @property
    def points(self) -> np.ndarray:
        return np.concatenate(self.pieces)


class Ruler:
    """A picture in hand."""

    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)
        self.width, self.height = (float(self.root.attrib[k].removesuffix("mm")) for k in ("width", "height"))
        self.pulses = [_pulse(path.attrib["d"]) for path in self.all("path", "pulse")]
        self.curves = [_drawn(path) for path in self.all("path", "curve")]

    def all(self, tag: str, kind: str) -> list[ET.Element]:
        return [e for e in self.root.iter(f"{_SVG}{tag}") if e.get("class") == kind]

    def words(self, kind: str | None = None) -> list[str]:
        return [e.text or "" for e in self.root.iter(f"{_SVG}text") if kind in {None, e.get("class")}]

    def pulse_of(self, curve: Drawn) -> Pulse:
        """The pulse of the row that a curve stands in."""
        middle = np.median(curve.points[:, 1])
        return min(self.pulses, key=lambda pulse: abs(pulse.zero - middle))

    def read(self, curve: Drawn) -> tuple[np.ndarray, np.ndarray]:
        """Seconds from the start of the row, and mV, of the points of a curve."""
        pulse = self.pulse_of(curve)
        seconds = (curve.points[:, 0] - CURVES_BEGIN) / (pulse.width / 0.2)
        return seconds, (pulse.zero - curve.points[:, 1]) / pulse.height


def _pulse(d: str) -> Pulse:
    shape = re.fullmatch(r"M([\d.]+) ([\d.]+)H([\d.]+)v-([\d.]+)H([\d.]+)v([\d.]+)H([\d.]+)", d)
    assert shape is not None
    _, zero, rise, up, fall, down, _ = map(float, shape.groups())
    assert up == down
    return Pulse(zero, fall - rise, up)


def _drawn(path: ET.Element) -> Drawn:
    pieces = []
    for piece in path.attrib["d"].split("M")[1:]:
        begin, _, steps = piece.partition("l")
        first = [float(n) for n in _NUMBER.findall(begin)]
        moves = np.array([float(n) for n in _NUMBER.findall(steps)]).reshape(-1, 2)
        pieces.append((np.concatenate([[first], moves]).cumsum(axis=0)) / 100)  # transform="scale(0.01)"
    return Drawn(path.attrib["data-lead"], pieces)


def grid_lines(d: str) -> tuple[list[float], list[float]]:
    """The x of the upright lines and the y of the level ones."""
    return [float(x) for x in re.findall(r"M([\d.]+) 0V", d)], [float(y) for y in re.findall(r"M0 ([\d.]+)H", d)]


def millivolts(dataset: pydicom.Dataset, group: int = 0) -> tuple[float, np.ndarray]:
    """Rate and mV, shape (samples, channels), by PS3.3 C.10.9.1.4, from what pydicom reads."""
    item = dataset.WaveformSequence[group]
    kind = {"SS": "i", "US": "u", "SL": "i", "UL": "u", "SB": "i", "UB": "u"}[item.WaveformSampleInterpretation]
    dtype = f"<{kind}{item.WaveformBitsAllocated // 8}"
    count = item.NumberOfWaveformSamples * item.NumberOfWaveformChannels
    values = np.frombuffer(item.WaveformData, dtype=dtype, count=count).astype(float)
    values = values.reshape(-1, item.NumberOfWaveformChannels)
    for number, channel in enumerate(item.ChannelDefinitionSequence):
        unit = _VOLTS[channel.ChannelSensitivityUnitsSequence[0].CodeValue]
        step = float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor", 1))
        values[:, number] = (values[:, number] * step + float(channel.get("ChannelBaseline", 0))) * unit
    return float(item.SamplingFrequency), values


def beats(signal: np.ndarray, rate: float) -> list[int]:
    """The frames of the R peaks of a lead: the highest of whatever stands above six tenths of the highest."""
    high = np.flatnonzero(np.abs(signal) > 0.6 * np.abs(signal).max())
    edges = [0, *(n + 1 for n, (a, b) in enumerate(pairwise(high)) if b - a > 0.2 * rate), len(high)]
    return [int(high[a:b][np.abs(signal[high[a:b]]).argmax()]) for a, b in pairwise(edges)]
