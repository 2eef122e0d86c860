"""Hostile messages: limits at them and one past, time that grows with the bytes, memory that does not (F28)."""

import contextlib
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadInput
from bridge.formats.hl7 import batch, charset, iso2022
from bridge.formats.hl7.limits import check

HEADER = b"MSH|^~\\&|HIS||||||ADT^A08|1|P|2.5\rPID|1||1||Testfrau^Erika\r"
HEADER_LF = HEADER.replace(b"\r", b"\n")


def _check(body, *, segments=2000, fields=500, repetitions=500, separator="|", repetition="~"):
    if isinstance(body, bytes):
        separator, repetition = separator.encode(), repetition.encode()
    check(
        body,
        field_separator=separator,
        repetition=repetition,
        max_segments=segments,
        max_fields=fields,
        max_repetitions=repetitions,
    )


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize(
    ("at_limit", "over", "said", "where", "code"),
    [
        (b"NTE|1\r" * 1998, b"NTE|1\r" * 1999, "more than 2000 segments (hl7.max_segments)", "NTE", 100),
        (b"NTE|1\n" * 1998, b"NTE|1\n" * 1999, "more than 2000 segments (hl7.max_segments)", "NTE", 100),
        (b"NTE|1\r\n" * 1998, b"NTE|1\r\n" * 1999, "more than 2000 segments (hl7.max_segments)", "NTE", 100),
        (b"ZZZ\r" * 1998, b"ZZZ\r" * 1999, "more than 2000 segments (hl7.max_segments)", "ZZZ", 100),
        (b"x\r" * 1998, b"x\r" * 1999, "more than 2000 segments (hl7.max_segments)", "MSH", 100),
        (b"OBX" + b"|" * 500, b"OBX" + b"|" * 501, "segment 3 has more than 500 fields (hl7.max_fields)", "OBX", 102),
        (
            b"OBX|1|" + b"~" * 499 + b"|~",
            b"OBX|1|" + b"~" * 500,
            "field 2 of segment 3 has more than 500 repetitions (hl7.max_repetitions)",
            "OBX",
            102,
        ),
    ],
)
def test_failures_4_a_limit_is_kept_at_it_and_named_one_past(at_limit, over, said, where, code, text):
    header = HEADER_LF if over.endswith(b"\n") and b"\r" not in over else HEADER
    _check((header + at_limit).decode() if text else header + at_limit)
    with pytest.raises(BadInput) as refused:
        _check((header + over).decode() if text else header + over)
    assert (str(refused.value), refused.value.where, refused.value.code) == (said, where, code)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("blank lines", HEADER + b"\r" * 5000 + b"PV1|1\r" + b"\n" * 5000 + b"\r\n" * 5000),
        ("blank lines before MSH", b"\r\n" * 5000 + HEADER),
        ("lines of a text", HEADER_LF + b"NTE|1||" + b"a line of text\n" * 5000),
        ("words that begin like a segment", HEADER_LF + b"NTE|1||" + b"EKG folgt\nSEEN\n" * 3000),
        ("fields of many segments", HEADER + b"OBX|1|NM|||5||||||\r" * 1000),
        ("repetitions of many fields", HEADER + (b"OBX" + b"|~~~~~~~~" * 90 + b"\r") * 50),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_failures_4_what_is_honest_is_not_counted_against_a_limit(name, body):
    _check(body)


def test_failures_4_the_repetition_character_in_msh_2_repeats_nothing():
    _check(b"MSH|^~\\&|HIS\r", repetitions=1)
    with pytest.raises(BadInput, match="field 3 of segment 1"):
        _check(b"MSH|^~\\&|HIS~HIS\r", repetitions=1)


def test_failures_4_counted_by_the_messages_own_delimiters():
    body = b"MSH$%*!?$HIS\r" + b"ZZZ|" + b"|~" * 900 + b"\r"
    _check(body, separator="$", repetition="*")
    with pytest.raises(BadInput, match="repetitions"):
        _check(body + b"ZZZ$" + b"*" * 500, separator="$", repetition="*")


