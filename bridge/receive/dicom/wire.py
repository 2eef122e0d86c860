"""A connection with deadlines: bytes in and out of a socket that never blocks longer than it may (F1, F2, F20)."""

import contextlib
import select
import socket
import ssl
import time
from enum import StrEnum
from typing import Any

Socket = socket.socket | ssl.SSLSocket

_LARGE = 256 * 1024
_SMALL = 32 * 1024


class End(StrEnum):
    """Why nothing more comes from a connection."""

    CLOSED = "closed"  # by the peer, between two PDUs or inside one
    LATE = "late"  # it did not come in time
    FAILED = "failed"  # reset, or unreachable, or no TLS any more
    WOKEN = "woken"  # we are stopping, and the peer had begun nothing


class Wire:
    """One connection, for one thread. `wake` becomes readable when the acceptor stops."""

    def __init__(self, sock: Socket, wake: int) -> None:
        self._socket = sock
        self._wake = wake
        self._buffer = bytearray(_SMALL)
        self._begin = 0
        self._end = 0

    def handshake(self, context: ssl.SSLContext, within: float) -> str:
        """TLS, in this thread and in time. The common name of the peer's certificate, or nothing.

        Raises OSError, of which TimeoutError and ssl.SSLError are kinds.
        """
        self._socket.settimeout(within)  # of the whole handshake: the ssl module counts over its reads
        secured = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = secured
        secured.do_handshake()
        secured.setblocking(False)
        return _common_name(secured)

    def fill(self, count: int, by: float, *, wakeable: bool = False) -> End | None:
        """Have `count` bytes at hand before `by`, a monotonic time. None: they are there.

        `wakeable`: the acceptor's stop ends the wait. What has come already is taken in any case.
        """
        looked = False
        while self._end - self._begin < count:
            self._make_room(count)
            if looked and time.monotonic() >= by:  # also where bytes come faster than they are worth
                return End.LATE
            looked = True
            try:
                got = self._socket.recv_into(memoryview(self._buffer)[self._end :])
            except (BlockingIOError, ssl.SSLWantReadError):
                found = self._wait(select.POLLIN, by, wakeable=wakeable)
            except ssl.SSLWantWriteError:
                found = self._wait(select.POLLOUT, by, wakeable=wakeable)
            except OSError:
                return End.FAILED
            else:
                if not got:
                    return End.CLOSED
                self._end += got
                continue
            if found is None:
                return End.WOKEN
            if not found:
                return End.LATE
        return None

    def peek(self, count: int) -> memoryview:
        """The next bytes, which are at hand. Valid until the next `fill`."""
        return memoryview(self._buffer)[self._begin : self._begin + count]

    def take(self, count: int) -> memoryview:
        """As `peek`, and they are gone from what is at hand."""
        taken = self.peek(count)
        self._begin += count
        return taken

    def offered(self, count: int) -> bool:
        """Whether so many bytes are at hand, or have come in the meantime. Never waits."""
        return self.fill(count, 0.0) is None

    def send(self, data: bytes, within: float) -> bool:
        """Everything, in so many seconds; False where the peer does not take it."""
        deadline = time.monotonic() + within
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                if not self._wait(select.POLLOUT, deadline, wakeable=False):
                    return False
            except ssl.SSLWantReadError:
                if not self._wait(select.POLLIN, deadline, wakeable=False):
                    return False
            except OSError:
                return False
        return True

    def drain(self, by: float) -> None:
        """Pass over what still comes, until the peer closes or that monotonic time.

        Closing at once would reset the connection, and take what was sent last away from the peer.
        """
        while self.fill(1, by) is None:
            self._begin = self._end

    def shut(self) -> None:
        """End the connection from another thread: whoever waits on it wakes up.

        Not by the TLS socket's own way: that drops its TLS first, and a reader would take what is still there, which
        is encrypted, for the rest of an object.
        """
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _make_room(self, count: int) -> None:
        """Room for `count` bytes and for more, behind what is at hand."""
        kept = self._end - self._begin
        if count > len(self._buffer):
            fresh = bytearray(max(count, _LARGE))
            fresh[:kept] = self.peek(kept)
            self._buffer = fresh
        elif self._begin + count > len(self._buffer) or self._end == len(self._buffer):
            view = memoryview(self._buffer)
            view[:kept] = view[self._begin : self._end]
        else:
            return
        self._begin, self._end = 0, kept

    def _wait(self, what: int, deadline: float, *, wakeable: bool) -> bool | None:
        """Until the socket is ready; False where it is too late, None where the acceptor stops."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        poll = select.poll()
        poll.register(self._socket, what)
        if wakeable:
            poll.register(self._wake, select.POLLIN)
        ready = poll.poll(left * 1000)
        if any(number != self._wake for number, _ in ready):
            return True
        return None if ready else False


def _common_name(secured: ssl.SSLSocket) -> str:
    """Of the subject; of a certificate that has none, its first alternative name."""
    found: Any = secured.getpeercert() or {}
    names = [value for group in found.get("subject", ()) for name, value in group if name == "commonName"]
    return str(next(iter([*names, *(value for _, value in found.get("subjectAltName", ()))]), ""))
