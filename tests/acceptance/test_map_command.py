"""`bridge map` shows the very answer that the bridge gives: each message is mapped, sent, and compared."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import root
from bridge.formats.hl7.charset import readable
from bridge.formats.hl7.mllp import encode
from bridge.settings import host_port
from tests.acceptance.receiver import receiving
from tests.acceptance.scene import House, OpenHouse
from tests.interface.situations import SITUATIONS, always_the_same, message, order, pid

STORY = [body for s in SITUATIONS if s.listener == "hl7" and not s.fault for body in s.messages]
LATIN_1 = message("ORM^O01", "M1", pid("4720", "Müller^Jörg"), *order("NW", "M1"), rest="||||||8859/1")
UNDECLARED = LATIN_1.replace(b"|M1|", b"|M2|").replace(b"M1^HIS", b"M2^HIS").replace(b"||||||8859/1", b"")
ODD = (
    LATIN_1.decode().replace("|HIS|", "|HÄS|").encode("cp1252"),
    UNDECLARED.decode().replace("|HIS|", "|HÄS|").encode("cp1252"),
    b"\xef\xbb\xbf" + message("ADT^A08", "M3", "EVN|A08", pid("4720")).replace(b"\r", b"\n"),
    message("ADT^A08", "M4", "EVN|A08", pid("4720"), rest="|7||NE|NE"),
    message("ADT^A08", "M5", "EVN|A08", pid("4720"), rest="|||AL|ER"),
    message("ADT^A60", "M6", pid("4720"), rest="|||ER|NE"),
    b"MSH|^^\r",
    b"MSH" + b"x" * 20_000,
)
ACKNOWLEDGEMENT = message("ACK", "M7", "MSA|AA|1")


def mapped(tmp_path: Path, bodies: list[bytes], settings: dict[str, str]) -> list[dict[str, Any]]:
    """What the command prints for these files, one after the other."""
    files = []
    for number, body in enumerate(bodies):
        files.append(tmp_path / f"{number:03}.hl7")
        files[-1].write_bytes(body)
    (tmp_path / "empty.toml").write_text("")
    ran = CliRunner().invoke(
        root, ["map", "--json", "--config", str(tmp_path / "empty.toml"), *map(str, files)], env=settings
    )
    assert ran.exit_code == 0, ran.output
    shown: list[dict[str, Any]] = json.loads(ran.output)
    return shown


async def answer(it: House, body: bytes) -> str:
    """What comes back; empty where nothing does, and an order that is answered goes ahead of it."""
    reader, writer = await asyncio.open_connection(*host_port(it.up.addresses["hl7"]))
    writer.write(encode(body))
    writer.write_eof()  # a listener that owes nothing closes
    async with asyncio.timeout(20):
        received = await reader.read()
    writer.close()
    return readable(received.strip(b"\x0b\x1c\r") + b"\r") if received else ""


@pytest.mark.parametrize(
    "rules",
    [{}, {"ACK_MODE": "auto"}, {"ACK_MODE": "auto", "RETURN": ""}, {"ACK_MODE": "enhanced"}, {"ORDER_RESPONSE": "ack"}],
    ids=lambda rules: "-".join(f"{k}={v}".lower() for k, v in rules.items()) or "original",
)
async def test_what_map_shows_is_what_the_sender_gets(house: OpenHouse, tmp_path: Path, rules: dict[str, str]) -> None:
    bodies = [*STORY, *ODD, ACKNOWLEDGEMENT]
    async with receiving() as his:
        own = {f"BRIDGE_HL7__{k}": v for k, v in rules.items() if k != "RETURN"} | {"BRIDGE_HL7__MAX_FRAME": "20000"}
        if "ACK_MODE" in rules and "RETURN" not in rules:
            own["BRIDGE_HL7__RETURN_ADDRESS"] = his.address
        async with house(BRIDGE_HL7__REPLY_BUDGET="60", **own) as it:
            shown = await asyncio.to_thread(mapped, tmp_path, bodies, it.environment)
            for body, one in zip(bodies, shown, strict=True):
                assert always_the_same(one["answer"]) == always_the_same(await answer(it, body)), body[:200]
    assert sum(bool(one["answer"]) for one in shown) > 40


def test_map_writes_nothing_and_counts_the_files_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = mapped(tmp_path, [message("ORM^O01", n, pid("1"), *order(n, "A1")) for n in ("NW", "CA")], {})
    assert [one["answer"].split("\r")[2].split("|")[1] for one in shown] == ["OK", "UC"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000.hl7", "001.hl7", "empty.toml"]


def test_map_of_an_order_behind_a_held_move_says_that_it_waits(tmp_path: Path) -> None:
    moved = message("ADT^A43", "M1", "EVN|A43", pid("4711"), "MRG|4712^^^TEST^MR")
    shown = mapped(tmp_path, [moved, message("ORM^O01", "M2", pid("4711"), *order("NW", "A1"))], {})
    assert [(one["state"], one["reason"]) for one in shown] == [("HELD", "move_needs_a_person"), ("READY", "")]
    assert "MSA|AA|M2|accepted, task pending" in shown[1]["answer"]


def test_map_of_a_batch_with_bytes_of_no_text_shows_its_answer(tmp_path: Path) -> None:
    one = message("ORM^O01", "B1", pid("4711"), *order("NW", "A1"))
    shown = mapped(tmp_path, [b"FHS|^~\\&|H\xc3|X\rBHS|^~\\&|H|X\r" + one + b"BTS|1\rFTS|1\r"], {})
    assert "MSA|AA|B1|task=4711" in shown[0]["answer"]


def test_map_takes_the_rules_of_the_first_listener_s_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[fields.device_id]\nconstant = "OWN"\n')
    shown = mapped(tmp_path, [STORY[0]], {"BRIDGE_HL7__MAPPING": f"{tmp_path}/own.toml"})
    assert shown[0]["tasks"][0]["task"]["device_id"] == "OWN"


def test_map_of_a_frame_as_it_was_captured_says_what_it_says_of_the_message(tmp_path: Path) -> None:
    bare, framed = (mapped(tmp_path, [body], {})[0] for body in (STORY[0], encode(STORY[0])))
    assert {**framed, "answer": ""} == {**bare, "answer": ""}
    assert always_the_same(framed["answer"]) == always_the_same(bare["answer"])


def test_map_prints_the_task_its_traces_and_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "order.hl7"
    file.write_bytes(STORY[0])
    (tmp_path / "empty.toml").write_text("")
    ran = CliRunner().invoke(root, ["map", "--config", str(tmp_path / "empty.toml"), str(file)])
    assert ran.exit_code == 0
    assert "state   CREATED" in ran.output
    assert "ORC|OK|A1^HIS|4711^CARDIO" in ran.output
    assert [line for line in ran.output.splitlines() if "patient_birth_date" in line and "PID-7" in line]


def written(tmp_path: Path) -> Callable[[str, bytes], str]:
    def write(name: str, body: bytes) -> str:
        (tmp_path / name).write_bytes(body)
        return str(tmp_path / name)

    return write


def test_lint_names_segment_and_field_in_words_for_the_vendor_and_exits_1_on_an_error(tmp_path: Path) -> None:
    file = written(tmp_path)
    bad = message("ORM^O01", "1", "PID|1||4711||Muster^Max||1970-01-31", *order("NW", "A1"), "ZDS|1", "IPC|1|2|3|4")
    ran = CliRunner().invoke(root, ["lint", file("bad.hl7", bad)])
    assert ran.exit_code == 1
    lines = [line.split(None, 2) for line in ran.output.splitlines()[1:]]
    assert ["error", "PID[1]-7.1", "no valid DTM"] in lines
    assert ["error", "IPC[1]", "not in ORM_O01 of version 2.5.1; a strict receiver drops it"] in lines
    assert ["info", "ZDS[1]", "a segment of the site's own"] in lines
    assert "Muster" not in ran.output.replace(str(tmp_path), "")


def test_lint_of_a_good_message_has_nothing_to_report(tmp_path: Path) -> None:
    good = message("ORM^O01^ORM_O01", "1", pid("4711"), "ORC|NW|A1^HIS", "OBR|1|A1^HIS||93000^ECG^C4")
    ran = CliRunner().invoke(root, ["lint", written(tmp_path)("good.hl7", good)])
    assert (ran.exit_code, "nothing to report" in ran.output) == (0, True)
