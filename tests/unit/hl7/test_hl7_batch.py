"""Batches in one frame (HL7 v2.5.1 §2.10.3)."""

from datetime import UTC, datetime

import pytest

from bridge.formats.hl7.batch import batch_answer, is_batch, split

NOW = datetime(2026, 4, 19, 8, 0, tzinfo=UTC)
M1 = b"MSH|^~\\&|HIS||||1||ADT^A08|1|P|2.5\rPID|1||A\r"
M2 = b"MSH|^~\\&|HIS||||1||ADT^A08|2|P|2.5\rPID|1||B\r"
FHS = b"FHS|^~\\&|HIS|KH|BRIDGE|CARDIO|20260101||F||F-1\r"
BHS = b"BHS|^~\\&|HIS|KH|BRIDGE|CARDIO|20260101||B||B-1\r"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (M1, False),
        (b"", False),
        (b"junk", False),
        (M1 + b"NTE|1||the text MSH|^ inside\r", False),
        (BHS + M1 + b"BTS|1\r", True),
        (FHS + BHS + M1 + b"BTS|1\rFTS|1\r", True),
        (b"\xef\xbb\xbf" + BHS + M1, True),
        (b"\r\n" + BHS + M1, True),
        (M1 + M2, True),
        (M1.replace(b"\r", b"\n") + M2, True),
    ],
)
def test_is_batch(raw, expected):
    assert is_batch(raw) is expected


