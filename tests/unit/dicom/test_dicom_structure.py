import io
import os
from pathlib import Path

import pydicom
import pytest

from bridge.errors import BadInput
from bridge.formats.dicom.reader import read_object
from bridge.formats.dicom.structure import GroupStructure, Structure, check_structure, structure_of
from tests.unit.dicom.ecg_factory import BIG, EXPLICIT, IMPLICIT, Group, ecg, encoded, saved, sines
from tests.unit.dicom.mutations import SAMPLES, campaign, every_kind, outcome

WALK_FAULTS = (
    "an element has no value representation of DICOM",
    "a value reaches beyond its data set",
    "a value has no length",
    "an element stands twice in one data set",
    "a sequence holds something that is no item",
    "an item is longer than its sequence",
    "the object is cut short, or an item is longer than its sequence",
    "the object is cut short inside a sequence",
    "a delimiter stands where an element should",
)
"""What the structural check may pass by inside a sequence that it does not open. Beside them: the number of channel
definitions, and the limits of elements, depth and memory, of which it sees less."""

LIMITS = ("more than 20000 elements", "nested deeper", "the header is too large")


def outer_keywords(path: Path) -> set[str]:
    """What stands in the data set itself or in a group, sequences of others apart."""
    ds = pydicom.dcmread(path)
    places = [ds, *ds.WaveformSequence]
    return {e.keyword for place in places for e in place if e.VR != "SQ"} | {"WaveformSequence"}


@pytest.mark.parametrize("open_", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_f5_what_each_group_declares_and_holds(tmp_path, syntax, open_):
    ds = ecg(Group(sines(500, 12)), Group(sines(7, 3, peak=100), "SB", 8, tail=b"\0\0"), syntax=syntax)
    path = saved(tmp_path, ds, undefined_lengths=open_)
    assert check_structure(path) == Structure(
        ds.SOPClassUID,
        ds.SOPInstanceUID,
        syntax,
        (GroupStructure(1, 12, 500, 16, 12_000), GroupStructure(2, 3, 7, 8, 24)),
    )


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_samples_have_the_structure_that_they_are_read_with(path):
    recording = read_object(path).recording
    found = check_structure(path)
    assert (found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax_uid) == (
        recording.sop_class_uid, recording.sop_instance_uid, recording.transfer_syntax_uid,
    )  # fmt: skip
    assert [(g.number, g.channels, g.samples, g.channels * g.samples * g.bits // 8) for g in found.groups] == [
        (g.number, len(g.channels), g.samples, g.length) for g in recording.groups
    ]


@pytest.mark.parametrize("open_", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_f5_cut_at_every_97th_byte_is_refused_exactly_where_a_reading_is(tmp_path, syntax, open_):
    ds = ecg(Group(sines(150, 12)), Group(sines(60, 12), originality="DERIVED"), syntax=syntax)
    ds.DataSetTrailingPadding = bytes(40)
    raw = encoded(ds, undefined_lengths=open_)
    path = tmp_path / "cut.dcm"
    passed = 0
    for size in [*range(0, len(raw), 97), *range(len(raw) - 70, len(raw) + 1)]:
        path.write_bytes(raw[:size])
        checked, read = outcome(check_structure, path), outcome(read_object, path)
        assert isinstance(checked, BadInput) is isinstance(read, BadInput)
        passed += isinstance(checked, Structure)
    assert passed == 2  # the whole one, and the cut that takes exactly the padding away


@pytest.mark.parametrize("seed", range(3))
def test_f5_what_passes_and_is_refused_when_read_lies_inside_a_sequence_that_is_not_opened(tmp_path, seed):
    path, whole = tmp_path / "damaged.dcm", saved(tmp_path, ecg(Group(sines(9, 2), padding=0), Group(sines(5, 2))))
    outer = outer_keywords(whole)
    assert {"SOPInstanceUID", "WaveformData", "SamplingFrequency"} < outer
    late = 0
    for raw in campaign([*every_kind(), SAMPLES[0].read_bytes()], 400, seed):
        path.write_bytes(raw)
        checked, read = outcome(check_structure, path), outcome(read_object, path)
        if not isinstance(read, BadInput):
            assert isinstance(checked, Structure)
        elif isinstance(checked, Structure):
            late += 1
            text = str(read)
            assert text in WALK_FAULTS or "definitions for" in text or any(limit in text for limit in LIMITS)
            assert read.where.split(".")[-1] not in outer
    assert 5 < late < 100


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda i: delattr(i, "WaveformData"), "WaveformData"),
        (lambda i: setattr(i, "NumberOfWaveformSamples", 51), "WaveformData"),
        (lambda i: setattr(i, "NumberOfWaveformChannels", 4), "WaveformData"),
        (lambda i: setattr(i, "NumberOfWaveformSamples", 0), "NumberOfWaveformSamples"),
        (lambda i: delattr(i, "NumberOfWaveformChannels"), "NumberOfWaveformChannels"),
        (lambda i: delattr(i, "WaveformBitsAllocated"), "WaveformBitsAllocated"),
        (lambda i: setattr(i, "WaveformBitsAllocated", 24), "WaveformSampleInterpretation"),
        (lambda i: setattr(i, "WaveformSampleInterpretation", "XX"), "WaveformSampleInterpretation"),
        (lambda i: setattr(i, "SamplingFrequency", "0"), "SamplingFrequency"),
        (lambda i: delattr(i, "ChannelDefinitionSequence"), "ChannelDefinitionSequence"),
        (lambda i: setattr(i, "ChannelDefinitionSequence", []), "ChannelDefinitionSequence"),
    ],
)
def test_c000_names_what_a_group_lacks_and_a_reading_refuses_it_too(tmp_path, change, where):
    whole, broken = Group(sines(50, 3)), Group(sines(50, 3), change_item=change)
    for number, groups in ((1, [broken, whole]), (2, [whole, broken])):
        path = saved(tmp_path, ecg(*groups))
        checked = outcome(check_structure, path)
        assert isinstance(checked, BadInput)
        assert (checked.code, checked.where) == (0xC000, f"WaveformSequence[{number}].{where}")
        assert isinstance(outcome(read_object, path), BadInput)


