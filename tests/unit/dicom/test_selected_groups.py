"""Which groups of an object are uploaded, and how their start follows from the object's (PS3.3 C.10.8, C.10.9)."""

from decimal import Decimal

import pytest

from bridge.domain.task import FieldTrace, Mapped
from bridge.formats.dicom.reader import read_object
from bridge.mapping.recordings import of_group
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines

LIMBS, CHEST, OTHERS = (1, 2, 61), (3, 4, 5), (62, 63, 64)


def of(leads=LIMBS, seconds=2, **more) -> Group:
    return Group(sines(500 * seconds, 3), leads=leads, **more)


def unnamed() -> Group:
    def change(item):
        for channel in item.ChannelDefinitionSequence:
            del channel.ChannelSourceSequence

    return of(change_item=change)


MEDIAN = Group(sines(300, 3), originality="DERIVED", leads=LIMBS)


@pytest.mark.parametrize(
    ("groups", "several", "numbers", "places", "left_out", "held"),
    [
        ([of()], "each", [1], [0], [], ""),
        ([of()], "hold", [1], [0], [], ""),
        ([MEDIAN, of()], "hold", [2], [0], [], ""),
        ([MEDIAN], "each", [1], [0], [], ""),
        ([of(originality="")], "each", [1], [0], [], ""),
        ([of(), MEDIAN, of()], "each", [1, 3], [0, 1], [], ""),
        ([of(), of(leads=LIMBS[::-1])], "each", [1, 2], [0, 1], [], ""),
        ([of(), of(rate="250")], "each", [1, 2], [0, 1], [], ""),
        ([of(), of()], "hold", [], [], [], "several_groups"),
        ([of(), of(originality="")], "each", [], [], [], "several_groups"),
        ([of(), of(originality="", seconds=1)], "longest", [1], [0], [2], ""),
        ([of(), of(seconds=3), of()], "longest", [2], [1], [1, 3], ""),
        ([of(), of()], "longest", [1], [0], [2], ""),
        ([MEDIAN, of(), of(seconds=3)], "longest", [3], [1], [2], ""),
        ([of(LIMBS), of(OTHERS), of(CHEST)], "each", [], [], [], "groups_differ"),
        ([of(LIMBS), of(OTHERS), of(CHEST)], "longest", [], [], [], "groups_differ"),
        ([unnamed(), unnamed()], "each", [], [], [], "groups_differ"),
        ([unnamed()], "each", [1], [0], [], ""),
        # A.34.3.4: four sets of three leads, one after the other, and one lead that goes on
        ([of(LIMBS), of(OTHERS), of(CHEST), Group(sines(5000, 1), leads=(2,))], "longest", [4], [3], [1, 2, 3], ""),
        ([of(LIMBS), of(OTHERS), of(CHEST), Group(sines(5000, 1), leads=(2,))], "each", [], [], [], "groups_differ"),
    ],
)
def test_the_groups_that_are_uploaded(tmp_path, groups, several, numbers, places, left_out, held):
    selection = read_object(saved(tmp_path, ecg(*groups))).recording.selected(several)
    assert [g.number for g in selection.groups] == numbers
    assert (list(selection.places), list(selection.left_out), selection.held) == (places, left_out, held)


@pytest.mark.parametrize(
    ("other", "twin"),
    [
        (of(offset_ms="0", label="AGAIN"), True),
        (of(offset_ms="1"), False),
        (of(offset_ms="0", sensitivity="5"), False),
        (of(offset_ms="0", leads=LIMBS[::-1]), False),
        (of(offset_ms="0", seconds=3), False),
    ],
)
def test_a_group_that_says_the_same_of_itself_is_a_twin(tmp_path, other, twin):
    first, second = read_object(saved(tmp_path, ecg(of(offset_ms="0"), other))).recording.groups
    assert first.is_twin_of(second) is twin


START = FieldTrace("recording_start_time", "2026-03-01T12:30:00.5Z", "AcquisitionDateTime", "local time", "a note")
WHOLE = Mapped({"recording_start_time": START.value, "patient_id": "4711"}, (START,))


@pytest.mark.parametrize(
    ("later_ms", "start"),
    [
        ("0", "2026-03-01T12:30:00.5Z"),
        ("2500", "2026-03-01T12:30:03Z"),
        ("0.25", "2026-03-01T12:30:00.50025Z"),
        ("-1500", "2026-03-01T12:29:59Z"),
        ("86400000", "2026-03-02T12:30:00.5Z"),
    ],
)
def test_a_further_group_begins_by_its_own_offset(later_ms, start):
    mapped = of_group(WHOLE, later_ms=Decimal(later_ms))
    (trace,) = mapped.traces
    assert (mapped.fields["recording_start_time"], trace.value) == (start, start)
    assert mapped.fields["patient_id"] == "4711"
    assert trace.note == ("a note" if later_ms == "0" else "a note; by MultiplexGroupTimeOffset of its group")


def test_a_start_that_is_not_known_stays_so():
    assert of_group(Mapped({"patient_id": "4711"}), later_ms=Decimal(5)).fields == {"patient_id": "4711"}


def test_an_offset_longer_than_any_recording_leaves_the_start_out():
    mapped = of_group(WHOLE, later_ms=Decimal(36 * 24 * 3600 * 1000))
    assert (mapped.fields, mapped.traces) == ({"patient_id": "4711"}, ())
    assert "longer than any recording" in mapped.warnings[0]
