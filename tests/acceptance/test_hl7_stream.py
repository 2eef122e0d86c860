"""A stream as a bad line delivers it: cut and joined anywhere, with junk between its frames (hl7.md §6, F1).

`BRIDGE_STREAM=10000 make test ARGS=tests/acceptance/test_hl7_stream.py` sends as many messages.
"""

import asyncio
import os
from random import Random

import pytest

from bridge.formats.hl7.mllp import encode
from bridge.settings import host_port
from bridge.store import listing
from tests.acceptance.scene import OpenHouse

COUNT = int(os.environ.get("BRIDGE_STREAM", "3000"))
PATIENTS = 500
JUNK = (b"", b"", b"\n", b"\r\n", b"\x00\x00", b"keep-alive\r\n", b"\x1c\r")


def update(number: int) -> bytes:
    """An ADT^A08."""
    patient = f"{number % PATIENTS:05}"
    head = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ADT^A08|M{number}|P|2.5\rEVN|A08\r"
    return f"{head}PID|1||{patient}^^^TEST^MR||Muster^Max||19700131|M\r".encode()


@pytest.mark.timeout(600)  # as many commits; a shared machine does 150 in a second
async def test_f1_messages_cut_and_joined_at_random_with_junk_between_are_each_answered_once_in_order(
    house: OpenHouse,
) -> None:
    random = Random(4711)
    bodies = [update(number) for number in range(COUNT)]
    framed = (random.choice((encode(b), encode(b)[:-1], b"\x0b" + encode(b), encode(b) + b"\x1c\r")) for b in bodies)
    stream = b"".join(random.choice(JUNK) + frame for frame in framed)
    async with house(BRIDGE_HL7__REPLY_BUDGET="60") as it:
        reader, writer = await asyncio.open_connection(*host_port(it.up.addresses["hl7"]))

        async def send() -> None:
            at = 0
            while at < len(stream):
                size = random.choice((1, 3, 40, 700, 65_536))
                writer.write(stream[at : at + size])
                at += size
                await writer.drain()
                await asyncio.sleep(0)  # the listener reads what is there before it is joined by the next piece
            writer.write_eof()

        sending = asyncio.create_task(send())
        received = await reader.read()
        await sending
        writer.close()
        assert answered(received) == [("AA", f"M{number}") for number in range(COUNT)]
        rows = await it.up.store.read(lambda conn: listing.rows(conn, limit=2 * COUNT))
        assert sorted(r.control_id for r in rows) == sorted(f"M{number}" for number in range(COUNT))
        assert {(r.state, r.reason) for r in rows} == {("DONE", "patient_record")}


def answered(received: bytes) -> list[tuple[str, str]]:
    """MSA-1 and MSA-2 of each frame; one that is none fails the test."""
    frames = received.split(b"\x1c\r")
    assert frames.pop() == b""
    told = []
    for frame in frames:
        assert frame.startswith(b"\x0bMSH|")
        _, code, control_id, *_ = frame.split(b"\r")[1].split(b"|")
        told.append((code.decode(), control_id.decode()))
    return told
