"""ECG paper: its measures, its layouts, what stands in place of a curve, and what is refused."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bridge.console.ecg import signal
from bridge.console.ecg.paper import Layout
from bridge.console.ecg.picture import MOST_ROWS, MOST_SECONDS, NoPicture, picture
from bridge.errors import BadInput
from tests.unit.console_ecg.ruler import CURVES_BEGIN, HALF_A_PIXEL, Ruler, grid_lines, millivolts
from tests.unit.dicom.ecg_factory import BIG, Group, ecg, saved, sines

SAMPLES = Path(__file__).parents[3] / "sample_messages"
ORDERED = SAMPLES / "03_ecg_for_order.dcm"


def drawn(folder, *groups, **how):
    asked = {k: how.pop(k) for k in ("start", "seconds", "layout", "leads", "group") if k in how}
    made = picture(saved(folder, ecg(*groups, **how)), **asked)
    return made, Ruler(made.svg)


def test_a_millimetre_of_the_picture_is_one_on_paper():
    shown = Ruler(picture(ORDERED).svg)
    assert shown.root.get("viewBox") == f"0 0 {shown.width:g} {shown.height:g}"
    assert shown.root.get("width") == "275mm"
    assert (shown.width, shown.height) < (277, 190)  # A4 on its side, with a margin of 10 mm


def test_lines_each_millimetre_and_thicker_ones_each_five():
    shown = Ruler(picture(ORDERED).svg)
    (thin,), (thick,) = shown.all("path", "thin"), shown.all("path", "thick")
    assert float(thin.get("stroke-width")) < float(thick.get("stroke-width"))
    for side, size in enumerate((shown.width, shown.height)):
        five, one = grid_lines(thick.get("d"))[side], grid_lines(thin.get("d"))[side]
        assert five == [float(n) for n in range(0, int(size) + 1, 5)]
        assert sorted(five + one) == [float(n) for n in range(int(size) + 1)]


def test_each_row_begins_with_a_pulse_of_1_mv_and_200_ms_on_thick_lines():
    shown = Ruler(picture(ORDERED).svg)
    assert len(shown.pulses) == 4
    for pulse in shown.pulses:
        assert (pulse.width, pulse.height) == (5, 10)
        assert pulse.zero % 5 == 0


def test_twelve_leads_stand_in_three_rows_of_four_with_a_rhythm_strip():
    made = picture(ORDERED)
    shown = Ruler(made.svg)
    assert made.layout is Layout.TWELVE
    names = ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
    assert shown.words("lead") == names
    assert [curve.lead for curve in shown.curves] == names
    begins = [float(curve.points[0, 0]) for curve in shown.curves]
    assert begins == [CURVES_BEGIN + column * 62.5 for column in (0, 1, 2, 3) * 3] + [CURVES_BEGIN]
    assert {shown.pulse_of(c).zero for c in shown.curves[8:12]} == {shown.pulses[2].zero}
    assert made.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert (made.start, made.seconds, made.whole, made.rate, made.group, made.notes) == (0, 10, 10, 500, 1, ())


def test_other_leads_are_stacked_over_the_whole_width():
    made = picture(SAMPLES / "08_ecg_32_bit.dcm")
    shown = Ruler(made.svg)
    assert made.layout is Layout.STACKED
    assert [curve.lead for curve in shown.curves] == list(made.leads) == shown.words("lead")
    assert {float(curve.points[0, 0]) for curve in shown.curves} == {CURVES_BEGIN}
    assert len(shown.pulses) == 8


def test_leads_can_be_picked():
    made = picture(ORDERED, leads=["v5", "II", *["V5"] * 1000])
    assert made.leads == ("V5", "II")
    assert [curve.lead for curve in Ruler(made.svg).curves] == ["V5", "II"]
    assert made.notes == ("Not in this picture: I, III, aVR, aVL, aVF, V1, V2, V3, V4, V6",)


def test_a_lead_that_the_layout_has_and_the_recording_has_not_is_named():
    shown = Ruler(picture(SAMPLES / "08_ecg_32_bit.dcm", layout=Layout.TWELVE).svg)
    assert shown.words("lacking") == ["Not in this recording"] * 4
    assert {curve.lead for curve in shown.curves} == {"I", "II", "V1", "V2", "V3", "V4", "V5", "V6"}


def test_curves_of_neighbouring_rows_do_not_meet(tmp_path):
    values = sines(5000, 12, peak=1900)  # 4.75 mV
    _, shown = drawn(tmp_path, Group(values))
    ends = sorted((c.points[:, 1].min(), c.points[:, 1].max(), shown.pulse_of(c).zero) for c in shown.curves)
    rows = {
        zero: (min(e[0] for e in ends if e[2] == zero), max(e[1] for e in ends if e[2] == zero)) for *_, zero in ends
    }
    spans = [rows[zero] for zero in sorted(rows)]
    assert len(spans) == 4
    assert all(above[1] + 5 <= below[0] for above, below in pairwise(spans))  # room for the names
    assert spans[0][0] >= 5


@pytest.mark.parametrize(
    "how",
    [
        {"sensitivity": "2.5"},
        {"sensitivity": "0.0025", "units": "mV"},
        {"sensitivity": "1", "correction": "2.5"},
        {"sensitivity": "2.5", "correction": None},
        {"sensitivity": "2.5", "baseline": "-400"},
        {"sensitivity": "5", "interpretation": "SL", "bits": 32},
        {"sensitivity": "2500", "units": "nV"},
    ],
)
def test_c_10_9_1_4_sensitivity_correction_baseline_and_unit_all_count(tmp_path, how):
    _, shown = drawn(tmp_path, Group(sines(5000, 2, peak=400), leads=(1, 2), **how))
    _, signal = millivolts(pydicom.dcmread(tmp_path / "ecg.dcm"))
    for curve, lead in zip(shown.curves, signal.T, strict=True):
        assert np.abs(shown.read(curve)[1] - lead).max() * 10 <= 0.006


def test_big_endian_samples_are_drawn_as_they_are(tmp_path):
    values = sines(5000, 3)
    _, shown = drawn(tmp_path, Group(values), syntax=BIG)
    for curve, lead in zip(shown.curves, values.T, strict=True):
        assert np.abs(shown.read(curve)[1] - lead * 0.0025).max() * 10 <= 0.006


def test_missing_samples_are_gaps(tmp_path):
    values = sines(5000, 2)
    values[1000:1500, 0] = values[3000, 0] = -32768
    made, shown = drawn(tmp_path, Group(values, padding=-32768))
    one, other = shown.curves
    assert [len(piece) for piece in one.pieces] == [1000, 1500, 1999]
    assert [len(piece) for piece in other.pieces] == [5000]
    seconds, height = shown.read(one)
    assert not ((seconds > 1.999) & (seconds < 2.999)).any()
    assert np.abs(height).max() <= 1500 * 0.0025 + 0.001
    assert made.notes == ("I: has gaps, where samples are missing",)


def test_a_padding_value_that_a_true_sample_has_is_no_gap(tmp_path):
    made, shown = drawn(tmp_path, Group(sines(5000, 2), padding=0))
    assert [len(curve.pieces) for curve in shown.curves] == [1, 1]
    assert "WaveformPaddingValue 0 may be a true sample" in made.notes[0]


def test_a_lone_sample_between_gaps_is_a_dot(tmp_path):
    values = np.full((5000, 1), -32768)
    values[2500] = 400
    _, shown = drawn(tmp_path, Group(values, padding=-32768))
    (dot,) = shown.curves
    assert np.ptp(dot.points, axis=0).tolist() == [0, 0]
    assert [values[0] for values in shown.read(dot)] == pytest.approx([5, 1])
    assert shown.root.find("*[@class='curves']").get("stroke-linecap") == "round"  # or it would not be seen


def test_a_recording_of_missing_samples_alone_is_an_empty_paper(tmp_path):
    _, shown = drawn(tmp_path, Group(np.full((5000, 2), -32768), padding=-32768))
    assert shown.curves == []
    assert len(shown.pulses) == 2


def test_c_10_9_1_4_a_lead_without_a_scale_has_a_statement_in_place_of_a_curve(tmp_path):
    def unscaled(item):
        channels = item.ChannelDefinitionSequence
        del channels[1].ChannelSensitivity
        channels[2].ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"
        channels[3].ChannelSensitivity = "0"

    made, shown = drawn(tmp_path, Group(sines(5000, 12), change_item=unscaled))
    assert {c.lead for c in shown.curves} == {"I", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"}
    said = shown.words("lacking")
    assert said.count("No curve: cannot be scaled") == 4  # II stands in the rhythm strip as well
    assert set(said[1::2]) == {"ChannelSensitivity", "ChannelSensitivityUnitsSequence"}
    assert any(note.startswith("II: no curve, the channel has no sensitivity") for note in made.notes)


def test_an_object_without_any_scale_is_a_paper_without_any_curve():
    made = picture(SAMPLES / "18_ecg_without_sensitivity.dcm")
    shown = Ruler(made.svg)
    assert shown.curves == []
    assert shown.words("lacking").count("No curve: cannot be scaled") == 13
    assert len(made.notes) == 1


def test_samples_that_are_no_numbers_are_not_drawn(tmp_path):
    made, shown = drawn(tmp_path, Group(sines(500, 2, peak=90) + 100, "MB", 8))
    assert shown.curves == []
    assert shown.words("lacking")[1] == "WaveformData"
    assert "no numbers" in made.notes[0]


def test_c_10_9_1_7_a_lead_with_more_bits_than_it_stores_is_not_drawn(tmp_path):
    values = sines(5000, 2, peak=1500)
    values[4000, 1] = 4095  # is it -1?
    _, shown = drawn(tmp_path, Group(values, bits_stored=12))
    assert [curve.lead for curve in shown.curves] == ["I"]
    assert shown.words("lacking") == ["No curve: cannot be scaled", "WaveformBitsStored"]


def test_an_offset_of_the_electrode_moves_the_zero_line_and_is_said(tmp_path):
    values = sines(5000, 2, peak=300)
    made, shown = drawn(tmp_path, Group(values, baseline=("-12300", "0")))
    assert shown.words("lead") == ["I, zero line at -12.5 mV", "II"]
    assert made.notes == ("I: moved, the zero line stands for -12.5 mV",)
    one, other = (shown.read(curve)[1] for curve in shown.curves)
    assert np.abs(one - (values[:, 0] * 0.0025 - 12.3 + 12.5)).max() * 10 <= 0.006
    assert np.abs(other - values[:, 1] * 0.0025).max() * 10 <= 0.006


def test_what_leaves_the_paper_is_cut_and_said(tmp_path):
    values = sines(5000, 1, peak=400)
    values[2500:2510] = 30000  # 75 mV
    made, shown = drawn(tmp_path, Group(values))
    assert [len(piece) for piece in shown.curves[0].pieces] == [2500, 2490]
    assert shown.words("lead") == ["I, leaves the paper"]
    assert made.notes == ("I: leaves the paper, and is cut there",)
    assert shown.height < 100


def test_a_derived_group_says_that_it_is_no_rhythm():
    made = picture(ORDERED, group=2)
    assert made.group == 2
    assert made.whole == pytest.approx(1.2)
    assert any("no rhythm" in words for words in Ruler(made.svg).words())
    assert not any("no rhythm" in words for words in Ruler(picture(ORDERED).svg).words())


@pytest.mark.parametrize("seconds", [1.2, 2.5])
def test_what_is_no_longer_than_a_column_stands_whole_in_each(tmp_path, seconds):
    made, shown = drawn(tmp_path, Group(sines(round(seconds * 500), 12, peak=300), originality="DERIVED"))
    assert made.layout is Layout.TWELVE
    assert len(shown.curves) == 12
    assert [float(c.points[0, 0]) for c in shown.curves] == [CURVES_BEGIN + n * 62.5 for n in (0, 1, 2, 3) * 3]
    assert {round(float(np.ptp(c.points[:, 0])) / 25, 2) for c in shown.curves} == {round(seconds - 0.002, 2)}


@pytest.mark.parametrize("seconds", [3, 7, 9])
def test_a_recording_that_does_not_fill_four_columns_is_stacked(tmp_path, seconds):
    made, shown = drawn(tmp_path, Group(sines(seconds * 500, 12, peak=300)))
    assert (made.layout, made.seconds) == (Layout.STACKED, seconds)
    assert len(shown.curves) == 12
    assert max(c.points[-1, 0] for c in shown.curves) <= CURVES_BEGIN + seconds * 25


def test_a_range_that_ends_before_a_column_says_so_there():
    shown = Ruler(picture(ORDERED, start=4, layout=Layout.TWELVE).svg)
    assert {"V1", "V2", "V3"} <= {curve.lead for curve in shown.curves}
    assert shown.words("lacking") == ["The range ends before"] * 3


@pytest.mark.parametrize("rate", ["0.001", "0.5", "999999"])
def test_any_rate_that_the_reader_takes_has_its_picture(tmp_path, rate):
    _, shown = drawn(tmp_path, Group(sines(3000, 2), rate=rate))
    assert shown.width == 275


def test_a_picture_is_bounded_in_time_rows_and_leads(tmp_path):
    values = sines(30_000, 24)
    made, shown = drawn(tmp_path, Group(values, leads=range(1, 25)), seconds=1e9)
    assert (made.seconds, len(shown.pulses)) == (10, 24)
    assert "10 s at most" in made.notes[0]
    made, _ = drawn(tmp_path, Group(values[:, :2]), seconds=1e9)
    assert made.seconds == MOST_SECONDS
    many = saved(tmp_path, ecg(Group(sines(100, 50))), "many.dcm")
    made = picture(many, layout=Layout.STACKED)
    assert len(made.leads) == MOST_ROWS
    assert "Not in this picture" in made.notes[0]


def test_the_svg_of_the_densest_picture_is_bounded(tmp_path):
    noise = np.random.default_rng(1).integers(-400, 400, (80_000, 36))
    made, shown = drawn(tmp_path, Group(noise, rate="8000"), layout=Layout.STACKED)
    assert len(shown.curves) == 36
    assert len(made.svg) < 3_000_000
    columns = 10 * 25 / HALF_A_PIXEL
    assert max(len(c.points) for c in shown.curves) <= 4 * (columns + 80_000 / 400)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"start": -1}, "start"),
        ({"start": math.nan}, "start"),
        ({"start": math.inf}, "start"),
        ({"start": 10}, "start"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": -3}, "seconds"),
        ({"seconds": math.nan}, "seconds"),
        ({"leads": ["V9"]}, "leads"),
        ({"group": 3}, "group"),
        ({"group": 0}, "group"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_name(asked, where):
    with pytest.raises(NoPicture) as refused:
        picture(ORDERED, **asked)
    assert refused.value.where == where


def test_a_payload_that_is_gone_cut_or_no_dicom_is_a_clear_error(tmp_path):
    with pytest.raises(NoPicture, match=r"^the payload cannot be read: No such file") as gone:
        picture(tmp_path / "gone.dcm")
    assert gone.value.where == "payload"
    assert str(tmp_path) not in str(gone.value)
    odd = tmp_path / "odd.dcm"
    for content in (b"", b"no DICOM", ORDERED.read_bytes()[:3000], ORDERED.read_bytes()[:-2]):
        odd.write_bytes(content)
        with pytest.raises(BadInput) as refused:
            picture(odd)
        assert refused.value.where


def test_f5_a_payload_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "ecg.dcm"
    path.write_bytes(ORDERED.read_bytes())

    def read_and_cut(read):
        found = read_object(read)
        read.write_bytes(read.read_bytes()[:9000])
        return found

    read_object = signal.read_object
    monkeypatch.setattr(signal, "read_object", read_and_cut)
    with pytest.raises(NoPicture) as changed:
        picture(path)
    assert changed.value.where == "WaveformData"
