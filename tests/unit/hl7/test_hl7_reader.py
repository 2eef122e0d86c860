"""The tolerant reader: headers, addresses, nulls, limits."""

import contextlib
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.found import Found
from bridge.errors import BadInput
from bridge.formats.hl7.reader import read, read_header

MSH = rb"MSH|^~\&|HIS^1.2^ISO|KH|BRIDGE|CARDIO|20260419100000+0200||ORM^O01^ORM_O01|MSG-1|P|2.5.1||||||UNICODE UTF-8"
ORDER = (
    MSH
    + """
PID|1||4711^^^HIS&1.2.3&ISO^MR~99^^^KV^PI||Testfrau^Erika^""^^^^L~Muster^Erika^^^^^M||19700101|F|||""
PV1|1|O|KARD^1^1
ORC|NW|PL-1^HIS
OBR|1|PL-1^HIS||93000^ECG\\T\\12 lead^CPT
OBX|1|NM|8302-2^Body height^LN||172|cm|||||F
OBX|2|NM|29463-7^Body weight^LN||71,5|kg|||||F
ZDS|1.2.840^^Application^DICOM
""".replace("\n", "\r").encode()
)


@pytest.mark.parametrize(
    ("address", "values"),
    [
        ("PID-8", [("F", "PID-8")]),
        ("PID-3.1", [("4711", "PID-3[1].1"), ("99", "PID-3[2].1")]),
        ("PID-3[2].1", [("99", "PID-3[2].1")]),
        ("PID-3[2].4.1", [("KV", "PID-3[2].4.1")]),
        ("PID-3[1].4.2", [("1.2.3", "PID-3[1].4.2")]),
        ("PID-3[5=MR].1", [("4711", "PID-3[1].1")]),
        ("PID-3[5=mr].1", [("4711", "PID-3[1].1")]),
        ("PID-3[4.1=KV].1", [("99", "PID-3[2].1")]),
        ("PID-3[4.2=1.2.3].1", [("4711", "PID-3[1].1")]),
        ("PID-3[5=XX].1", []),
        ("PID-3", [("4711^^^HIS&1.2.3&ISO^MR", "PID-3[1]"), ("99^^^KV^PI", "PID-3[2]")]),
        ("PID-5.1.1", [("Testfrau", "PID-5[1].1.1"), ("Muster", "PID-5[2].1.1")]),
        ("PID-5[7=L].1", [("Testfrau", "PID-5[1].1")]),
        ("OBX[3.1=8302-2]-5", [("172", "OBX[1]-5")]),
        ("OBX[3.1=29463-7]-6", [("kg", "OBX[2]-6")]),
        ("OBX[2]-6", [("kg", "OBX[2]-6")]),
        ("OBX-5", [("172", "OBX[1]-5"), ("71,5", "OBX[2]-5")]),
        ("OBR-4.2", [("ECG&12 lead", "OBR-4.2")]),
        ("OBR-4.1.1", [("93000", "OBR-4.1.1")]),
        ("ZDS-1.1", [("1.2.840", "ZDS-1.1")]),
        ("MSH-1", [("|", "MSH-1")]),
        ("MSH-2", [("^~\\&", "MSH-2")]),
        ("MSH-3.1", [("HIS", "MSH-3.1")]),
        ("MSH-7", [("20260419100000+0200", "MSH-7")]),
        ("MSH-9.2", [("O01", "MSH-9.2")]),
        ("PID-99", []),
        ("PID-2", []),
        ("NTE-3", []),
        ("PID-8.2", []),
        ("PatientID", []),
        ("@peer", []),
        ("PID-0", []),
        ("PID-3[", []),
        ("PID", []),
    ],
)
def test_addresses_find_values_and_say_where(address, values):
    message = read(ORDER)
    assert message.find(address) == [Found(v, w) for v, w in values]
    for found in message.find(address):
        assert message.find(found.where) == [found]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("PID-11", [Found("", "PID-11", null=True)]),
        ("PID-11.5", [Found("", "PID-11.5", null=True)]),
        ("PID-11.5.1", [Found("", "PID-11.5.1", null=True)]),
        ("PID-5[1].3", [Found("", "PID-5[1].3", null=True)]),
        ("PID-5[1].4", []),
        ("PID-12", []),
    ],
)
def test_hl7_v2_5_3_two_quotes_delete_and_empty_says_nothing(address, expected):
    assert read(ORDER).find(address) == expected


