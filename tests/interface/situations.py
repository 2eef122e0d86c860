"""A bridge that is up, and every situation that its answers know: what was said is what the page shows.

Times and MSH-10 of our own are another at each run; on the page they are always the same.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.app import Running, running
from bridge.formats.hl7.mllp import encode
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.settings import host_port, load
from tests.acceptance.receiver import Receiver, acknowledge, receiving
from tests.acceptance.talk import Said
from tests.interface.page import block, code, table

_TIME = "20260914061502+0000"
_OURS = "CB5F0A61D3C27E9B84"
_FRAME_END = b"\x1c\r"

Pair = tuple[str, str]


@dataclass(frozen=True)
class Situation:
    """Messages that come one after the other; the answer to the last one is shown.

    `key` is its setting in `codes`; `fault` is played by the API for the last message; `name` marks an example.
    """

    words: str  # empty: an example alone, no line of the table
    messages: tuple[bytes, ...]
    key: str = ""
    listener: str = "hl7"
    fault: str = ""
    name: str = ""


@dataclass
class Seen:
    """What a run came to: every situation with its answer, and what came to the return address."""

    answers: list[tuple[Situation, str]] = field(default_factory=list)
    later: list[str] = field(default_factory=list)

    def example(self, name: str) -> Pair:
        """The message and the answer of a named situation."""
        return next((_text(s.messages[-1]), answer) for s, answer in self.answers if s.name == name)


def message(kind: str, number: str, *segments: str, version: str = "2.5.1", msh_11: str = "P", rest: str = "") -> bytes:
    """A message of an invented hospital."""
    head = f"MSH|^~\\&|HIS|KH|CARDIO|BRIDGE|20260914081500+0200||{kind}|{number}|{msh_11}|{version}{rest}"
    return "\r".join([head, *segments, ""]).encode()


def pid(patient: str, person: str = "Muster^Max||19700131|M") -> str:
    """PID of an invented patient."""
    return f"PID|1||{patient}^^^KH^MR||{person}"


def order(control: str, number: str, *, reason: str = "", filler: str = "") -> tuple[str, str]:
    """ORC and OBR."""
    own = f"{number}^HIS" if number else ""
    return (
        f"ORC|{control}|{own}|{filler}",
        f"OBR|1|{own}|{filler}|93000^12-lead ECG^C4|||||||||{reason}|||||{number and 'ACC-' + number}",
    )


def _orm(number: str, patient: str, *orders: Sequence[str]) -> bytes:
    return message("ORM^O01", number, pid(patient), *(segment for one in orders for segment in one))


_FIRST = _orm("1001", "4711", order("NW", "A1", reason="chest pain"))
_A40 = message("ADT^A40", "1101", "EVN|A40", pid("4711"), "MRG|4712^^^KH^MR")
_BATCH = b"".join(
    (
        b"BHS|^~\\&|HIS|KH|CARDIO|BRIDGE|20260914081500+0200||||B1\r",
        message("ADT^A04", "1201", "EVN|A04", pid("4718")),
        _orm("1202", "4718", order("NW", "A18")),
        b"BTS|2\r",
    )
)
_OMI = message(
    "OMI^O23^OMI_O23",
    "1203",
    pid("4718"),
    "ORC|NW|A19^HIS",
    "OBR|1|A19^HIS||11524-6^EKG study^LN",
    "IPC|ACC-A19^HIS|RP-A19^HIS|1.2.3.19|SPS-A19^HIS|ECG",
)

SITUATIONS = (
    Situation("the order's task is made", (_FIRST,), name="order"),
    Situation("the same message again (MSH-10 and content)", (_FIRST,), name="again"),
    Situation("the same order in another message", (_orm("1002", "4711", order("NW", "A1", reason="chest pain")),)),
    Situation("a patient event is taken", (message("ADT^A04", "1003", "EVN|A04", pid("4711")),), name="event"),
    Situation(
        "several orders, one of them refused",
        (_orm("1004", "4711", order("NW", "A2"), order("AF", "A3")),),
        name="partial",
    ),
    Situation(
        "ORC-3 was filled by the sender: it stays, the id is in OBR-21",
        (_orm("1005", "4711", order("NW", "A4", filler="F4^LAB")),),
        name="filler",
    ),
    Situation(
        "the task is not there in time, or the service is known to be down",
        (_orm("1006", "4711", order("NW", "A5")),),
        listener="hl7.late",
        fault="late",
        name="late",
    ),
    Situation("a number is asked for", (_orm("1007", "4711", order("SN", "")),), name="number"),
    Situation("a change, the task is made already", (_orm("1008", "4711", order("XO", "A1", reason="syncope")),)),
    Situation("a cancel, the task is made already", (_orm("1009", "4711", order("CA", "A1")),), name="cancel"),
    Situation("the status is asked for", (_orm("1010", "4711", order("SS", "A2")),)),
    Situation(
        "an order that was cancelled before it came",
        (_orm("1011", "4711", order("CA", "A6")), _orm("1012", "4711", order("NW", "A6"))),
    ),
    Situation("not an ECG order (`order_filter`)", (_orm("1013", "4711", order("NW", "A7")),), listener="hl7.filter"),
    Situation(
        "kept, and a person must look",
        (
            _A40,
            message("ORM^O01", "1014", pid("4712", "Andere^Anna||19991231|F"), *order("NW", "A8")),
        ),
    ),
    Situation(
        "a code that its table does not have: left out",
        (message("ORM^O01", "1015", pid("4713", "Muster^Max||19700131|Q"), *order("NW", "A9")),),
        key="unknown_code",
    ),
    Situation(
        "a value that cannot be: left out",
        (message("ORM^O01", "1016", pid("4713", "Muster^Max||19700231|M"), *order("NW", "A10")),),
        key="bad_value",
        name="warning",
    ),
    Situation(
        "no version, or an unknown one: read as 2.5",
        (message("ADT^A08", "1017", "EVN|A08", pid("4713"), version="9.9"),),
        key="unknown_version",
    ),
    Situation(
        "no patient identifier",
        (message("ORM^O01", "1018", "PID|1||||Muster^Max", *order("NW", "A11")),),
        key="missing_field",
        name="refused",
    ),
    Situation("no order number", (_orm("1019", "4711", order("NW", "")),), key="missing_field"),
    Situation("neither ORC nor OBR", (_orm("1020", "4711"),), key="missing_field"),
    Situation("ORC-1 is not handled", (_orm("1021", "4711", order("AF", "A12")),), key="unknown_control"),
    Situation("no such order", (_orm("1022", "4711", order("HD", "A13")),), key="unknown_order"),
    Situation("the order is another patient's", (_orm("1023", "4713", order("CA", "A2")),), key="unknown_order"),
    Situation("the number was used otherwise", (_orm("1024", "4713", order("NW", "A2")),), key="duplicate_order"),
    Situation(
        "the Cardio API refuses the order",
        (_orm("1025", "4713", order("NW", "A14")),),
        key="api_refused",
        fault="refused",
        name="api",
    ),
    Situation("a merge, also a second time", (_A40, _A40.replace(b"|1101|", b"|1102|"))),
    Situation(
        "a merge that would make a circle, or goes against an earlier one",
        (message("ADT^A40", "1026", "EVN|A40", pid("4712"), "MRG|4711^^^KH^MR"),),
        key="refused_patient",
    ),
    Situation(
        "MRG has no identifier of a trusted authority that PID-3 has too",
        (message("ADT^A40", "1027", "EVN|A40", pid("4711"), "MRG|4714^^^ELSEWHERE^MR"),),
        key="missing_field",
    ),
    Situation(
        "a patient or visit is to be deleted",
        (message("ADT^A29", "1028", "EVN|A29", pid("4713")),),
        key="refused_patient",
    ),
    Situation("a move: a person must look", (message("ADT^A43", "1029", "EVN|A43", pid("4715"), "MRG|4716^^^KH^MR"),)),
    Situation("another type", (message("MDM^T02", "1030", pid("4711")),), key="unsupported_type"),
    Situation("another event", (message("ADT^A60", "1031", pid("4711")),), key="unsupported_event"),
    Situation(
        "a test message on a production port",
        (message("ADT^A08", "1032", "EVN|A08", pid("4711"), msh_11="T"),),
        key="processing_id",
    ),
    Situation("more than `max_segments`", (message("ADT^A08", "1033", pid("4711"), *["NTE|1"] * 2000),)),
    Situation(
        "an order message with several patients",
        (message("ORM^O01", "1034", pid("4711"), *order("NW", "A15"), pid("4713"), *order("NW", "A16")),),
    ),
    Situation("no MSH, or an MSH-1 or MSH-2 that cannot be used", (b"PID|1||4711\r",), name="header"),
    Situation("a frame over `max_frame`; the connection ends", (b"MSH" + b"x" * 2000,), listener="hl7.small"),
    Situation("", (_BATCH,), name="batch"),
    Situation("", (_OMI,), name="omi"),
    Situation("", (_A40,), name="merge"),
    Situation(
        "enhanced mode: the message is in safe storage",
        (message("ORM^O01", "1035", pid("4717"), *order("NW", "A17"), rest="|||AL|AL"),),
        listener="hl7.enhanced",
        name="enhanced",
    ),
    Situation(
        "enhanced mode: a type that is not taken",
        (message("MDM^T02", "1036", pid("4711"), rest="|||AL|AL"),),
        key="unsupported_type",
        listener="hl7.enhanced",
    ),
)
_FAULTS: dict[str, dict[str, Any]] = {"late": {"kind": "latency", "seconds": 1.0}, "refused": {"kind": "400"}}
NO_ROOM = Situation(
    "no room, or the store is not there: nothing was kept",
    (message("ADT^A08", "1037", "EVN|A08", pid("4711")),),
    key="not_kept",
)


async def run(folder: Path) -> Seen:
    """Play every situation, one after the other."""
    seen = Seen()
    async with receiving(lambda told, _: acknowledge(told, "CA" if "|AL|NE" in told else "AA")) as his:
        async with _bridge(folder / "one", his) as (up, api):
            for situation in SITUATIONS:
                for body in situation.messages[:-1]:
                    await _say(up, situation.listener, body)
                if situation.fault:
                    api.faults.add(on="tasks", times=1, **_FAULTS[situation.fault])
                seen.answers.append((situation, await _say(up, situation.listener, situation.messages[-1])))
                if situation.fault == "late":
                    await his.until(1)  # the task is made before anything else is asked
            await his.until(2)
        async with _bridge(folder / "two", his, BRIDGE_STORE__MIN_FREE="1000000 TiB") as (up, _):
            seen.answers.append((NO_ROOM, await _say(up, "hl7", NO_ROOM.messages[-1])))
    seen.later = [always_the_same(told) for told in dict.fromkeys(his.taken)]
    return seen


@contextlib.asynccontextmanager
async def _bridge(folder: Path, his: Receiver, **more: str) -> AsyncIterator[tuple[Running, Sandbox]]:
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    rules = (
        'name = "filter", order_filter = ["93224"]',
        f'name = "late", reply_budget = 0.2, return_address = "{his.address}"',
        'name = "small", max_frame = 1000',
        f'name = "enhanced", ack_mode = "enhanced", return_address = "{his.address}"',
    )
    listeners = ", ".join(f'{{listen = "127.0.0.1:0", {rule}}}' for rule in rules)
    sock = open_socket("127.0.0.1", 0, setting="sandbox")
    async with serving(api.application(), sock) as address:
        values = {
            "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
            "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
            "BRIDGE_STORE__MIN_FREE": "1 MiB",
            "BRIDGE_HL7__LISTEN": "127.0.0.1:0",
            "BRIDGE_HL7__REPLY_BUDGET": "60",
            "BRIDGE_HL7__LISTENERS": f"[{listeners}]",
            "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
            "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
            "BRIDGE_CARDIO__BASE_URL": f"http://{address}",
            "BRIDGE_CARDIO__ORGANIZATION_PATH": "test-hospital",
            "BRIDGE_CARDIO__TOKEN": "test-token",
            **more,
        }
        async with running(load(None, values)) as up:
            yield up, api


async def _say(up: Running, listener: str, body: bytes) -> str:
    reader, writer = await asyncio.open_connection(*host_port(up.addresses[listener]))
    try:
        writer.write(encode(body))
        async with asyncio.timeout(10):
            answer = await reader.readuntil(_FRAME_END)
    finally:
        writer.close()
        await writer.wait_closed()
    return always_the_same(answer.strip(b"\x0b\x1c\r").decode() + "\r")


def always_the_same(text: str) -> str:
    """An answer with the time and the MSH-10 that every answer has on the page."""
    text = re.sub(r"\bCB[0-9A-F]{16}\b", _OURS, text)
    return re.sub(r"(?<=\|)\d{14}\+0000(?=\|)", _TIME, text)


def _text(body: bytes) -> str:
    return body.decode()


def answers(seen: Seen) -> str:
    """The table of situations."""
    rows = []
    for situation, answer in ((s, a) for s, a in seen.answers if s.words):
        said = Said(answer)
        number, place, severity = said.error
        error = f"{number} {place}".strip() + (f", {severity}" if severity == "W" else "")
        controls = ", ".join(said.get("ORC", 1, n) for n in range(said.count("ORC")))
        rows.append(
            (situation.words, code(said.code), code(error), code(controls), said.get("MSA", 3), code(situation.key))
        )
    return table(("situation", "MSA-1", "ERR-3, ERR-2", "ORC-1", "MSA-3", "`codes` key"), rows)


def examples(seen: Seen) -> dict[str, str]:
    """Each named example: the message, then its answer."""
    made = {}
    for situation, _ in seen.answers:
        if situation.name:
            sent, answer = seen.example(situation.name)
            made[f"example-{situation.name}"] = block(sent) + "\n" + block(answer)
    late, apart = seen.later
    return {**made, "example-told-later": block(late), "example-apart": block(apart)}
