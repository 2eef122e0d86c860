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