def test_header_is_read_right():
    header = read_header(ORDER)
    assert (header.sending_application, header.sending_facility) == ("HIS", "KH")
    assert (header.receiving_application, header.receiving_facility) == ("BRIDGE", "CARDIO")
    assert (header.type, header.trigger, header.structure) == ("ORM", "O01", "ORM_O01")
    assert (header.control_id, header.raw_control_id) == ("MSG-1", b"MSG-1")
    assert (header.processing_id, header.version, header.charsets) == ("P", "2.5.1", ("UNICODE UTF-8",))
    assert (header.field_separator, header.component, header.repetition) == ("|", "^", "~")
    assert (header.escape, header.subcomponent) == ("\\", "&")
    assert header.raw_fields[3] == b"HIS^1.2^ISO"
    assert header.raw_fields[18] == b"UNICODE UTF-8"


def test_hl7_v2_9_2_msh10_is_kept_byte_for_byte():
    header = read_header(rb"MSH|^~\&|||||||ACK|  id \xff with spaces and more than 20  |P|2.5")
    assert header.raw_control_id == rb"  id \xff with spaces and more than 20  "
    assert header.control_id == r"id \xff with spaces and more than 20"


@pytest.mark.parametrize(
    ("msh_9", "expected"),
    [
        ("ADT", ("ADT", "", "")),
        ("ADT^A01", ("ADT", "A01", "")),
        ("ORM^O01^ORM_O01", ("ORM", "O01", "ORM_O01")),
        ("", ("", "", "")),
    ],
)
def test_hl7_v2_15_9_9_message_type(msh_9, expected):
    header = read_header(f"MSH|^~\\&|||||||{msh_9}|1|P|2.5\r".encode())
    assert (header.type, header.trigger, header.structure) == expected


def test_the_event_is_taken_from_evn_1_where_msh_9_names_none():
    message = read(b"MSH|^~\\&|||||||ADT|1|P|2.2\rEVN|A08|20260101\r")
    assert message.header.trigger == ""
    assert message.trigger == "A08"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"MSH",
        b"MSH|",
        b"MSH|^",
        b"MSH|^|HIS",
        b"PID|1\r",
        b"hello",
        b"MSH|^^\\&|HIS\r",
        b"MSH^^~\\&^HIS\r",
        b"MSH|^~\\&##|HIS\r",
        b"MSHA^~\\&AHISA\r",
        b"MSH ^~\\& HIS\r",
        "MSH|^~\\&|HIS\r".encode("utf-16"),
        "MSH|^~\\&|HIS\r".encode("utf-16-le"),
        "MSH|^~\\&|HIS\r".encode("utf-16-be"),
        "MSH|^~\\&|HIS\r".encode("utf-32"),
    ],
)
def test_hl7_357_100_no_readable_msh(raw):
    for way in (read, read_header):
        with pytest.raises(BadInput) as refused:
            way(raw)
        assert (refused.value.code, refused.value.where) == (100, "MSH")


@pytest.mark.parametrize(
    ("encoding", "expected", "noted"),
    [
        ("^~\\&", ("^", "~", "\\", "&", ""), False),
        ("^~", ("^", "~", "\\", "&", ""), True),
        ("^~\\", ("^", "~", "\\", "&", ""), True),
        ("^~\\&#", ("^", "~", "\\", "&", "#"), False),
        ("~&#\\", ("~", "&", "#", "\\", ""), False),
    ],
)
def test_hl7_v2_5_4_encoding_characters_of_two_to_five(encoding, expected, noted):
    header = read_header(f"MSH|{encoding}|HIS|||||||1|P|2.7\r".encode())
    d = header.delimiters
    assert (d.component, d.repetition, d.escape, d.subcomponent, d.truncation) == expected
    assert bool(header.notes) is noted


BODY = b"MSH|^~\\&|HIS||||||ADT^A08|1|P|2.5\rPID|1||1||Testfrau^Erika\r"


