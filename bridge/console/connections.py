"""Connections to the console, bounded in number and in patience: file handles are shared with the doors of orders and
recordings, and whoever only keeps connections open must not take them.
"""

import asyncio
import ipaddress
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 256
"""Connections at once, those in their TLS handshake too; a process has 1,024 file handles where nobody says more."""
MOST_OF_ONE = 128
"""Of them those of one address; no limit for this host's own."""
HEAD = 15.0
"""Seconds for a request to come up to its body, from the connection's beginning or the last answer's end."""
BODY = 150.0
"""Seconds for its body, which may be a recording of some size (`brought.PATIENCE`)."""
STUCK = 60.0
"""Seconds that a browser may take nothing of an answer."""


class BoundedSocket(socket.socket):
    """A listening socket that closes at once what comes beyond `MOST`."""

    _open: tuple[socket.socket, ...] = ()

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises ConnectionAbortedError for one too many, which asyncio takes for a peer that was gone already."""
        one, address = super().accept()
        self._open = tuple(other for other in self._open if other.fileno() >= 0)
        of_one = sum(_peer(other) == address[0] for other in self._open)
        if len(self._open) >= MOST or (of_one >= MOST_OF_ONE and not ipaddress.ip_address(address[0]).is_loopback):
            one.close()
            raise ConnectionAbortedError
        self._open += (one,)
        return one, address


def _peer(one: socket.socket) -> str:
    try:
        return str(one.getpeername()[0])
    except OSError:
        return ""


class TimelyProtocol(H11Protocol):
    """A connection that ends where its peer says nothing, or takes nothing."""

    _waits: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._wait(HEAD)

    def data_received(self, data: bytes) -> None:
        """The head is here, or the body, or neither yet: of what is still to come the time goes on."""
        before = self._awaited()
        super().data_received(data)
        after = self._awaited()
        if after != before:
            self._wait(after)

    def on_response_complete(self) -> None:
        """For the next request of this connection, unless it is there already."""
        super().on_response_complete()
        self._wait(self._awaited())

    def pause_writing(self) -> None:
        """The peer does not take what it asked for."""
        super().pause_writing()
        self._stuck = self._stuck or self.loop.call_later(STUCK, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        _end(self._stuck)
        self._stuck = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        _end(self._waits)
        _end(self._stuck)

    def _awaited(self) -> float:
        """The patience for what is to come from the peer; 0 where it is our turn."""
        if self.cycle is None or self.cycle.response_complete:
            return HEAD
        return BODY if self.cycle.more_body else 0

    def _wait(self, seconds: float) -> None:
        _end(self._waits)
        self._waits = self.loop.call_later(seconds, self.transport.abort) if seconds else None


def _end(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
