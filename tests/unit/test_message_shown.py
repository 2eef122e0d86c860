"""What `messages show` prints of what was received."""

from bridge.cli.message_shown import _text


def test_a_name_reads_as_its_sender_wrote_it() -> None:
    assert _text("PID|1||||M\xc3\xbcster^\xce\x93\r") == "PID|1||||Müster^Γ"
    assert _text("PID|1||||M\xfcster\r\r") == "PID|1||||Müster"
