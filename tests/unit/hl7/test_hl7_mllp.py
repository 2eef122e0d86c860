"""Framing: the same bytes give the same frames, however the network cuts them."""

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.formats.hl7.mllp import (
    BETWEEN,
    DOUBLED_FS,
    DOUBLED_VT,
    JUNK,
    NO_CR,
    UNFINISHED,
    Frame,
    FrameDecoder,
    Garbage,
    TooLong,
    encode,
)

BODY = b"MSH|^~\\&|HIS\rPID|1\r"


@pytest.mark.parametrize(
    ("name", "stream", "expected"),
    [
        ("one frame", encode(BODY), [Frame(BODY)]),
        ("pipelined", encode(BODY) * 3, [Frame(BODY)] * 3),
        ("no CR after FS", b"\x0b" + BODY + b"\x1c", [Frame(BODY)]),
        ("no CR, next frame at once", b"\x0bA\x1c\x0bB\x1c\r", [Frame(b"A"), Frame(b"B", (NO_CR,))]),
        ("doubled VT", b"\x0b\x0b" + BODY + b"\x1c\r", [Frame(BODY, (DOUBLED_VT,))]),
        ("doubled FS", b"\x0b" + BODY + b"\x1c\x1c\r", [Frame(BODY)]),
        ("junk before VT", b"hello" + encode(BODY), [Frame(BODY, (JUNK,))]),
        (
            "CR LF NUL between",
            encode(b"A") + b"\r\n\x00\n" * 999 + encode(b"B"),
            [Frame(b"A"), Frame(b"B", (BETWEEN,))],
        ),
        ("LF after FS", b"\x0bA\x1c\n\x0bB\x1c\n", [Frame(b"A"), Frame(b"B", (BETWEEN, NO_CR))]),
        ("a second CR", encode(b"A") + b"\r" + encode(b"B"), [Frame(b"A"), Frame(b"B", (BETWEEN,))]),
        ("CR first", b"\r" + encode(b"A"), [Frame(b"A", (BETWEEN,))]),
        ("doubled FS, next", b"\x0bA\x1c\x1c\r" + encode(b"B"), [Frame(b"A"), Frame(b"B", (DOUBLED_FS,))]),
        ("doubled end, next", b"\x0bA\x1c\r\x1c\r" + encode(b"B"), [Frame(b"A"), Frame(b"B", (DOUBLED_FS,))]),
        ("begun anew", b"\x0bMSH|^~\\&|1\rPID|1||X\r" + encode(BODY), [Frame(BODY, (UNFINISHED,))]),
        ("begun anew twice", b"\x0bMSH|1\r\x0b\x0bMSH|2\r" + encode(b"BHS|"), [Frame(b"BHS|", (UNFINISHED,))]),
        ("a note is of one frame", b"x" + encode(b"A") + encode(b"B"), [Frame(b"A", (JUNK,)), Frame(b"B")]),
        ("BOM is the reader's", encode(b"\xef\xbb\xbf" + BODY), [Frame(b"\xef\xbb\xbf" + BODY)]),
        ("empty frame", b"\x0b\x1c\r", [Frame(b"")]),
        ("VT inside is kept", b"\x0bA\x0bB\x1c\r", [Frame(b"A\x0bB")]),
        (
            "FS ends at once, the rest is junk",
            b"\x0bA\x1cB\x1c\r" + encode(b"C"),
            [Frame(b"A"), Frame(b"C", (JUNK, DOUBLED_FS, NO_CR))],
        ),
        ("not yet complete", b"\x0bMSH|", []),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_hl7_mllp_framing_and_its_tolerances(name, stream, expected):
    assert FrameDecoder().feed(stream) == expected
    one_by_one = FrameDecoder()
    assert [e for i in range(len(stream)) for e in one_by_one.feed(stream[i : i + 1])] == expected


def test_mid_frame_is_true_only_between_vt_and_fs():
    decoder = FrameDecoder()
    seen = []
    for piece in (b"\r\n", b"\x0b", b"MSH|", b"\x1c", b"\r"):
        decoder.feed(piece)
        seen.append(decoder.mid_frame)
    assert seen == [False, True, True, False, False]


@pytest.mark.parametrize(("size", "expected"), [(10, Frame(b"x" * 10)), (11, TooLong(11)), (10_000, TooLong(10_000))])
def test_failures_4_frame_limit_at_and_over_it(size, expected):
    decoder = FrameDecoder(limit=10)
    assert decoder.feed(encode(b"x" * size) + encode(b"next")) == [expected, Frame(b"next")]


def test_failures_4_an_over_long_frame_is_drained_without_being_kept():
    decoder = FrameDecoder(limit=1000)
    events = list(decoder.feed(b"\x0b"))
    for _ in range(500):
        events += decoder.feed(b"x" * 1000)
        assert len(decoder._body) <= 1000
    assert events == []
    assert decoder.feed(b"\x1c\r") == [TooLong(500_000)]


@pytest.mark.parametrize(("junk", "expected"), [(1024, []), (1025, [Garbage(1025)]), (9000, [Garbage(1025)])])
def test_failures_4_garbage_limit_at_and_over_it(junk, expected):
    decoder = FrameDecoder()
    assert decoder.feed(b"G" * junk) == expected
    assert decoder.feed(b"G" * 10) == ([Garbage(1025)] if junk == 1024 else [])


def test_garbage_is_counted_since_the_last_frame():
    decoder = FrameDecoder()
    for _ in range(5):
        assert decoder.feed(b"G" * 1000 + encode(b"A")) == [Frame(b"A", (JUNK,))]


def test_decoding_is_linear_in_one_byte_pieces_and_in_one_piece():
    stream = encode(b"y" * 300_000)
    start = time.process_time()
    decoder = FrameDecoder()
    for i in range(len(stream)):
        decoder.feed(stream[i : i + 1])
    assert FrameDecoder().feed(encode(b"z" * 9_000_000))
    assert time.process_time() - start < 3


pieces = st.one_of(
    st.binary(max_size=30).map(encode),
    st.binary(max_size=30),
    st.sampled_from(
        [b"\x0b", b"\x1c", b"\r", b"\r\n", b"\x00", b"\x0b\x0bMSH|\x1c\x1c\r", b"\x0bMSH|", encode(b"q" * 60)]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=12).map(b"".join), st.data())
def test_a_stream_cut_at_random_points_yields_the_same_frames(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    whole, cut = FrameDecoder(limit=40, garbage_limit=20), FrameDecoder(limit=40, garbage_limit=20)
    expected = whole.feed(stream)
    got = [e for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for e in cut.feed(stream[a:b])]
    assert got == expected
    assert cut.mid_frame == whole.mid_frame


def test_10_000_messages_cut_and_joined_at_random_with_junk_between_come_out_once_in_order():
    random = Random(7)
    junk = (b"", b"", b"\n", b"\r\n", b"\x00\x00", b"keep-alive\r\n", b"\x1c\r")
    bodies = [b"MSH|^~\\&|HIS||||||ADT^A08|%d|P|2.5\rPID|1||%d\r" % (n, n * 7) for n in range(10_000)]
    frames = (random.choice(junk) + random.choice((encode(b), encode(b)[:-1], b"\x0b" + encode(b))) for b in bodies)
    stream = b"".join(frames)
    whole = FrameDecoder().feed(stream)
    decoder, events, at = FrameDecoder(), [], 0
    start = time.process_time()
    while at < len(stream):
        size = random.choice((1, 3, 40, 700, 65_536))
        events += decoder.feed(stream[at : at + size])
        at += size
    assert time.process_time() - start < 3  # 0.1 s where nobody else uses the processor
    assert [event.body for event in events] == bodies
    assert events == whole
    assert {note for event in events for note in event.notes} == {BETWEEN, DOUBLED_FS, DOUBLED_VT, JUNK, NO_CR}


def test_f28_megabytes_of_vt_and_of_begun_frames_are_linear():
    for hostile in (b"\x0b" * 5_000_000, b"a" + b"\x0b" * 5_000_000, b"\x0bMSH|" * 1_000_000):
        start = time.process_time()
        assert len(FrameDecoder().feed(b"\x0b" + hostile + b"\x1c\r")) == 1
        assert time.process_time() - start < 3


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\x1c", b"").lstrip(b"\x0b")), max_size=5))
def test_what_is_encoded_is_decoded(bodies):
    assert FrameDecoder().feed(b"".join(map(encode, bodies))) == [Frame(b) for b in bodies]
