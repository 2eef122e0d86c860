"""A bridge that is up, and invented messages to send to it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.app import Running
from bridge.dispatch.cardio.client import CardioClient
from bridge.domain.outcome import Outcome
from bridge.domain.states import SETTLED
from bridge.formats.hl7.charset import readable
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.sandbox.cardio_api import Sandbox
from bridge.settings import host_port
from bridge.store import listing


@dataclass
class House:
    """A bridge that is up, the API that it feeds, and hands to send with."""

    up: Running
    sandbox: Sandbox
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    async def hl7(self, text: str | bytes) -> str:
        """Send one message over MLLP; its answer."""
        body = text.encode() if isinstance(text, str) else text
        host, port = host_port(self.up.addresses["hl7"])
        return readable(await mllp_sender.send(host, port, body))

    async def store(self, path: Path, calling: str = "TESTCART") -> int:
        """Store one object; the status."""
        host, port = host_port(self.up.addresses["dicom"])
        stored = await asyncio.to_thread(dicom_sender.store, host, port, [path], calling=calling)
        return stored[0]

    async def messages(self) -> list[listing.Row]:
        """Every message, oldest first."""
        return list(reversed(await self.up.store.read(lambda conn: listing.rows(conn, limit=1000))))

    async def settled(self, count: int, seconds: float = 20) -> list[listing.Row]:
        """Wait until that many messages are there and nothing more happens to them."""
        return await self.until(lambda rows: len(rows) >= count and all(r.state in SETTLED for r in rows), seconds)

    async def until(self, done: Callable[[list[listing.Row]], bool], seconds: float = 20) -> list[listing.Row]:
        """Wait for a condition over the messages; fails with what is there."""
        deadline = time.monotonic() + seconds
        while True:
            rows = await self.messages()
            if done(rows):
                return rows
            if time.monotonic() > deadline:
                pytest.fail(f"not reached: {[(r.id, r.state, r.reason) for r in rows]}")
            await asyncio.sleep(0.02)

    async def show(self, message_id: str) -> dict[str, Any]:
        """Everything of a message."""
        found = await self.up.store.read(lambda conn: listing.whole(conn, int(message_id)))
        assert found is not None
        return found


def on_loopback(folder: Path) -> dict[str, str]:
    """A bridge's payloads in this folder, little room that it keeps free, and its doors, wherever there is a port."""
    return {
        "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
        "BRIDGE_STORE__BALLAST": "64 KiB",
        "BRIDGE_HL7__LISTEN": "127.0.0.1:0",
        "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
        "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
    }


def surroundings(folder: Path, base_url: str) -> dict[str, str]:
    """What a bridge on loopback is told, but for its store: everything of it is in this folder."""
    return {
        **on_loopback(folder),
        "BRIDGE_SITE__TIME_ZONE": "Europe/Berlin",
        "BRIDGE_CONSOLE__SIGN_IN": "false",
        "BRIDGE_CARDIO__BASE_URL": base_url,
        "BRIDGE_CARDIO__ORGANIZATION_PATH": "test-hospital",
        "BRIDGE_CARDIO__TOKEN": "test-token",
    }


OpenHouse = Callable[..., contextlib.AbstractAsyncContextManager[House]]


def order(control_id: str = "C1", number: str = "PL-1", *, patient: str = "4711", name: str = "Muster^Max") -> str:
    """An ORM^O01 of an invented patient."""
    return (
        f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ORM^O01|{control_id}|P|2.3.1\r"
        f"PID|1||{patient}^^^TEST^MR||{name}||19700131|M\r"
        f"ORC|NW|{number}^HIS\rOBR|1|{number}^HIS||93000^12-lead ECG^CPT||||||||||||||ACC{number}\r"
    )


def answers_held_back(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The API's word on a task comes back to the bridge once the event is set; the task is there before."""
    real, go = CardioClient.create_tasks, asyncio.Event()

    async def slow(self: CardioClient, body: bytes) -> Outcome:
        came = await real(self, body)
        await go.wait()
        return came

    monkeypatch.setattr(CardioClient, "create_tasks", slow)
    return go


async def gather(*work: Awaitable[Any]) -> list[Any]:
    """All at once."""
    return list(await asyncio.gather(*work))
