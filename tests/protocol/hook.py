"""Receivers of alarms on loopback, with faults to play: a webhook, and a mail server."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

Answering = Callable[[int], str]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Post:
    """One request as it came."""

    head: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["events"]
        return found


@dataclass
class Hook:
    """`answering(nth)` gives the status line and headers of the nth answer; `hang`: none at all."""

    answering: Answering = lambda _: "204 No Content"
    posts: list[Post] = field(default_factory=list)
    address: str = ""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
            body = await reader.readexactly(int(fields["content-length"]))
            self.posts.append(Post({"request": lines[0], **fields}, body))
            answer = self.answering(len(self.posts))
            async with self.arrived:
                self.arrived.notify_all()
            if answer == "hang":
                await asyncio.Event().wait()
            else:
                writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def until(self, count: int, seconds: float = 20) -> list[Post]:
        """Wait until that many came."""
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(lambda: len(self.posts) >= count)
        return self.posts

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Rule, subject and edge of everything that came, in order."""
        return [(e["rule"], e["subject"], e["edge"]) for post in self.posts for e in post.events]


@contextlib.asynccontextmanager
async def _listening(serve: Serve, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A port that is served until the end, and nothing of it afterwards."""
    open_ones: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # asyncio's own callback fails over it before 3.12
                await serve(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            open_ones.discard(task)

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in open_ones:
            one.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)


@contextlib.asynccontextmanager
async def hook(answering: Answering | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hook]:
    """A webhook's receiver on a free port."""
    made = Hook(answering) if answering else Hook()
    async with _listening(made.serve, tls) as port:
        made.address = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hooks/secret-path"
        yield made


@dataclass
class MailServer:
    """SMTP as far as a mail needs it. `codes` are answers by command, such as `{"RCPT": "550 no"}`; `hang` is none."""

    codes: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None  # for STARTTLS
    auth: str = "PLAIN LOGIN"
    logins: list[tuple[str, str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)  # of each mail
    recipients: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    port: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await self._said(writer, "HELLO", "220 test.example ESMTP"):
                while line := await reader.readline():
                    if not await self._command(line.decode("latin-1").strip(), reader, writer):
                        break
            writer.close()
            await writer.wait_closed()

    async def _command(self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        word, _, rest = line.partition(" ")
        word = word.upper()
        self.commands.append(word)
        encrypted = writer.get_extra_info("ssl_object") is not None
        if word == "EHLO":
            offered = [f"AUTH {self.auth}", "8BITMIME"] + (["STARTTLS"] if self.tls and not encrypted else [])
            offers = "".join(f"250-{one}\r\n" for one in offered)
            return await self._said(writer, word, f"250-test.example\r\n{offers}250 SIZE 1000000")
        if word == "STARTTLS":
            done = await self._said(writer, word, "220 go ahead")
            await writer.start_tls(self.tls)
            return done
        if word == "AUTH":
            way, said = rest.split()
            if way == "PLAIN":
                _, user, password = base64.b64decode(said).decode().split("\0")
            else:
                await self._said(writer, "CHALLENGE", "334 UGFzc3dvcmQ6")
                user, password = (base64.b64decode(one).decode() for one in (said, await reader.readline()))
            self.logins.append((user, password))
            return await self._said(writer, word, "235 welcome")
        if word == "RCPT":
            self.recipients.append(rest)
            return await self._said(writer, f"RCPT {rest}" if f"RCPT {rest}" in self.codes else word, "250 ok")
        if word == "DATA":
            if not await self._said(writer, word, "354 go on"):
                return False
            data = await reader.readuntil(b"\r\n.\r\n")
            self.encrypted.append(encrypted)
            self.raw.append(data)
            self.mails.append(message_from_bytes(data[:-3].replace(b"\r\n..", b"\r\n."), policy=policy.default))
            async with self.arrived:
                self.arrived.notify_all()
            return await self._said(writer, "END", "250 kept")
        if word == "QUIT":
            return False
        return await self._said(writer, word, "250 ok")

    async def _said(self, writer: asyncio.StreamWriter, word: str, usual: str) -> bool:
        answer = self.codes.get(word, usual)
        if answer == "hang":
            await asyncio.Event().wait()
        if answer == "drip":  # a line without an end
            while True:
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.write(f"{answer}\r\n".encode())
        await writer.drain()
        return True

    async def until(self, count: int, seconds: float = 20) -> list[EmailMessage]:
        """Wait until that many mails came."""
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(lambda: len(self.mails) >= count)
        return self.mails


@contextlib.asynccontextmanager
async def mail_server(
    codes: dict[str, str] | None = None, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[MailServer]:
    """A mail server on a free port, encrypted from the start with `tls`, or on demand with `starttls`."""
    made = MailServer(codes or {}, starttls)
    async with _listening(made.serve, tls) as made.port:
        yield made
