"""A hospital system that speaks to one bridge with several listeners, one case after the other."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from bridge.app import Running
from bridge.formats.hl7.charset import readable
from bridge.formats.hl7.mllp import encode
from bridge.sandbox import mllp_sender
from bridge.sandbox.cardio_api import Sandbox
from bridge.settings import host_port
from bridge.store import anomalies, listing
from tests.acceptance.receiver import Receiver

_COUNT = itertools.count(1)
PERSON = "Muster^Max||19700131|M"


@dataclass
class Said:
    """An answer, by segments and fields; `text` as it was sent."""

    text: str
    control_id: str = ""
    lines: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = [line.split("|") for line in self.text.split("\r") if line]

    def get(self, segment: str, number: int, nth: int = 0) -> str:
        """Field `number` of the nth such segment; empty where there is none."""
        found = [line for line in self.lines if line[0] == segment]
        place = number - 1 if segment == "MSH" else number
        return found[nth][place] if nth < len(found) and place < len(found[nth]) else ""

    def count(self, segment: str) -> int:
        """How many such segments there are."""
        return sum(line[0] == segment for line in self.lines)

    @property
    def code(self) -> str:
        return self.get("MSA", 1)

    @property
    def error(self) -> tuple[str, str, str]:
        """Code, place and severity of the first ERR, in both its forms."""
        if self.get("ERR", 1):
            place, _, code = self.get("ERR", 1).rpartition("^")
            return code.split("&")[0], place, ""
        return self.get("ERR", 3).split("^")[0], self.get("ERR", 2), self.get("ERR", 4)


@dataclass
class Talk:
    """`say` sends one message and gives its answer."""

    up: Running
    sandbox: Sandbox
    his: Receiver

    async def raw(self, body: bytes, listener: str = "hl7") -> bytes:
        """Bytes as they are; what comes back."""
        return await mllp_sender.send(*host_port(self.up.addresses[listener]), body, timeout=10)

    async def say(
        self,
        kind: str,
        *segments: str,
        version: str = "2.5.1",
        msh_7: str = "20260301120000+0100",
        msh_11: str = "P",
        rest: str = "",
        control_id: str = "",
        listener: str = "hl7",
        sender: str = "HIS|TEST",
    ) -> Said:
        """One message; `rest` is MSH-13 and what follows."""
        number = control_id or f"C{next(_COUNT)}"
        head = f"MSH|^~\\&|{sender}|CARDIO|BRIDGE|{msh_7}||{kind}|{number}|{msh_11}|{version}{rest}"
        answer = await self.raw("\r".join([head, *segments, ""]).encode(), listener)
        return Said(readable(answer), number)

    async def until(self, there: Callable[[sa.Connection], bool]) -> None:
        """Wait until the store shows it, ten seconds at the most."""
        async with asyncio.timeout(10):
            while not await self.up.store.read(there):  # noqa: ASYNC110  it is no event of ours
                await asyncio.sleep(0.02)

    def new(self) -> tuple[str, str]:
        """A patient and an order number that nobody had before."""
        number = next(_COUNT)
        return f"P{number}", f"PL-{number}"

    async def row(self, control_id: str) -> listing.Row:
        """The message in the list."""
        rows = await self.up.store.read(lambda conn: listing.rows(conn, control_id=control_id))
        return rows[0]


def pid(patient: str, rest: str = PERSON) -> str:
    """A PID segment."""
    return f"PID|1||{patient}^^^TEST^MR||{rest}"


def order(control: str, number: str, *, reason: str = "", status: str = "", filler: str = "") -> tuple[str, str]:
    """ORC and OBR."""
    own = f"{number}^HIS" if number else ""
    return (
        f"ORC|{control}|{own}|{filler}||{status}||^^^20260301^^R",
        f"OBR|1|{own}|{filler}|93000^12-lead ECG^CPT|||||||||{reason}|||||ACC{number}",
    )


async def unchecked(talk: Talk, body: bytes) -> bytes:
    """The answer to a frame whose MSH-10 the sender's own check cannot read."""
    reader, writer = await asyncio.open_connection(*host_port(talk.up.addresses["hl7"]))
    try:
        writer.write(encode(body))
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\x1c\r")
    finally:
        writer.close()
        await writer.wait_closed()
    return answer


async def told_about(talk: Talk, own: str) -> str:
    """The message about this order that came to the return address."""

    def mine() -> list[str]:
        return [m for m in talk.his.taken if f"|{own}^HIS|" in m]

    async with asyncio.timeout(10), talk.his.arrived:
        await talk.his.arrived.wait_for(lambda: bool(mine()))
    return mine()[0]


def every_row(conn: sa.Connection) -> list[listing.Row]:
    return listing.rows(conn, limit=10_000)


def anomalies_of(conn: sa.Connection, message_id: str) -> list[str]:
    return [a.reason for a in anomalies.of_message(conn, int(message_id))]
