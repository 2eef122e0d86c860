"""A Holter at a glance: a day in bounded memory, no peak lost, and a way to each part of it."""

import re
import struct
import tracemalloc
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bridge.console.ecg.overview import COLUMNS, Envelopes, overview
from bridge.console.ecg.picture import NoPicture, picture
from bridge.console.ecg.signal import Signal
from tests.unit.console_ecg.ruler import HALF_A_PIXEL, Ruler, millivolts
from tests.unit.dicom.ecg_factory import Group, ecg, encoded, saved, sines

HOLTER = Path(__file__).parents[3] / "sample_messages" / "10_ecg_holter.dcm"
LEFT, WIDTH = 20.0, 250.0  # mm
RATE, CHANNELS, DAY = 250, 3, 86_400
SPIKES = {0: 120, 7_000_001: -90, 12_345_678: 110, DAY * RATE - 1: 100}
"""Frames of the day at which one sample of the first lead is not zero, in steps of 10 µV."""


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """24 h of three leads at 250 Hz, 130 MB: zeros that take no room on the disk, and a few spikes."""
    made = ecg(Group(np.zeros((1, CHANNELS), int), rate=str(RATE), sensitivity="10"))
    made.WaveformSequence[0].NumberOfWaveformSamples = DAY * RATE
    raw = encoded(made, undefined_lengths=True)
    at = raw.index(struct.pack("<HH2s", 0x5400, 0x1010, b"OW")) + 8
    size = DAY * RATE * CHANNELS * 2
    path = tmp_path_factory.mktemp("day") / "day.dcm"
    with path.open("wb") as file:
        file.write(raw[:at] + struct.pack("<L", size))
        begin = file.tell()
        for frame, value in SPIKES.items():
            file.seek(begin + frame * CHANNELS * 2)
            file.write(struct.pack("<h", value))
        file.seek(begin + size)
        file.write(raw[at + 4 + 2 * CHANNELS :])
    return path


@pytest.fixture(scope="module")
def once():
    """The day's samples are read once for all of the strips that show the whole of it."""
    return Envelopes()


