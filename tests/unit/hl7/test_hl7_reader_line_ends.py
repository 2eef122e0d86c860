"""Line ends, second headers and odd escapes: what the reader once let through."""

import pytest

from bridge.errors import BadInput
from bridge.formats.hl7.reader import read
from bridge.mapping.times import moment_of, odd

HEAD = "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000||ADT^A08|C1|P|2.5"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\n\n"])
def test_hl7_6_a_second_header_is_refused_whatever_the_line_ends(end: str) -> None:
    body = end.join([HEAD, "PID|1||4711", HEAD.replace("C1", "C2"), "PID|1||4712", ""])
    with pytest.raises(BadInput) as refused:
        read(body.encode())
    assert refused.value.where == "MSH[2]"


def test_hl7_6_line_feeds_and_blank_lines_inside_a_text_stay_in_it() -> None:
    message = read((HEAD + "\rNTE|1||one\n\ntwo\rNTE|2||three\r").encode())
    assert [f.value for f in message.find("NTE-3")] == ["one\n\ntwo", "three"]


def test_hl7_6_a_million_line_feeds_are_one_pass() -> None:
    message = read((HEAD + "\n" * 1_000_000 + "PID|1||4711").encode())
    assert [f.value for f in message.find("PID-3")] == ["4711"]
    assert "blank lines" in message.notes


@pytest.mark.parametrize(("text", "noted"), [(r"4\5 re", True), (r"a\T\b", False), (r"\.br\\H\x\N\ ", False)])
def test_hl7_6_a_lone_escape_is_noted(text: str, noted: bool) -> None:
    message = read((HEAD + f"\rNTE|1||{text}\r").encode())
    assert ("a lone or unknown escape; it stays as it was" in message.notes) is noted


def test_hl7_6_times_that_are_tolerated_are_noted() -> None:
    midnight = moment_of("202604192400", "Europe/Berlin")
    assert midnight == moment_of("20260420", "Europe/Berlin")
    assert moment_of("20260419240000+0200", "UTC") == midnight
    assert odd("202604192400", "UTC").startswith("24:00")
    assert odd("20260419115960", "UTC").startswith("second 60")
    assert odd("00000000", "UTC").startswith("zeros")
    assert odd("20261325023000", "UTC").startswith("not a date")
    assert odd("20261025023000", "Europe/Berlin").startswith("an hour that comes twice")
    assert odd("20261025023000+01:00", "Europe/Berlin").startswith("an offset")
    assert odd("20260419120000+0200", "UTC") == odd("20260419", "UTC") == ""
