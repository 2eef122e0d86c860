"""A message that went through a browser's text field comes out as its sender sent it."""

from pathlib import Path

import pytest

from bridge.formats.hl7.charset import decode
from bridge.formats.hl7.reader import read_header
from bridge.rehearsal.dry_run import is_object, unframed
from bridge.rehearsal.pasted import as_sent

SAMPLES = sorted(Path("sample_messages").glob("*.hl7"))


def browsed(text: str) -> str:
    """What a form sends of it: every line end is CRLF (WHATWG HTML §4.10.22.4)."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def text_of(body: bytes) -> str:
    charsets = () if body.startswith((b"FHS", b"BHS")) else read_header(body).charsets
    return decode(body, charsets).text


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_comes_back_byte_for_byte(sample: Path) -> None:
    body = sample.read_bytes().replace(b"\n", b"\r")  # one of them ends its segments in LF
    assert as_sent(browsed(text_of(body))) == body


@pytest.mark.parametrize(
    ("declared", "name", "codec"),
    [("8859/1", "Müller", "latin-1"), ("UNICODE UTF-8", "Müller", "utf-8"), ("ISO IR87", "山田", "iso2022_jp"),
     ("8859/5", "Иванов", "iso8859-5"), ("8859/1", "山田", "utf-8"), ("", "Müller", "utf-8")],
)  # fmt: skip
def test_the_set_is_the_one_that_msh_18_names_where_it_holds_every_character(
    declared: str, name: str, codec: str
) -> None:
    message = f"MSH|^~\\&|HIS|TEST|||20260301||ADT^A08|1|P|2.5||||||{declared}\rPID|1||4711||{name}\r"
    assert as_sent(browsed(message)) == message.encode(codec)


def test_a_line_feed_in_a_text_stays_one() -> None:
    message = "MSH|^~\\&|HIS\rOBX|1|TX|||one\ntwo\n\nthree|\rZZZ\r"
    assert as_sent(browsed(message)).decode() == message


def test_blank_lines_between_segments_stay_blank_lines() -> None:
    message = "MSH|^~\\&|HIS\r\r\rPID|1\r\r"
    assert as_sent(browsed(message)).decode() == message


def test_f28_ten_million_line_ends_cost_one_pass() -> None:
    assert as_sent("MSH|" + "\r\n" * 5_000_000 + "x") == b"MSH|" + b"\n" * 5_000_000 + b"x"


@pytest.mark.parametrize("around", [(b"\x0b", b"\x1c\r"), (b"\x0b", b"\x1c\r\n"), (b"", b"\x1c"), (b"", b"")])
def test_mllp_s_bytes_are_left_behind_and_the_last_segment_keeps_its_end(around: tuple[bytes, bytes]) -> None:
    assert unframed(around[0] + b"MSH|1\rPID|1\r" + around[1]) == b"MSH|1\rPID|1\r"


def test_f28_ten_million_framing_bytes_cost_one_pass() -> None:
    assert unframed(b"\x1c" * 10_000_000 + b"x" + b"\x1c\r" * 1_000_000) == b"x"


def test_an_object_is_told_from_a_message_by_its_first_bytes() -> None:
    assert is_object(bytes(128) + b"DICM")
    assert is_object(b"\x08\x00\x05\x00")
    assert not is_object(b"MSH|^~\\&|\xfc")
