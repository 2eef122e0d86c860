import io
import struct

import pydicom
import pytest

from bridge.errors import BadInput
from bridge.formats.dicom import plain_items, walk
from bridge.formats.dicom.part10 import ENCODINGS
from bridge.formats.dicom.walk import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding, Item, Walker
from tests.unit.dicom.ecg_factory import BIG, EXPLICIT, IMPLICIT, Group, ecg, encoded, sines
from tests.unit.dicom.mutations import SAMPLES

WAVEFORM_SEQUENCE, DEFINITIONS = 0x54000100, 0x003A0200
ANY_SEQUENCE, LABEL, CHARACTER_SET = 0x00400275, 0x003A0203, 0x00080005
OPEN = 0xFFFFFFFF
ITEM_ENDS, SEQUENCE_ENDS = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def walked(raw: bytes, encoding: Encoding, **how: frozenset[int]) -> Item:
    return Walker(io.BytesIO(raw), len(raw), **how).data_set(0, encoding)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    rest = struct.pack("<HL", 0, size) if vr in {b"SQ", b"UN", b"OB", b"UT"} else struct.pack("<H", size)
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + rest + value


def item(*elements: bytes, open_: bool = True) -> bytes:
    body = b"".join(elements)
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", OPEN if open_ else len(body)) + body + (ITEM_ENDS if open_ else b"")


def sequence(*items: bytes, tag: int = ANY_SEQUENCE) -> bytes:
    return element(tag, b"SQ", b"".join(items) + SEQUENCE_ENDS, OPEN)


def flat(found: Item) -> list[tuple[object, ...]]:
    """Every element with its place, the items' after their sequence's."""
    rows: list[tuple[object, ...]] = []
    for tag, one in found.items():
        rows.append((tag, one.vr, one.value, one.offset, one.length, one.order, one.items and len(one.items)))
        rows += [row for inner in one.items or () for row in flat(inner)]
    return rows


def of_pydicom(ds: pydicom.Dataset) -> list[tuple[int, bytes]]:
    """Tag and bytes of every value that is no sequence, in the order of the file."""
    rows: list[tuple[int, bytes]] = []
    for tag in ds.keys():  # noqa: SIM118  a data set's own iterator hands out what it converted
        if pydicom.datadict.dictionary_VR(tag) == "SQ":
            rows += [row for inner in ds[tag].value for row in of_pydicom(inner)]
        elif isinstance(raw := ds.get_item(tag), pydicom.dataelem.RawDataElement):
            rows.append((int(tag), raw.value or b""))
    return rows


def kinds() -> list[tuple[str, bool]]:
    return [(syntax, open_) for syntax in (EXPLICIT, IMPLICIT, BIG) for open_ in (False, True)]


def data_set_of(raw: bytes) -> bytes:
    return raw[Walker(io.BytesIO(raw), len(raw)).group(132, 2)[1] :]


@pytest.mark.parametrize(("syntax", "open_"), kinds())
def test_ps3_5_7_1_every_value_stands_where_pydicom_finds_it(syntax, open_):
    raw = encoded(ecg(Group(sines(50, 12)), Group(sines(6, 3)), syntax=syntax), undefined_lengths=open_)
    at = len(raw) - len(data_set_of(raw))
    found = flat(Walker(io.BytesIO(raw), len(raw)).data_set(at, ENCODINGS[syntax]))
    ours = [
        (tag, raw[offset : offset + length])
        for tag, vr, _, offset, length, *_ in found
        if vr != "SQ" and tag != CHARACTER_SET  # pydicom hands that one out decoded
    ]
    assert ours == of_pydicom(pydicom.dcmread(io.BytesIO(raw)))
    assert all(value in {None, raw[offset : offset + length]} for _, _, value, offset, length, *_ in found)
    assert len(ours) > 200
    assert [tag for tag, vr, value, *_ in found if value is None and vr != "SQ"] == [walk.WAVEFORM_DATA] * 2


@pytest.mark.parametrize(("syntax", "open_"), kinds())
def test_where_a_window_ends_makes_no_difference(syntax, open_, monkeypatch):
    raw = data_set_of(encoded(ecg(Group(sines(20, 3)), Group(sines(6, 2)), syntax=syntax), undefined_lengths=open_))
    whole, passed = walked(raw, ENCODINGS[syntax]), walked(raw, ENCODINGS[syntax], only=frozenset({WAVEFORM_SEQUENCE}))
    for window in (*range(1, 40), 64, 300, 1000):
        monkeypatch.setattr(walk, "_WINDOW", window)
        assert walked(raw, ENCODINGS[syntax]) == whole
        assert walked(raw, ENCODINGS[syntax], only=frozenset({WAVEFORM_SEQUENCE})) == passed


@pytest.mark.parametrize(("syntax", "open_"), kinds())
def test_a_sequence_that_is_not_wanted_has_its_place_and_nothing_else(syntax, open_):
    raw = data_set_of(encoded(ecg(Group(sines(50, 12)), Group(sines(6, 3)), syntax=syntax), undefined_lengths=open_))
    whole = walked(raw, ENCODINGS[syntax])
    passed = walked(raw, ENCODINGS[syntax], only=frozenset({WAVEFORM_SEQUENCE}))
    assert list(passed) == list(whole)
    for mine, all_of_it in zip(passed[WAVEFORM_SEQUENCE].items, whole[WAVEFORM_SEQUENCE].items, strict=True):
        assert all_of_it[DEFINITIONS].items
        assert mine == {**all_of_it, DEFINITIONS: all_of_it[DEFINITIONS]._replace(items=None)}
    nothing = walked(raw, ENCODINGS[syntax], only=frozenset())
    assert nothing == {**whole, WAVEFORM_SEQUENCE: whole[WAVEFORM_SEQUENCE]._replace(items=None)}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_what_is_wanted_of_a_sample_is_the_same_whichever_way(path):
    raw = path.read_bytes()
    at = len(raw) - len(data_set_of(raw))
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    whole = Walker(io.BytesIO(raw), len(raw)).data_set(at, ENCODINGS[syntax])
    passed = Walker(io.BytesIO(raw), len(raw), only=frozenset()).data_set(at, ENCODINGS[syntax])
    assert passed == {tag: one._replace(items=None) for tag, one in whole.items()}


