"""A peer that is gone before its answer is there, on the event loop that the service runs on (F8)."""

import asyncio
import socket
import struct
from typing import Any, cast

import pytest
import structlog
import uvloop

from bridge.receive.intake import Answer, Envelope, Hl7Intake
from bridge.receive.mllp_server import MllpServer
from bridge.settings import host_port, load


class Waiting:
    """An intake that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.taken = asyncio.Event()

    async def accept(self, _: Envelope) -> Answer:
        self.taken.set()
        await self.go.wait()
        return Answer(b"MSH|^~\\&|||||||ACK|A1|P|2.5\rMSA|AA|C1\r")


@pytest.mark.parametrize("reset", [True, False])
def test_f8_an_answer_to_a_peer_that_is_gone_ends_its_connection_and_is_no_fault_of_ours(reset: bool) -> None:
    async def lost() -> list[Any]:
        intake = Waiting()
        settings = load(None, {"BRIDGE_HL7__LISTEN": "127.0.0.1:0"}).hl7
        server = MllpServer(cast("Hl7Intake", intake), settings)
        address = host_port(await server.start())
        with structlog.testing.capture_logs() as logged:
            with socket.create_connection(address) as peer:
                peer.sendall(b"\x0bMSH|^~\\&|HIS\r\x1c\r")
                await asyncio.wait_for(intake.taken.wait(), 10)
                if reset:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with asyncio.timeout(10):
                while reset and not logged:  # noqa: ASYNC110  the reset is seen, and is no event of ours
                    await asyncio.sleep(0.01)
            intake.go.set()
            await server.stop()
        return cast("list[Any]", logged)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        logged = runner.run(lost())
    assert {entry["event"] for entry in logged} <= {"connection.failed"}
    assert all(entry["log_level"] == "info" for entry in logged)
