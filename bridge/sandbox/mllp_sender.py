"""A hospital system's end of an MLLP connection: sends messages, reads answers, trusts nothing.

Its framing is its own, not the bridge's: two hands that agree by writing the same mistake would prove nothing.
HL7 v2.5.1 appendix C.4 (MLLP release 1): VT, message, FS, CR.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bridge.formats.hl7.charset import readable
from bridge.sandbox.peer import Address, PeerError

_START, _END = b"\x0b", b"\x1c\r"
_LONGEST_ANSWER = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """One acknowledgement: MSA-1, MSA-2 as sent, MSA-3."""

    code: str
    control_id: bytes
    text: str

    @property
    def taken(self) -> bool:
        """Whether the receiver took the message (AA, CA: HL7 table 0008)."""
        return self.code in {"AA", "CA"}


def control_ids(body: bytes) -> list[bytes]:
    """MSH-10 of the message, or of each message of a batch."""
    return [_field(line, 10) for line in _segments(body) if line.startswith(b"MSH")]


def answers(body: bytes) -> list[Answer]:
    """The acknowledgement in an answer, or each one of an answered batch, in order; empty where there is no MSA."""
    found, separator = [], b"|"
    for line in _segments(body):
        if line.startswith(b"MSH"):
            separator = line[3:4]
        elif line.startswith(b"MSA"):
            fields = [*line.split(separator), b"", b"", b""]
            found.append(Answer(fields[1].decode("ascii", "replace"), fields[2], readable(fields[3])))
    return found


def _segments(body: bytes) -> list[bytes]:
    return [line.lstrip(b"\xef\xbb\xbf") for line in body.replace(b"\n", b"\r").split(b"\r")]


def _field(header: bytes, number: int) -> bytes:
    """A field of an MSH, whose first field is the separator itself (HL7 v2.5.1 §2.15.9.1)."""
    fields = header.split(header[3:4]) if len(header) > 3 else []
    return fields[number - 1] if len(fields) >= number else b""


def _reason(problem: OSError) -> str:
    """The system's words; asyncio puts the address into them once more."""
    known = problem.errno in errno.errorcode and not isinstance(problem, socket.gaierror)
    return os.strerror(problem.errno or 0) if known else problem.strerror or str(problem)


class Connection:
    """One connection that stays open. Every failure closes it and is a PeerError.

    With `checked`, an answer must hold an MSA whose MSA-2 is the MSH-10 that was sent, byte for byte.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Address,
        *,
        timeout: float,
        checked: bool,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._peer, self._timeout, self._checked = peer, timeout, checked

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109  for every later answer too
        checked: bool = True,
    ) -> Self:
        """Connect, with TLS where a context is given; `timeout` seconds for this and for each answer."""
        peer = Address(host, port)
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_LONGEST_ANSWER)
        except TimeoutError as cause:
            raise PeerError(f"{peer} did not take the connection within {timeout:g} s") from cause
        except ssl.SSLError as cause:
            raise PeerError(f"{peer} and this side agree on no TLS: {cause.reason or cause}") from cause
        except OSError as cause:
            raise PeerError(f"{peer} cannot be reached: {_reason(cause)}") from cause
        return cls(reader, writer, peer, timeout=timeout, checked=checked)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, body: bytes) -> bytes:
        """Send one message (no framing in `body`) and return its answer, without framing."""
        return (await self.pipeline([body]))[0]

    async def pipeline(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Send all without waiting between them; the answers come in the same order (HL7 v2.5.1 §2.9.2)."""
        writing = asyncio.create_task(self._write(bodies))
        try:
            return [await self._answer_to(body) for body in bodies]
        except BaseException:
            await self.close()
            raise
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def close(self) -> None:
        """Close the connection; done twice it does nothing."""
        self._writer.close()
        try:
            async with asyncio.timeout(1):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    async def _write(self, bodies: Sequence[bytes]) -> None:
        """Write everything; where the peer has gone, reading notices it and says so."""
        for body in bodies:
            self._writer.write(_START + body + _END)
            await self._writer.drain()

    async def _answer_to(self, body: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                frame = await self._reader.readuntil(_END)
        except TimeoutError as cause:
            raise PeerError(f"{self._peer} gave no answer within {self._timeout:g} s") from cause
        except asyncio.IncompleteReadError as cause:
            how = "in the middle of its answer" if cause.partial else "without an answer"
            raise PeerError(f"{self._peer} closed the connection {how}") from cause
        except asyncio.LimitOverrunError as cause:
            raise PeerError(f"{self._peer}: an answer is longer than {_LONGEST_ANSWER} bytes") from cause
        except OSError as cause:
            raise PeerError(f"{self._peer} broke the connection: {_reason(cause)}") from cause
        if not frame.startswith(_START):
            raise PeerError(f"{self._peer}: the answer does not begin with VT; this may be no MLLP listener")
        answer = frame.removeprefix(_START).removesuffix(_END)
        if self._checked:
            self._check(body, answer)
        return answer

    def _check(self, body: bytes, answer: bytes) -> None:
        """MSA-2 is the sender's MSH-10 (HL7 v2.5.1 §2.9.2.2); a batch is answered message by message."""
        sent, told = control_ids(body), [one.control_id for one in answers(answer)]
        if not told:
            raise PeerError(f"{self._peer}: the answer has no MSA")
        if sent and (set(told) - set(sent) or (len(sent) == 1 and told != sent)):
            raise PeerError(f"{self._peer}: the answer is to another message (MSA-2 is not our MSH-10)")


async def send(
    host: str,
    port: int,
    body: bytes,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109  handed on to the connection
) -> bytes:
    """Send one message over a connection of its own and return its answer. Raises PeerError."""
    async with await Connection.open(host, port, tls=tls, timeout=timeout) as connection:
        return await connection.send(body)