def test_f5_one_byte_too_few_is_too_few(tmp_path):
    def shorter(item):
        item.WaveformData = item.WaveformData[:152]
        item["WaveformData"].VR = "OB"

    path = saved(tmp_path, ecg(Group(sines(51, 3, peak=100), "SB", 8, change_item=shorter)))
    assert outcome(check_structure, path).where == "WaveformSequence[1].WaveformData"


def test_c000_for_a_time_offset_that_is_no_number_as_a_reading_has_it(tmp_path):
    path = tmp_path / "offset.dcm"
    path.write_bytes(encoded(ecg(Group(sines(5, 3), offset_ms="7.25"))).replace(b"7.25", b"7_25"))
    refusals = [outcome(way, path) for way in (check_structure, read_object)]
    assert [r.where for r in refusals] == ["WaveformSequence[1].MultiplexGroupTimeOffset"] * 2


def test_c000_for_what_is_no_ecg_object(tmp_path):
    path = tmp_path / "thing"
    for content in (b"", b"\x08", b"hello world" * 40, bytes(4000), b"\0" * 128 + b"DICM", encoded(ecg())):
        path.write_bytes(content)
        assert isinstance(outcome(check_structure, path), BadInput)


def test_what_cannot_be_scaled_is_whole(tmp_path):
    for group in (Group(sines(50, 3), sensitivity=None), Group(sines(50, 3), units="mm[Hg]", baseline="1e99")):
        assert check_structure(saved(tmp_path, ecg(group))).groups[0].samples == 50


def test_f5_an_error_of_our_own_disk_is_no_bad_input(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_structure(tmp_path / "gone.dcm")
    with pytest.raises(IsADirectoryError):
        check_structure(tmp_path)


def test_an_open_file_is_read_from_its_beginning_and_left_open(tmp_path):
    path = saved(tmp_path, ecg(Group(sines(50, 3))))
    with path.open("rb") as file:
        file.seek(700)
        assert structure_of(file) == check_structure(path)
        assert not file.closed


class Counted(io.FileIO):
    """A file that counts the bytes that were read."""

    read_so_far = 0

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size) or b""
        self.read_so_far += len(block)
        return block


def test_of_the_samples_of_two_gigabytes_nothing_is_read(tmp_path):
    raw = encoded(ecg(Group(sines(50, 3)), Group(sines(5, 3))), undefined_lengths=True)
    length = 2_000_000_000
    head, rest = raw.split(b"\x00\x54\x10\x10OW\0\0" + (300).to_bytes(4, "little"), 1)
    path = tmp_path / "holter.dcm"
    with path.open("wb") as file:
        file.write(head + b"\x00\x54\x10\x10OW\0\0" + length.to_bytes(4, "little"))
        file.seek(length, os.SEEK_CUR)
        file.write(rest[300:])
    with Counted(path) as file:
        assert [g.length for g in structure_of(file).groups] == [length, 30]
        assert file.read_so_far < 100_000
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert isinstance(outcome(check_structure, path), BadInput)