@pytest.mark.parametrize(("set_name", "character"), [("BIG-5", "育"), ("ISO IR14", "ポ"), ("GB 18030-2000", "亅")])
def test_hl7_0211_second_bytes_of_characters_are_no_delimiters_in_text(set_name, character):
    codec = charset.declared((set_name,))
    assert not charset.splits_in_bytes(codec)
    body = HEADER + b"NTE|1||" + (character * 600).encode(codec) + b"\r"
    assert body.count(b"|") + body.count(b"~") > 600  # counted in bytes it would be refused
    _check(charset.decode(body, (set_name,)).text)


def test_f28_a_refusal_names_no_value():
    with pytest.raises(BadInput) as refused:
        _check(HEADER + b"Testfrau" + b"|" * 600)
    assert "Test" not in str(refused.value) + refused.value.where


HOSTILE = {
    "a segment of 10 MB": lambda n: HEADER + b"NTE|1||" + b"x" * (10 * n) + b"\r",
    "repetitions": lambda n: HEADER + b"NTE|1||" + b"~" * n + b"\r",
    "fields": lambda n: HEADER + b"NTE" + b"|" * n + b"\r",
    "full fields": lambda n: HEADER + (b"NTE" + (b"|" + b"~" * 499) * 499 + b"\r") * (n // 250_000 + 1),
    "blank lines": lambda n: HEADER + b"\r" * n,
    "blank lines of LF": lambda n: HEADER + b"\n" * n,
    "blank lines of CRLF": lambda n: HEADER + b"\r\n" * n,
    "empty segments": lambda n: HEADER + b"ZZZ\r" * n,
    "empty segments of LF": lambda n: HEADER + b"ZZZ\n" * n,
    "lines that are no segments": lambda n: HEADER + b"z\n" * n,
    "almost segments": lambda n: HEADER + b"ZZ\n" * n,
}


def _seconds(body):
    best = 10.0
    for _ in range(3):
        start = time.process_time()
        with contextlib.suppress(BadInput):
            _check(body)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("name", HOSTILE)
def test_f28_limits_are_checked_in_linear_time_and_in_no_memory(name):
    small, large = HOSTILE[name](250_000), HOSTILE[name](1_000_000)
    tracemalloc.start()
    with contextlib.suppress(BadInput):
        _check(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    # Four times the bytes; sixteen times the time would be quadratic. Below 5 ms the clock decides, not the code.
    assert _seconds(large) < 10 * max(_seconds(small), 0.005)


@pytest.mark.parametrize("count", [b"ZZZ\r", b"\r", b"\n", b"ZZZ\n"])
def test_f28_100_000_empty_segments_are_checked_in_a_tenth_of_a_second(count):
    assert _seconds(HEADER + count * 100_000) < 0.1  # 1 to 4 ms where nobody else uses the processor


@pytest.mark.parametrize("hostile", [b"BTS|1\r", b"MSH|\r", b"MSH|^~\\&\n", b"BHS|\r", b"FTS\n", b"\r", b"\n", b"BHSx"])
def test_f28_a_frame_full_of_batch_segments_is_bounded(hostile):
    raw = b"BHS|^~\\&|HIS\r" + HEADER + hostile * (2_000_000 // len(hostile)) + HEADER
    start = time.process_time()
    assert batch.is_batch(raw)
    found = batch.split(raw)
    assert time.process_time() - start < 3
    assert len(found.messages) <= 50_001
    assert len(found.notes) <= 10
    assert sum(map(len, found.messages)) <= len(raw)


@pytest.mark.parametrize(
    "escape", [b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x0e", b"\x1bN!!", b"\x1b$B!", b"\x1b", b"\x1b$"]
)
def test_f28_a_megabyte_of_escape_sequences_is_linear(escape):
    raw = escape * (1_000_000 // len(escape))
    start = time.process_time()
    charset.decode(raw, ("ISO IR6", "ISO IR87", "KS X 1001"))
    assert time.process_time() - start < 3


@given(st.binary(max_size=80), st.lists(st.sampled_from(["ascii", "ir14", "ir87", "ir159", "ksx", "cns", "8859-5"])))
def test_hl7_0211_any_bytes_are_read_as_iso_2022_or_refused_by_the_codecs_error(raw, sets):
    try:
        text = iso2022.decode(raw, sets)
    except UnicodeDecodeError:
        return
    iso2022.encode(text, sets, "replace")