TEXT = element(LABEL, b"SH", b"V1")
UNUSUAL = {
    "a delimiter in a value": sequence(item(element(LABEL, b"SH", SEQUENCE_ENDS + ITEM_ENDS))),
    "an item's mark in a value": sequence(item(element(LABEL, b"SH", b"\xfe\xff\x00\xe0" + b"\xff" * 4))),
    "marks in a longer value": sequence(item(element(LABEL, b"SH", b"ab" + ITEM_ENDS + SEQUENCE_ENDS + bytes(240)))),
    "items with a length": sequence(item(TEXT, open_=False), item(TEXT), item(TEXT, open_=False)),
    "an item that lies about what it holds": sequence(item(b"no element at all", open_=False)),
    "no items": sequence(),
    "empty items": sequence(item(), item(), item(open_=False)),
    "long values": sequence(item(element(LABEL, b"LT", bytes(66))), item(element(0x00420011, b"OB", bytes(500)))),
    "an odd length": sequence(item(element(LABEL, b"SH", b"odd"))),
    "three levels": sequence(item(sequence(item(sequence(item(TEXT)), TEXT)), TEXT), item(TEXT)),
    "a sequence with a length": sequence(item(element(ANY_SEQUENCE, b"SQ", item(TEXT)), TEXT)),
    "unknown and open": sequence(item(element(0x00091001, b"UN", item() + SEQUENCE_ENDS, OPEN), TEXT)),
    "a value like a header": sequence(item(element(LABEL, b"SH", TEXT), element(0x003A0209, b"DS", TEXT))),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_sequences_are_passed_over_to_their_end(name):
    raw = element(0x00100020, b"LO", b"P1") + UNUSUAL[name] + element(0x54000110, b"DS", b"1 ")
    found = walked(raw, EXPLICIT_LITTLE, only=frozenset())
    assert [*found] == [0x00100020, ANY_SEQUENCE, 0x54000110]
    assert found[ANY_SEQUENCE].length == len(UNUSUAL[name]) - 12


@pytest.mark.parametrize("only", [{}, {"only": frozenset()}], ids=["kept", "passed over"])
@pytest.mark.parametrize(
    "raw",
    [
        sequence(item(TEXT))[:-8],
        sequence(item(TEXT))[:-16],
        sequence(item(TEXT[:-1])),
        sequence(item(b"\x3a\x00\x03\x02??\x02\x00V1")),
        sequence(TEXT),
        sequence(item(item(TEXT))),
        sequence(item(SEQUENCE_ENDS)),
        sequence(ITEM_ENDS),
        sequence(item(element(LABEL, b"OB", TEXT, OPEN))),
        element(ANY_SEQUENCE, b"SQ", item(TEXT), 4_000_000_000),
        sequence(item(element(LABEL, b"UT", b"", 4_000_000_000))),
    ],
    ids=lambda raw: f"{len(raw)} bytes",
)
def test_f5_a_broken_sequence_of_open_length_is_refused_either_way(raw, only):
    with pytest.raises(BadInput) as caught:
        walked(raw, EXPLICIT_LITTLE, **only)
    assert caught.value.code == 0xC000


@pytest.mark.parametrize(("syntax", "pattern"), [(EXPLICIT, plain_items.EXPLICIT), (IMPLICIT, plain_items.IMPLICIT)])
def test_the_usual_channel_definitions_are_passed_over_in_one_go(syntax, pattern):
    raw = data_set_of(encoded(ecg(Group(sines(5, 12)), syntax=syntax), undefined_lengths=True))
    definitions = walked(raw, ENCODINGS[syntax])[WAVEFORM_SEQUENCE].items[0][DEFINITIONS]
    end = definitions.offset + definitions.length
    assert len(definitions.items) == 12
    assert pattern.match(raw, definitions.offset, end).end() == end - len(SEQUENCE_ENDS)


def test_f5_an_item_without_its_end_in_a_sequence_with_a_length_is_refused():
    whole, broken = (element(ANY_SEQUENCE, b"SQ", one) for one in (item(TEXT), item(TEXT)[:-8]))
    assert walked(whole, EXPLICIT_LITTLE)[ANY_SEQUENCE].items[0][LABEL].value == b"V1"
    with pytest.raises(BadInput, match="cut short"):
        walked(broken, EXPLICIT_LITTLE)


def test_an_open_length_in_implicit_vr_is_a_sequence_only_where_it_may_be_one():
    private = b"\x09\x00\x01\x10\xff\xff\xff\xff" + item() + SEQUENCE_ENDS
    assert walked(private, IMPLICIT_LITTLE)[0x00091001].items == ({},)
    with pytest.raises(BadInput, match="no length"):
        walked(b"\x10\x00\x20\x00\xff\xff\xff\xff" + item() + SEQUENCE_ENDS, IMPLICIT_LITTLE)


def test_ps3_10_7_1_file_meta_ends_where_its_group_ends():
    raw = encoded(ecg(Group(sines(5, 2)), syntax=BIG))
    meta, at = Walker(io.BytesIO(raw), len(raw)).group(132, 2)
    assert {tag >> 16 for tag in meta} == {2}
    assert raw[at : at + 4] == b"\x00\x08\x00\x05"
