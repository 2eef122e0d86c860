"""Objects that are made to hurt: bounded in elements, depth, memory and bytes read, and refused in one way (F28)."""

import io
import struct
import tracemalloc

import pytest

from bridge.errors import BadInput
from bridge.formats.dicom.reader import EcgObject, read_object
from bridge.formats.dicom.structure import check_structure
from bridge.formats.dicom.walk import EXPLICIT_LITTLE, IMPLICIT_LITTLE, MAX_LOADED, Encoding, Walker
from tests.unit.dicom.mutations import SAMPLES, campaign, every_kind, outcome

OPEN = b"\xff\xff\xff\xff"
SEQUENCE = b"\x40\x00\x75\x02SQ\0\0"
ITEM = b"\xfe\xff\x00\xe0"
ITEM_ENDS, SEQUENCE_ENDS = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
EITHER_WAY = pytest.mark.parametrize("only", [None, frozenset()], ids=["kept", "passed over"])
PLACES = (
    "PatientName",
    "PatientID",
    "AccessionNumber",
    "RequestAttributesSequence.AccessionNumber",
    "WaveformSequence.ChannelDefinitionSequence.ChannelSourceSequence.CodeMeaning",
    "WaveformSequence[1].ChannelDefinitionSequence[2].ChannelSensitivity",
)


class Counted(io.BytesIO):
    """A file that counts the bytes that were asked of it."""

    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        self.asked += len(block)
        return block


def refusal(raw: bytes, only: frozenset[int] | None, encoding: Encoding = EXPLICIT_LITTLE) -> str:
    """Why it is refused, having read each byte but a few times."""
    file = Counted(raw)
    with pytest.raises(BadInput) as caught:
        Walker(file, len(raw), only=only).data_set(0, encoding)
    assert caught.value.code == 0xC000
    assert file.asked <= 3 * len(raw)
    return str(caught.value)


def elements(count: int, value: bytes = b"") -> bytes:
    """Private elements, each with a tag of its own."""
    return b"".join(
        struct.pack("<HH2sH", 0x0011 + 2 * (n >> 15), n & 0x7FFF, b"LO", len(value)) + value for n in range(count)
    )


def open_sequences(count: int, inside: bytes) -> bytes:
    """Sequences of one item, both of undefined length."""
    after = OPEN + ITEM + OPEN + inside + ITEM_ENDS + SEQUENCE_ENDS
    return b"".join(struct.pack("<HH2sH", 0x0009, n, b"SQ", 0) + after for n in range(count))


@EITHER_WAY
def test_f28_300_nested_sequences(only):
    raw = (SEQUENCE + OPEN + ITEM + OPEN) * 300 + (ITEM_ENDS + SEQUENCE_ENDS) * 300
    assert "nested" in refusal(raw, only)
    assert "cut short" in refusal((SEQUENCE + OPEN + ITEM + OPEN) * 16, only)


def test_f28_300_nested_sequences_that_state_their_lengths():
    raw = b""
    for _ in range(300):
        raw = SEQUENCE + struct.pack("<L", len(raw) + 8) + ITEM + struct.pack("<L", len(raw)) + raw
    assert "nested" in refusal(raw, None)
    Walker(io.BytesIO(raw), len(raw), only=frozenset()).data_set(0, EXPLICIT_LITTLE)


@EITHER_WAY
def test_f28_100_000_elements(only):
    assert "20000 elements" in refusal(elements(100_000), only)


@EITHER_WAY
def test_f28_one_megabyte_of_empty_items(only):
    items = (ITEM + b"\0\0\0\0") * 131_072
    assert "20000 elements" in refusal(SEQUENCE + OPEN + items + SEQUENCE_ENDS, only)


def test_f28_many_sequences_count_together():
    one = b"".join(struct.pack("<HH2sHL", 0x0009, n, b"SQ", 0, 8) + ITEM + b"\0\0\0\0" for n in range(15_000))
    assert "20000 elements" in refusal(one, None)


@EITHER_WAY
@pytest.mark.parametrize("claimed", [0xFFFFFFFE, 0x80000000, 21], ids=hex)
def test_f28_a_sequence_that_claims_more_than_there_is(claimed, only):
    raw = SEQUENCE + struct.pack("<L", claimed) + ITEM + b"\0\0\0\0" + elements(1)
    assert "beyond" in refusal(raw, only)


@EITHER_WAY
def test_f28_a_value_that_claims_more_than_there_is(only):
    assert "beyond" in refusal(b"\x09\x00\x10\x00UT\0\0\xfe\xff\xff\xff" + bytes(500), only)
    assert "beyond" in refusal(b"\x09\x00\x10\x00\xfe\xff\xff\x7f" + bytes(500), only, IMPLICIT_LITTLE)


@EITHER_WAY
def test_f28_what_looks_plain_and_breaks_off_late_is_read_once(only):
    """Each sequence is plain for some kilobytes, and has at its end what the quick way does not know."""
    odd = b"\x13\x00\xff\x7fOB\0\0\x02\0\0\0ab"
    assert "20000 elements" in refusal(open_sequences(200, elements(400) + odd), only)


@EITHER_WAY
def test_f28_many_short_sequences_are_read_a_few_times_wherever_a_window_ends(only):
    assert "20000 elements" in refusal(open_sequences(12_000, b"") + elements(20_000), only)
    assert "20000 elements" in refusal(open_sequences(21_000, b""), only)


def test_f28_memory_follows_the_limits_and_not_the_object():
    """16 MB of values at the most, whatever their number; what is longer than any value that we read is passed by."""
    raw = elements(2_000, bytes(40_000))
    tracemalloc.start()
    try:
        reason = refusal(raw, None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "too large" in reason
    assert MAX_LOADED < most < MAX_LOADED + 4_000_000


@pytest.mark.parametrize("seed", range(3))
def test_f5_damaged_objects_of_every_kind_are_read_or_bad_input(tmp_path, seed):
    """And whoever holds an object that was read can ask it for anything."""
    path = tmp_path / "damaged.dcm"
    refusals: list[int] = []
    read = 0
    for raw in campaign(every_kind(), 300, seed):
        path.write_bytes(raw)
        found = [outcome(way, path) for way in (check_structure, read_object)]
        refusals += [one.code for one in found if isinstance(one, BadInput)]
        if isinstance(found[1], EcgObject):
            read += 1
            for place in PLACES:
                found[1].source.find(place)
    assert read > 30
    assert len(refusals) > 30
    assert set(refusals) == {0xC000}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_f5_damaged_samples_are_read_or_bad_input(tmp_path, path):
    damaged = tmp_path / "damaged.dcm"
    found = []
    for raw in campaign([path.read_bytes()], 40, 11):
        damaged.write_bytes(raw)
        found += [outcome(way, damaged) for way in (check_structure, read_object)]
    assert {one.code if isinstance(one, BadInput) else 0 for one in found} == {0, 0xC000}
