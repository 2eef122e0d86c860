"""Each tolerance of the receiver: what is read in spite of it, and that its use is noted, without a value."""

from datetime import UTC, date, datetime

import pytest

from bridge.domain.found import Found
from bridge.errors import BadInput
from bridge.formats.hl7 import batch, mllp
from bridge.formats.hl7.escapes import escape
from bridge.formats.hl7.mllp import Frame, FrameDecoder, TooLong, encode
from bridge.formats.hl7.reader import read, read_header
from bridge.mapping.times import date_of, moment_of

MSH = b"MSH|^~\\&|HIS||||20260419100000+0200||ADT^A08|MSG-1|P|2.5"
BODY = MSH + b"\rPID|1||4711||Testfrau^Erika\r"


def _one(message, address):
    found = message.find(address)
    assert len(found) == 1
    return found[0].value


def _body(charset: bytes, name: bytes) -> bytes:
    return MSH + b"||||||" + charset + b"\rPID|1||4711||" + name + b"\r"


@pytest.mark.parametrize(
    ("tolerance", "stream", "notes"),
    [
        ("none", encode(BODY), ()),
        ("junk between frames", encode(BODY) + b"PING" + encode(BODY), (mllp.JUNK,)),
        ("CR and LF between frames", encode(BODY) + b"\r\n" + encode(BODY), (mllp.BETWEEN,)),
        ("NUL between frames", encode(BODY) + b"\x00\x00" + encode(BODY), (mllp.BETWEEN,)),
        ("missing final CR", encode(BODY)[:-1] + encode(BODY), (mllp.NO_CR,)),
        ("LF for the final CR", encode(BODY)[:-1] + b"\n" + encode(BODY), (mllp.BETWEEN, mllp.NO_CR)),
        ("doubled VT", b"\x0b" + encode(BODY), (mllp.DOUBLED_VT,)),
        ("doubled FS", encode(BODY)[:-1] + b"\x1c\r" + encode(BODY), (mllp.DOUBLED_FS,)),
        ("a frame cut off and begun anew", b"\x0b" + BODY[:70] + encode(BODY), (mllp.UNFINISHED,)),
        ("several frames in one read", encode(BODY) * 3, ()),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["1-byte pieces", "pieces", "one read"])
def test_hl7_mllp_framing(tolerance, stream, notes, size):
    decoder = FrameDecoder()
    frames = [e for at in range(0, len(stream), size) for e in decoder.feed(stream[at : at + size])]
    assert [frame.body for frame in frames] == [BODY] * len(frames)
    assert frames[-1].notes == notes
    assert _one(read(frames[-1].body), "PID-5.1") == "Testfrau"


def test_hl7_mllp_framing_over_the_limit_is_told_at_its_end():
    assert FrameDecoder(limit=len(BODY)).feed(encode(BODY)) == [Frame(BODY)]
    assert FrameDecoder(limit=len(BODY) - 1).feed(encode(BODY)) == [TooLong(len(BODY))]


@pytest.mark.parametrize(
    ("tolerance", "raw", "notes"),
    [
        ("none", BODY, ()),
        ("LF as segment end", BODY.replace(b"\r", b"\n"), ("segments end in LF",)),
        ("CRLF as segment end", BODY.replace(b"\r", b"\r\n"), ("segments end in LF",)),
        ("blank lines", BODY.replace(b"\r", b"\r\r"), ("blank lines",)),
        ("blank lines of CRLF", BODY.replace(b"\r", b"\r\n\r\n"), ("segments end in LF", "blank lines")),
        ("byte order mark", b"\xef\xbb\xbf" + BODY, ("byte order mark before MSH",)),
        ("blank before MSH", b"\r\n" + BODY, ("blank lines or framing bytes before MSH",)),
        ("no CR on the last segment", BODY[:-1], ("the last segment does not end in CR",)),
        ("a line without a name", BODY + b"Zeile\r", ("a line does not begin with a segment name; it is left out",)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_hl7_v2_5_2_segment_ends(tolerance, raw, notes):
    message = read(raw)
    assert _one(message, "PID-5.1") == "Testfrau"
    assert [s.name for s in message.segments if s.name] == ["MSH", "PID"]
    assert message.notes == notes


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_hl7_mllp_utf_16_and_utf_32_are_refused_since_they_hold_framing_bytes(codec):
    with pytest.raises(BadInput, match=r"UTF-16 and UTF-32 cannot be framed by MLLP") as refused:
        read(BODY.decode().encode(codec))
    assert (refused.value.code, refused.value.where) == (100, "MSH")


@pytest.mark.parametrize(
    ("given", "noted"), [("^~", True), ("^~\\", True), ("^~\\&", False), ("^~\\&#", False), ("!*?+", False)]
)
def test_hl7_v2_5_4_delimiters_of_two_to_five_characters(given, noted):
    c, r, e, s = (given + "^~\\&"[len(given) :])[:4]
    raw = f"MSH|{given}|HIS||||20260419||ADT{c}A08|1|P|2.7\rPID|1||47{r}11||von{s}Test{e}F{e}frau{c}Erika\r"
    message = read(raw.encode())
    assert [f.value for f in message.find("PID-3.1")] == ["47", "11"]
    assert (_one(message, "PID-5.1.2"), _one(message, "PID-5.2")) == ("Test|frau", "Erika")
    assert message.notes == (("MSH-2 is short; the default characters are used",) if noted else ())


@pytest.mark.parametrize("separator", ["|", "$", "^", "#"])
def test_hl7_v2_5_4_the_field_separator_is_the_fourth_byte(separator):
    encoding = "!*?+"
    raw = f"MSH|{encoding}|HIS||||20260419||ADT!A08|1|P|2.5\rPID|1||4711\r".replace("|", separator)
    assert _one(read(raw.encode()), "PID-3") == "4711"


@pytest.mark.parametrize("head", [b"MSH|^^\\&|", b"MSH|~~|", b"MSH^^~\\&^", b"MSH|^|", b"MSH|^~\\&#!|"])
def test_hl7_v2_5_4_doubled_or_unusable_delimiters_are_refused(head):
    with pytest.raises(BadInput) as refused:
        read(head + b"HIS\r")
    assert (refused.value.code, refused.value.where) == (100, "MSH")


@pytest.mark.parametrize(
    ("declares", "codec", "noted"),
    [
        (b"UNICODE UTF-8", "utf-8", ""),
        (b"utf-8", "utf-8", ""),
        (b"UTF8", "utf-8", ""),
        (b"8859/1", "cp1252", ""),
        (b"ISO-8859-1", "cp1252", ""),
        (b"CP1250", "cp1250", ""),
        (b"8859/15", "utf-8", "MSH-18 names an 8-bit set, the text is UTF-8"),
        (b"", "utf-8", "MSH-18 is empty and the text is not ASCII: read as UTF-8"),
        (b"", "cp1252", "MSH-18 is empty and the text is not ASCII: read as cp1252"),
        (b"ASCII", "cp1252", "the text is not of the set that MSH-18 names: read as cp1252"),
        (b"CAN", "utf-8", "MSH-18 names an unknown character set: read as UTF-8"),
        (b"20260419100000", "cp1252", "MSH-18 names an unknown character set: read as cp1252"),
        (b"UNICODE UTF-8", "cp1252", "the text is not of the set that MSH-18 names: read as cp1252"),
        (b"UNICODE UTF-16", "utf-8", "UTF-16 or UTF-32, which MLLP cannot carry and the text is not: read as UTF-8"),
    ],
)
def test_hl7_v2_15_9_18_declared_then_utf_8_then_the_sites_set(declares, codec, noted):
    message = read(_body(declares, "Müller".encode(codec)))
    assert (_one(message, "PID-5.1"), message.text_encoding) == ("Müller", codec)
    assert [note[-len(noted) :] for note in message.notes] == ([noted] if noted else [])


def test_hl7_v2_15_9_18_a_byte_that_the_declared_set_leaves_undefined_costs_no_other():
    message = read(_body(b"WINDOWS-1251", "Иван".encode("cp1251") + b"\x98"))
    assert _one(message, "PID-5.1") == "Иван\x98"
    assert message.notes == ("some bytes are not of the set that MSH-18 names",)


@pytest.mark.parametrize(("fallback", "text"), [("cp1250", "Žižka"), ("cp1251", "Иван"), ("cp932", "髙橋")])
def test_hl7_v2_15_9_18_the_fallback_is_the_listeners(fallback, text):
    message = read(_body(b"", text.encode(fallback)), fallback_charset=fallback)
    assert _one(message, "PID-5.1") == text
    assert message.notes == (f"MSH-18 is empty and the text is not ASCII: read as {fallback}",)


def test_hl7_v2_15_9_18_8859_1_is_read_as_the_code_page_that_senders_mean():
    assert _one(read(_body(b"8859/1", b"\x8aimek \x9e")), "PID-5.1") == "Šimek ž"


@pytest.mark.parametrize(
    ("declares", "name", "noted"),
    [
        (b"~ISO IR87", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", False),
        (b"~ISO IR87", b"\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", False),
        (b"ISO IR14~ISO IR87", b"\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", False),
        (b"", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", True),
    ],
)
def test_hl7_v2_15_9_18_repeats_are_the_sets_that_escape_sequences_switch_to(declares, name, noted):
    message = read(_body(declares, name + b"~\x1b(BRoman"))
    assert [f.value for f in message.find("PID-5.1")] == ["山田", "Roman"]
    assert [f.value for f in message.find("PID-5.2")] == ["太郎"]
    assert message.notes == (("escape sequences of ISO 2022 to sets that MSH-18 does not name",) if noted else ())


SETS = (b"ISO IR14", b"ISO IR14~ISO IR87", b"~KS X 1001", b"KS X 1001", b"CNS 11643-1992", b"BIG-5", b"8859/1~8859/5")
SEVEN_BIT = (b"\x1b(ITO", b"\x1b$B;3ED\x1b(J", b"\x1b$(CH+", b"\x1b$)C\x0eH+\x0f", b"\x1b$A!!|", b"\x0e\x1bN!!")


@pytest.mark.parametrize(
    ("sets", "sent"), [*((sets, sent) for sets in SETS for sent in SEVEN_BIT), (SETS[-1], b"\x1b-L\xb8")]
)
def test_hl7_v2_15_9_18_escape_sequences_in_msh_never_cost_the_header(sets, sent):
    raw = MSH.replace(b"HIS", sent) + b"||||||" + sets + b"\rPID|1||4711\r"
    if b"|" not in sent:
        assert read_header(raw).control_id == "MSG-1"
    assert _one(read(raw), "PID-3") == "4711"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (rb"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (rb"\H\fett\N\ mager", "fett mager"),
        (rb"eins\.br\zwei\.sp2\drei", "eins\nzwei\n\ndrei"),
        (rb"a\.in4\b\.ti2\c", "a    b  c"),
        (rb"M\XC3BC\ller", "Müller"),
        (rb"M\XC3\\XBC\ller", "Müller"),
        (rb"4\5 re. rest", "4\\5 re. rest"),
        (rb"ohne Ende\F", "ohne Ende\\F"),
        (rb"\Q\ bleibt", "\\Q\\ bleibt"),
        (rb"\Z12\ \C2842\ \M244042\ ", "\\Z12\\ \\C2842\\ \\M244042\\"),
        (rb"\E\.br\E\ ", "\\.br\\"),
        (rb"\P\ ", "\\P\\"),
    ],
)
def test_hl7_v2_7_escapes_are_read_once_after_splitting(sent, meant):
    raw = MSH + b"||||||UNICODE UTF-8\rNTE|1||" + sent + b"^next\r"
    message = read(raw)
    assert _one(message, "NTE-3.1") == meant
    assert _one(message, "NTE-3.2") == "next"
    assert message.raw == raw  # what is kept is what was sent


def test_hl7_v2_7_what_is_echoed_is_escaped_in_the_senders_delimiters():
    delimiters = read_header(b"MSH$!*?+$HIS\r").delimiters
    assert escape("a$b!c*d?e+f|", delimiters) == "a?F?b?S?c?R?d?E?e?T?f|"


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        (b'""', "PID-5", [Found("", "PID-5", null=True)]),
        (b'""', "PID-5.2", [Found("", "PID-5.2", null=True)]),
        (b'Smith^""', "PID-5.2", [Found("", "PID-5.2", null=True)]),
        (b'Smith^""', "PID-5.1", [Found("Smith", "PID-5.1")]),
        (b'Smith&""^', "PID-5.1.2", [Found("", "PID-5.1.2", null=True)]),
        (b"Smith^", "PID-5.2", []),
        (b"", "PID-5", []),
        (b'"', "PID-5", [Found('"', "PID-5")]),
        (b'""x', "PID-5", [Found('""x', "PID-5")]),
    ],
)
def test_hl7_v2_5_3_null_deletes_and_empty_says_nothing(name, address, expected):
    assert read(_body(b"", name)).find(address) == expected


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("2026", datetime(2025, 12, 31, 23, tzinfo=UTC)),
        ("202604", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("20260419", datetime(2026, 4, 18, 22, tzinfo=UTC)),
        ("2026041910", datetime(2026, 4, 19, 8, tzinfo=UTC)),
        ("202604191030", datetime(2026, 4, 19, 8, 30, tzinfo=UTC)),
        ("20260119103045", datetime(2026, 1, 19, 9, 30, 45, tzinfo=UTC)),
        ("20260419103045.1234", datetime(2026, 4, 19, 8, 30, 45, 123_400, tzinfo=UTC)),
        ("20260419103045-0500", datetime(2026, 4, 19, 15, 30, 45, tzinfo=UTC)),
        ("20260419103045+05:30", datetime(2026, 4, 19, 5, 0, 45, tzinfo=UTC)),
        ("20260419103045Z", datetime(2026, 4, 19, 10, 30, 45, tzinfo=UTC)),
        ("20261025023000", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # the hour comes twice: the first
        ("00000000", None),
        ("gestern", None),
    ],
)
def test_hl7_v2_a_22_moments_in_the_sites_zone_or_their_own(sent, moment):
    assert moment_of(sent, "Europe/Berlin") == moment


def test_hl7_v2_a_22_second_60_is_a_moment():
    assert moment_of("20260419103060Z", "UTC") is not None


@pytest.mark.parametrize(
    ("sent", "day"),
    [
        ("19700101", date(1970, 1, 1)),
        ("19700101233000-0800", date(1970, 1, 1)),
        ("197001012330", date(1970, 1, 1)),
        ("1970-01-01", date(1970, 1, 1)),
        ("1970", None),
        ("197001", None),
        ("1970-0330", None),
        ("00000000", None),
    ],
)
def test_hl7_v2_a_22_a_birth_date_is_never_shifted_and_never_made_up(sent, day):
    assert date_of(sent) == day


@pytest.mark.parametrize(
    ("tolerance", "raw", "notes"),
    [
        ("none", b"BHS|^~\\&|HIS\r" + BODY + BODY + b"BTS|2\r", ()),
        (
            "count mismatch",
            b"BHS|^~\\&\r" + BODY + BODY + b"BTS|3\r",
            ("BTS-1 does not agree with the 2 messages found",),
        ),
        ("no trailer", b"BHS|^~\\&|HIS\r" + BODY + BODY, ()),
        ("no header", BODY + BODY, ("several messages without a batch header",)),
        ("byte order mark", b"\xef\xbb\xbfBHS|\r" + BODY + BODY, ("byte order mark before the batch",)),
        ("LF", (b"BHS|^~\\&\r" + BODY + BODY + b"BTS|2\r").replace(b"\r", b"\n"), ()),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_hl7_v2_10_3_batches(tolerance, raw, notes):
    assert batch.is_batch(raw)
    found = batch.split(raw)
    assert found.notes == notes
    assert [_one(read(one), "PID-5.1") for one in found.messages] == ["Testfrau", "Testfrau"]


@pytest.mark.parametrize(
    "raw",
    [BODY.replace(b"\r", b"\n"), _body(b"CAN", "Testfräu".encode()), BODY + b"Testfrau\r", b"\xef\xbb\xbf" + BODY[:-1]],
)
def test_no_note_holds_a_value(raw):
    message = read(raw)
    assert message.notes
    assert not any(value in note for note in message.notes for value in ("Test", "4711", "CAN", "MSG-1"))