@pytest.mark.parametrize(
    ("name", "raw", "messages", "notes"),
    [
        ("plain", BHS + M1 + M2 + b"BTS|2\r", [M1, M2], 0),
        ("with file", FHS + BHS + M1 + M2 + b"BTS|2\rFTS|1\r", [M1, M2], 0),
        ("two batches", FHS + BHS + M1 + b"BTS|1\r" + BHS + M2 + b"BTS|1\rFTS|2\r", [M1, M2], 0),
        ("BTS-1 too high", BHS + M1 + b"BTS|3\r", [M1], 1),
        ("BTS-1 empty", BHS + M1 + b"BTS\r", [M1], 0),
        ("BTS-1 no number", BHS + M1 + b"BTS|x\r", [M1], 1),
        ("FTS-1 wrong", FHS + BHS + M1 + b"BTS|1\rFTS|4\r", [M1], 1),
        ("no trailer", BHS + M1, [M1], 0),
        ("empty", BHS + b"BTS|0\r", [], 0),
        ("no header", M1 + M2, [M1, M2], 1),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_hl7_v2_10_3_messages_in_order_and_counts_checked(name, raw, messages, notes):
    found = split(raw)
    assert found.messages == messages
    assert len(found.notes) == notes


def test_segments_outside_a_message_are_not_joined_to_another_patients():
    found = split(BHS + M1 + BHS + b"PID|1||X\rPV1|1\r" + b"BTS|1\r")
    assert found.messages == [M1, b"PID|1||X\rPV1|1\r"]
    assert found.notes == ("segments outside a message",)


def test_hl7_v2_15_2_the_answer_is_a_batch_with_sides_swapped():
    batch = split(FHS + BHS + M1 + M2 + b"BTS|2\rFTS|1\r")
    assert batch.header == FHS + BHS
    acks = [b"MSH|^~\\&|A\rMSA|AA|1\r", b"MSH|^~\\&|A\rMSA|AA|2\r"]
    answer = batch_answer(batch, acks, "CB1", NOW)
    assert answer.split(b"\r") == [
        b"FHS|^~\\&|BRIDGE|CARDIO|HIS|KH|20260419080000+0000||||CB1|F-1",
        b"BHS|^~\\&|BRIDGE|CARDIO|HIS|KH|20260419080000+0000||||CB1|B-1",
        *b"".join(acks).split(b"\r")[:-1],
        b"BTS|2",
        b"FTS|1",
        b"",
    ]
    assert split(answer).messages == acks
    assert split(answer).notes == ()


def test_the_senders_delimiters_are_kept_and_a_missing_header_is_made():
    other = split(b"BHS@~&#\\@A@B@C@D@1@@@@7\r" + M1)
    assert batch_answer(other, [], "X", NOW).startswith(b"BHS@~&#\\@C@D@A@B@20260419080000+0000@@@@X@7\rBTS@0\r")
    made = batch_answer(split(M1 + M2), [M1, M2], "X", NOW)
    assert made.startswith(b"BHS|^~\\&|||||20260419080000+0000||||X\r")
    assert made.endswith(b"BTS|2\r")


FILE = FHS + BHS + M1 + b"BTS|1\rFTS|1\r"


@pytest.mark.parametrize(
    ("name", "raw", "count", "notes"),
    [
        ("BTS left out between batches", BHS + M1 + BHS + M2 + b"BTS|1\r", 2, ()),
        ("BTS left out, counted together", BHS + M1 + BHS + M2 + b"BTS|2\r", 2, ()),
        ("no BTS at all", FHS + BHS + M1 + BHS + M2 + b"FTS|2\r", 2, ()),
        ("a file without BHS", FHS + M1 + M2 + b"FTS|1\r", 2, ()),
        ("a file without BHS, counted as none", FHS + M1 + M2 + b"FTS|0\r", 2, ()),
        ("two files", FILE + FILE, 2, ()),
        ("one trailer too many", BHS + M1 + b"BTS|1\rBTS|1\r", 1, ("BTS-1 does not agree with the 0 messages found",)),
        ("byte order mark", b"\xef\xbb\xbf" + BHS + M1, 1, ("byte order mark before the batch",)),
        ("framing", b"\x0b" + FILE + b"\x1c\r", 1, None),
        ("BTS-1 with spaces", BHS + M1 + b"BTS| 1 |note\r", 1, ()),
        ("BTS-1 no ASCII", BHS + M1 + b"BTS|\xb2\r", 1, ("BTS-1 does not agree with the 1 messages found",)),
        ("a trailer of its own delimiter", b"BHS$^~\\&$HIS\r" + M1 + b"BTS$1\r", 1, ()),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_hl7_v2_10_3_counts_are_those_of_their_own_batch_and_file(name, raw, count, notes):
    found = split(raw)
    assert len(found.messages) == count
    if notes is None:
        notes = ("blank lines or framing bytes before the batch", "framing bytes after the batch")
    assert found.notes == notes


@pytest.mark.parametrize("line", [b"MSH: siehe oben", b"MSH (3 Tage)", b"BTS - Schellong", b"FTS: nein", b"BHS + Echo"])
def test_hl7_v2_10_3_a_line_of_a_text_is_no_header(line):
    message = b"MSH|^~\\&|HIS||||1||ORU^R01|1|P|2.5\nPID|1||A\nNTE|1||one\n" + line + b"\ntwo\n"
    assert not is_batch(message)
    found = split(BHS.replace(b"\r", b"\n") + message + b"BTS|1\n")
    assert found.messages == [message]
    assert found.notes == ()


def test_hl7_v2_10_3_a_broken_header_after_cr_still_ends_the_message_before_it():
    found = split(BHS + M1 + b"MSH\rPID|1||B\rBTS|2\r")
    assert found.messages == [M1, b"MSH\rPID|1||B\r"]


def test_hl7_v2_10_3_a_broken_header_after_lf_still_ends_the_message_before_it():
    lines = M1.replace(b"\r", b"\n")
    found = split(lines + b"MSH|HIS|KH\nPID|1||B\n")
    assert found.messages == [lines, b"MSH|HIS|KH\nPID|1||B\r"]


@pytest.mark.parametrize(
    "header", [b"BHS\r", b"BHS|\r", b"BHS \r", b"BHS\x00^~\r", b"BHS\xfc^\r", b"FHS\r", b"FHS\rBHS\r"]
)
def test_hl7_v2_15_2_a_header_without_delimiters_is_answered_with_the_default_ones(header):
    batch = split(header + M1)
    assert batch.messages == [M1]
    answer = batch_answer(batch, [M1], "X", NOW)
    assert answer[3:].startswith(b"|^~\\&|||||20260419080000+0000||||X")
    assert split(answer).messages == [M1]
    assert split(answer).notes == ()


def test_hl7_v2_15_2_file_and_batch_header_keep_each_its_own_delimiters():
    batch = split(b"FHS$%*!?$A$B$C$D$1$$$$F1\r" + b"BHS@~&#\\@A@B@C@D@1@@@@B1\r" + M1 + b"BTS@1\rFTS$1\r")
    assert batch.notes == ()
    assert batch_answer(batch, [M1], "X", NOW).split(M1) == [
        b"FHS$%*!?$C$D$A$B$20260419080000+0000$$$$X$F1\rBHS@~&#\\@C@D@A@B@20260419080000+0000@@@@X@B1\r",
        b"BTS@1\rFTS$1\r",
    ]
