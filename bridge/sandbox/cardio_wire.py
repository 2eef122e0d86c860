"""One call on the wire: the request read whole, and an answer given well, or as badly as a fault asks for.

Below ASGI there is uvicorn's transport, the one way to close a connection without a status. It is found through
uvicorn's own `send`, a method of its request cycle (uvicorn 0.54, `RequestResponseCycle.transport`).
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with its body, JSON as a rule."""

    status: int
    content: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def answer(status: int, body: Any, **headers: str) -> Answer:
    """A JSON answer; an underscore of a header's name becomes a hyphen."""
    named = tuple((name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items())
    return Answer(status, json.dumps(body).encode(), named)


class Wire:
    """The two directions of one call."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]

    async def body(self) -> bytes | None:
        """The whole request body; None where the client left in the middle of it."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            first: bytes = message["body"]
            return first
        parts = []
        while message["type"] == "http.request":
            parts.append(message["body"])
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self._receive()
        return None

    async def give(self, given: Answer) -> None:
        """The answer."""
        await self._head(given)
        await self._send({"type": "http.response.body", "body": given.content})

    async def cut(self, given: Answer, *, reset: bool) -> None:
        """The head, half of the body that its length promises, then the end of the connection."""
        await self._head(given)
        half = given.content[: len(given.content) // 2]
        await self._send({"type": "http.response.body", "body": half, "more_body": True})
        if reset:
            await self.drop(reset=True)
            return
        self._transport.close()  # which sends what is waiting first
        await self._gone()

    async def drip(self, given: Answer, seconds: float) -> None:
        """The head, then the body a byte at a time."""
        await self._head(given)
        for byte in given.content:
            await asyncio.sleep(seconds)
            await self._send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def drop(self, *, reset: bool) -> None:
        """The connection ends without a byte more: by FIN, or by RST."""
        if reset:
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._transport.abort()
        await self._gone()

    async def silence(self) -> None:
        """Nothing, until the client goes away."""
        await self._gone()

    def hang_up(self) -> None:
        """End the connection from outside, where `silence` waits on it."""
        self._transport.abort()

    async def _head(self, given: Answer) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(given.content)).encode()),
            *given.headers,
        ]
        await self._send({"type": "http.response.start", "status": given.status, "headers": headers})

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
