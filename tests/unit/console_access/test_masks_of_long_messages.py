"""Masks of a message of any length stay short: what a viewer asks for must not cost what an order waits for (F28)."""

from bridge.console.access.hl7_masks import DOTS, MOST, masked_text

HEAD = "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ORM^O01|C1|P|2.3.1\rPID|1||4711||Muster^Max\r"


def test_f28_the_masks_of_millions_of_values_are_no_longer_than_those_of_what_is_shown() -> None:
    row = "|".join("^".join("a" for _ in range(390)) for _ in range(6))
    text = HEAD + "".join(f"OBX|{number}|TX|{row}\r" for number in range(1500))
    masked = masked_text(text)
    assert masked is not None
    assert len(masked) < MOST * (len(DOTS) + 2)
    assert masked.endswith(f"\r{DOTS}"), "it says that there is more"


def test_one_long_value_is_one_mask_and_what_is_behind_it_is_masked_whole() -> None:
    masked = masked_text(f"{HEAD}OBX|1|ED|x||{'A' * 2 * MOST}|Muster|Max\rORC|NW|PL-1\r")
    assert masked is not None
    assert masked.split("\r")[2:] == [f"OBX|1|ED|{DOTS}||{DOTS}{DOTS}", DOTS]


def test_a_message_that_fits_is_masked_as_ever() -> None:
    masked = masked_text(f"{HEAD}ORC|NW|PL-1^HIS\r")
    assert masked == f"{HEAD}".replace("1||4711||Muster^Max", f"{DOTS}||{DOTS}||{DOTS}^{DOTS}") + "ORC|NW|PL-1^HIS"
