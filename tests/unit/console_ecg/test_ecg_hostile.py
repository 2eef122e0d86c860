"""A picture of whatever an object says: nothing of it becomes markup, and no damage becomes a traceback."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from bridge.console.ecg.drawing import draw
from bridge.console.ecg.overview import overview
from bridge.console.ecg.paper import Cell, Layout, rows, sheet
from bridge.console.ecg.picture import picture
from bridge.console.ecg.signal import Lacking, NoPicture, Trace, open_recording
from bridge.console.ecg.svg import element, escaped
from bridge.errors import BadInput
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines
from tests.unit.dicom.mutations import campaign, every_kind

SAMPLES = Path(__file__).parents[3] / "sample_messages"
HOSTILE = "<script>alert(1)</script>\"'&<x onload=y>]]>\0\x1b"
ATTRIBUTES = {
    "aria-label", "class", "d", "data-lead", "fill", "fill-opacity", "font-family", "font-size",
    "font-weight", "height", "href", "paint-order", "role", "stroke", "stroke-linecap", "stroke-linejoin",
    "stroke-width", "text-anchor", "transform", "viewBox", "width", "x", "y",
}  # fmt: skip


def parts(svg: str) -> tuple[set[str], set[str]]:
    """Names of elements and of attributes."""
    root = ET.fromstring(svg)
    return {e.tag.rpartition("}")[2] for e in root.iter()}, {name for e in root.iter() for name in e.attrib}


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.dcm")), ids=lambda path: path.stem)
def test_a_picture_is_paths_and_words_that_the_content_policy_lets_through(path):
    strip = overview(path, marked=(0, 1), address=lambda start, _: f"?start={start:g}").svg
    for svg in (picture(path).svg, strip):
        elements, attributes = parts(svg)
        assert elements <= {"svg", "title", "rect", "path", "g", "text", "a"}
        assert attributes <= ATTRIBUTES  # no style, no script, nothing that is fetched
        assert "url(" not in svg
        root = ET.fromstring(svg)
        assert (root.get("role"), root[0].tag.rpartition("}")[2]) == ("group" if svg is strip else "img", "title")
        assert "not for diagnosis" in root[0].text
        assert any(e.text == "NOT FOR DIAGNOSIS" for e in root.iter())


def test_names_of_leads_are_words_wherever_they_come_to_stand():
    trace = Trace(np.arange(3.0), np.array([0.0, 100.0, 0.0]), None)
    row = (Cell(HOSTILE, None, 0, 3), Cell(HOSTILE, None, 0, 3))
    lacking = Trace(lacking=Lacking(HOSTILE, f"WaveformSequence[1].{HOSTILE}"))
    svg = draw(sheet([(row, [trace, lacking])]), title=HOSTILE, foot=[HOSTILE])
    elements, attributes = parts(svg)
    assert elements <= {"svg", "title", "rect", "path", "g", "text"}
    assert attributes <= ATTRIBUTES
    shown = "<script>alert(1)</script>\"'&<x onload=y>]]>��"
    assert sum(shown in (e.text or "") for e in ET.fromstring(svg).iter()) >= 4


def test_an_attribute_cannot_be_left_by_its_value():
    for value in (HOSTILE, "' x='1", '" x="1', "\n\t"):
        read = ET.fromstring(element("a", href=value)).attrib
        assert set(read) == {"href"}


@pytest.mark.parametrize("code", [*range(9), 0xB, 0x1F, 0x7F, 0xD800, 0xFFFE, 0xFFFF])
def test_xml_2_2_what_no_text_may_hold_is_replaced(code):
    assert escaped(f"a{chr(code)}b") == "a\ufffdb"


def test_hostile_labels_of_an_object_make_a_picture(tmp_path):
    def named(item):
        for n, channel in enumerate(item.ChannelDefinitionSequence):
            del channel.ChannelSourceSequence
            channel.ChannelLabel = ("<script>", 'V1"><b', "&amp;", "'II'")[n]

    path = saved(tmp_path, ecg(Group(sines(500, 4), change_item=named)))
    for svg in (picture(path).svg, overview(path, address=lambda *_: HOSTILE).svg):
        elements, attributes = parts(svg)
        assert "script" not in elements
        assert "b" not in elements
        assert attributes <= ATTRIBUTES


def test_f28_a_damaged_object_is_a_picture_or_a_clear_error(tmp_path):
    path, drawn, refused = tmp_path / "damaged.dcm", 0, 0
    for damaged in campaign(every_kind(), 300, seed=6):
        path.write_bytes(damaged)
        for way in (picture, overview):
            try:
                svg = way(path).svg
            except (BadInput, NoPicture) as problem:
                refused += bool(problem.where)
            else:
                drawn += ET.fromstring(svg).tag.endswith("svg")
    assert drawn + refused == 600
    assert min(drawn, refused) > 50


def test_no_value_of_the_patient_is_in_a_picture(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(5000, 12)), PatientName="Canary^Maria", PatientID="CANARY-77",
                               PatientBirthDate="19010203", AccessionNumber="CANARY-ACC"))  # fmt: skip
    for svg in (picture(path).svg, overview(path).svg):
        assert not any(value in svg for value in ("Canary", "CANARY", "Maria", "1901"))


def test_rows_of_a_group_without_samples_in_the_range_are_empty():
    signal, _ = open_recording(SAMPLES / "10_ecg_holter.dcm")
    (trace, _) = signal.window(signal.leads, 60, 10, column=0.01)
    assert trace.at.size == 0
    made = sheet([(row, [trace]) for row in rows(Layout.STACKED, signal.leads[:1], 60, 10)])
    assert made.strips[0].curves[0].x.size == 0