class Strip:
    """An overview, measured: areas of x, top and bottom in mm, and its own millivolt."""

    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)
        bar = re.search(r'class="pulse" d="M[\d.]+ ([\d.]+)v-([\d.]+)"', svg)
        assert bar is not None
        self.millivolt = float(bar[2])
        self.zero = float(bar[1]) - self.millivolt / 2
        d = next(e.attrib["d"] for e in self.root.iter() if e.get("class") == "reach")
        self.areas = []
        for piece in d.split("M")[1:]:
            points = np.array([float(n) for n in re.findall(r"-?[\d.]+", piece)]).reshape(2, -1, 2)
            self.areas.append((points[0, :, 0], points[0, :, 1], points[1, ::-1, 1]))

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, and the highest and the lowest mV there."""
        x, top, bottom = (np.concatenate(parts) for parts in zip(*self.areas, strict=True))
        return x, (self.zero - top) / self.millivolt, (self.zero - bottom) / self.millivolt

    def all(self, kind: str) -> list[ET.Element]:
        return [e for e in self.root.iter() if e.get("class") == kind]


def test_no_peak_of_a_day_is_lost_in_its_overview(day, once):
    made = overview(day, envelopes=once)
    assert (made.lead, made.start, made.seconds, made.notes) == ("II", 0, DAY, ())
    shown = Strip(overview(day, lead="I").svg)
    x, high, low = shown.reach
    assert len(x) == COLUMNS
    seen = [float(p) for p in x[(np.abs(high) > 0.001) | (np.abs(low) > 0.001)]]
    assert len(seen) == len(SPIKES)
    for at, (frame, value) in zip(seen, SPIKES.items(), strict=True):
        assert abs(at - (LEFT + frame / (DAY * RATE) * WIDTH)) <= 2 * HALF_A_PIXEL  # the column that it falls in
        reached = high[x == at] if value > 0 else low[x == at]
        assert abs(reached[0] - value / 100) * shown.millivolt <= HALF_A_PIXEL


@pytest.mark.parametrize("frame", [7_000_001, 12_345_678])
def test_a_zoom_finds_each_peak_in_its_place(day, frame):
    second = frame / RATE
    half_hour = Strip(overview(day, start=second // 1800 * 1800, seconds=1800, lead="I").svg)
    x, high, low = half_hour.reach
    (there,) = np.flatnonzero((np.abs(high) > 0.001) | (np.abs(low) > 0.001))
    assert abs(x[there] - (LEFT + second % 1800 / 1800 * WIDTH)) <= 2 * HALF_A_PIXEL
    shown = Ruler(picture(day, start=second - 3.3, leads=["I"]).svg)
    seconds, height = shown.read(shown.curves[0])
    peak = np.abs(height).argmax()
    assert abs(seconds[peak] - 3.3) * 25 <= HALF_A_PIXEL
    assert abs(height[peak] - SPIKES[frame] / 100) * 10 <= HALF_A_PIXEL


def test_a_day_takes_no_more_memory_and_no_more_svg_than_a_minute(day):
    def most(path) -> tuple[int, int]:
        tracemalloc.start()
        try:
            strip, paper = overview(path).svg, picture(path, start=30).svg
            return tracemalloc.get_traced_memory()[1], len(strip) + len(paper)
        finally:
            tracemalloc.stop()

    most(HOLTER)  # what is read once and kept, codecs and the like, is not of this
    minute, of_a_minute = most(HOLTER)
    whole, of_the_day = most(day)
    assert day.stat().st_size > 129_000_000
    assert whole < minute + 4_000_000
    assert of_the_day < of_a_minute + 50_000 < 200_000


def test_an_overview_reaches_as_far_as_the_samples_of_each_column():
    shown = Strip(overview(HOLTER).svg)
    _, signal = millivolts(pydicom.dcmread(HOLTER))
    x, high, low = shown.reach
    edges = np.arange(COLUMNS + 1) * len(signal) // COLUMNS
    for column, (begin, end) in enumerate(pairwise(edges)):
        lead = signal[begin:end, 0]
        assert abs(high[column] - lead.max()) * shown.millivolt <= HALF_A_PIXEL
        assert abs(low[column] - lead.min()) * shown.millivolt <= HALF_A_PIXEL
        assert abs(x[column] - (LEFT + (column + 0.5) / COLUMNS * WIDTH)) <= HALF_A_PIXEL


def test_missing_samples_are_a_gap_of_the_strip(tmp_path):
    values = sines(50_000, 2, peak=300)
    values[20_000:30_000, 1] = -32768
    made = overview(saved(tmp_path, ecg(Group(values, padding=-32768))))
    assert made.notes == ("10000 samples of II are missing",)
    (one, other) = Strip(made.svg).areas
    assert abs(one[0][-1] - (LEFT + 0.4 * WIDTH)) <= 2 * HALF_A_PIXEL
    assert abs(other[0][0] - (LEFT + 0.6 * WIDTH)) <= 2 * HALF_A_PIXEL


def test_a_recording_of_missing_samples_alone_is_an_empty_strip(tmp_path):
    made = overview(saved(tmp_path, ecg(Group(np.full((5000, 1), -32768), padding=-32768))))
    assert made.notes == ("5000 samples of I are missing",)
    assert Strip(made.svg).areas == []


def test_an_artefact_does_not_press_the_rest_flat(tmp_path):
    values = sines(50_000, 1, peak=400)
    values[25_000] = 32_000
    made = overview(saved(tmp_path, ecg(Group(values))))
    assert made.notes == ("I leaves the strip in 1 of 945 columns, and is cut there",)
    _, high, low = Strip(made.svg).reach
    assert Strip(made.svg).millivolt >= 2.5
    assert abs(np.sort(high)[-2] - 1) < 0.01
    assert abs(low.min() + 1) < 0.01


def test_an_offset_of_the_electrode_is_said(tmp_path):
    made = overview(saved(tmp_path, ecg(Group(sines(5000, 1, peak=300), baseline="42000"))))
    assert "zero line at 42 mV" in made.svg
    _, high, _ = Strip(made.svg).reach
    assert abs(high.max() - 0.75) < 0.05


def test_c_10_9_1_4_a_lead_without_a_scale_has_a_statement(tmp_path):
    def unscaled(item):
        del item.ChannelDefinitionSequence[1].ChannelSensitivity

    path = saved(tmp_path, ecg(Group(sines(5000, 3), change_item=unscaled)))
    assert overview(path).lead == "I"
    made = overview(path, lead="II")
    assert "No curve: cannot be scaled (ChannelSensitivity)" in made.svg
    assert 'class="reach"' not in made.svg
    assert len(made.notes) == 1
    values = sines(5000, 1)
    values[4000] = 4095
    stored = saved(tmp_path, ecg(Group(values, bits_stored=12)), "bits.dcm")
    assert "No curve: cannot be scaled (WaveformBitsStored)" in overview(stored).svg


@pytest.mark.parametrize(("start", "seconds"), [(0, DAY), (39_600, 1800), (86_123.4, 200), (17.3, 3)])
def test_each_part_of_a_strip_is_a_link_and_no_second_is_left_out(day, once, start, seconds):
    def address(begin, length):
        return f"?start={begin}&seconds={length}"

    made = overview(day, start=start, seconds=seconds, address=address, envelopes=once)
    links = Strip(made.svg).all("part")
    assert 3 <= len(links) <= 61
    parts = [tuple(map(float, re.findall(r"[\d.]+", link.attrib["href"]))) for link in links]
    assert parts[0][0] == start
    assert sum(parts[-1]) == pytest.approx(start + seconds)
    assert all(sum(one) == pytest.approx(other[0]) for one, other in pairwise(parts))
    areas = [link[1] for link in links]
    assert float(areas[0].attrib["x"]) == LEFT
    assert sum(float(area.attrib["width"]) for area in areas) == pytest.approx(WIDTH, abs=0.1)
    assert all(link.attrib["aria-label"] == link[0].text for link in links)
    assert Strip(made.svg).root.get("role") == "group"


def test_what_is_shown_elsewhere_is_marked(day, once):
    (mark,) = Strip(overview(day, marked=(43_200, 10), envelopes=once).svg).all("marked")
    assert abs(float(mark.attrib["x"]) + float(mark.attrib["width"]) / 2 - (LEFT + WIDTH / 2)) < 0.1
    assert float(mark.attrib["width"]) >= 1
    assert Strip(overview(day, start=0, seconds=60, marked=(43_200, 10)).svg).all("marked") == []


def test_times_below_a_strip_have_room(day, once):
    for start, seconds in ((0, DAY), (39_600, 1800), (80_000.5, 10)):
        times = Strip(overview(day, start=start, seconds=seconds, envelopes=once).svg).all("time")
        assert 3 <= len(times) <= 14
        places = [float(time.attrib["x"]) for time in times]
        assert all(other - one > 15 for one, other in pairwise(places[:-1]))


def test_what_was_read_for_an_overview_is_not_read_again(monkeypatch):
    reads = []

    def counted(self, *args, **kwargs):
        reads.append(args)
        return envelope(self, *args, **kwargs)

    envelope = Signal.envelope
    monkeypatch.setattr(Signal, "envelope", counted)
    envelopes = Envelopes()
    first = overview(HOLTER, envelopes=envelopes)
    assert overview(HOLTER, envelopes=envelopes).svg == first.svg
    assert len(reads) == 1
    assert overview(HOLTER, lead="V1", envelopes=envelopes).svg != first.svg
    assert overview(HOLTER, start=10, envelopes=envelopes).svg != first.svg
    assert len(reads) == 3
    for start in range(70):
        overview(HOLTER, start=start / 10, envelopes=envelopes)
    assert len(envelopes._lately) <= 64


@pytest.mark.parametrize(
    ("asked", "where"),
    [({"start": 60}, "start"), ({"seconds": 0}, "seconds"), ({"lead": "II"}, "leads"), ({"group": 2}, "group")],
)
def test_what_cannot_be_asked_is_refused_with_its_name(asked, where):
    with pytest.raises(NoPicture) as refused:
        overview(HOLTER, **asked)
    assert refused.value.where == where