@pytest.mark.parametrize(
    ("name", "raw", "notes"),
    [
        ("as it should be", BODY, 0),
        ("LF", BODY.replace(b"\r", b"\n"), 1),
        ("CRLF", BODY.replace(b"\r", b"\r\n"), 1),
        ("no last CR", BODY[:-1], 1),
        ("blank lines", BODY.replace(b"\r", b"\r\r\r"), 1),
        ("BOM", b"\xef\xbb\xbf" + BODY, 1),
        ("blank before MSH", b"\r\n\r\n" + BODY, 1),
        ("still framed", b"\x0b" + BODY + b"\x1c\r", 2),
        ("a line that is no segment", BODY + b"only text\r", 1),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_hl7_tolerances_read_the_same_message_and_are_noted(name, raw, notes):
    message = read(raw)
    assert [f.value for f in message.find("PID-5.1")] == ["Testfrau"]
    assert [s.name for s in message.segments if s.name] == ["MSH", "PID"]
    assert len(message.notes) == notes
    assert message.raw == raw
    assert not any("Testfrau" in note or "only" in note for note in message.notes)


def test_a_line_feed_inside_a_text_is_text():
    message = read(b"MSH|^~\\&|||||||ADT^A08|1|P|2.5\rNTE|1||one\ntwo\rPV1|1|I\r")
    assert message.find("NTE-3")[0].value == "one\ntwo"
    assert message.find("PV1-2")[0].value == "I"


def test_a_delimiter_byte_inside_a_double_byte_character_is_no_delimiter():
    # The second byte of U+8A31 in Big5 is 0x5C, of U+529F 0x5C as well: the escape character's code.
    body = "MSH|^~\\&|HIS|許功院||||20260101|ADT^A08|1|P|2.5||||||BIG-5\rPID|1||1||許^功\r".replace("||||2", "|||2")
    message = read(body.encode("cp950"))
    assert message.header.sending_facility == "許功院"
    assert [f.value for f in (*message.find("PID-5.1"), *message.find("PID-5.2"))] == ["許", "功"]


def test_a_second_msh_is_refused_and_not_merged():
    with pytest.raises(BadInput) as refused:
        read(BODY + BODY)
    assert refused.value.where == "MSH[2]"


@pytest.mark.parametrize(
    ("name", "at_limit", "over", "where"),
    [
        ("segments", BODY + b"NTE|1\r" * 1998, BODY + b"NTE|1\r" * 1999, "NTE"),
        ("fields", BODY + b"ZXX" + b"|" * 500 + b"\r", BODY + b"ZXX" + b"|" * 501 + b"\r", "ZXX"),
        ("repetitions", BODY + b"ZXX|1|" + b"~" * 499 + b"\r", BODY + b"ZXX|1|" + b"~" * 500 + b"\r", "ZXX"),
    ],
    ids=lambda v: v if isinstance(v, str) and v.islower() else "",
)
def test_failures_4_limits_at_and_one_past(name, at_limit, over, where):
    assert read(at_limit).find("PID-5.1")
    with pytest.raises(BadInput) as refused:
        read(over)
    assert refused.value.where == where
    assert refused.value.code == (100 if name == "segments" else 102)
    assert read_header(over).control_id == "1"


@pytest.mark.parametrize(
    "hostile", [b"~", b"^", b"&", b"|", b"\\", b"\\F\\", b"\r", b"\n", b"\\.sp99999\\", b"\\X41\\"]
)
def test_f28_a_megabyte_of_delimiters_is_bounded_in_time_and_memory(hostile):
    raw = BODY + b"NTE|1||" + hostile * (1_000_000 // len(hostile)) + b"\r"
    tracemalloc.start()
    with contextlib.suppress(BadInput):
        read(raw).find("NTE-3.2.2")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000
    start = time.process_time()
    with contextlib.suppress(BadInput):
        message = read(raw)
        message.find("NTE-3.2.2")
        message.find("NTE-3.999999")
        message.orders()
    assert time.process_time() - start < 1.0  # 0.2 s where nobody else uses the processor


def test_f28_a_refusal_never_quotes_a_line():
    with pytest.raises(BadInput) as refused:
        read(BODY + b"Testfrau" + b"|" * 600 + b"\r")
    assert refused.value.where == "MSH"
    assert "Tes" not in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_bad_input(junk):
    for raw in (junk, BODY + junk, b"MSH|^~\\&|" + junk):
        with contextlib.suppress(BadInput):
            message = read(raw)
            message.find("PID-3[2].1.2")
            message.find("OBX[3.1=x]-5")
            message.orders()
            repr(message.segments)


def test_a_segments_repr_shows_no_value():
    assert "Testfrau" not in repr(read(ORDER).segments)
