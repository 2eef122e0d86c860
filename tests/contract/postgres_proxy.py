"""A wire to PostgreSQL that is cut where a test says: before a COMMIT reached the server, or before its answer came."""

import contextlib
import socket
import threading
from enum import StrEnum

import sqlalchemy as sa

_COMMIT = b"COMMIT\x00"
_LOCKS = b"pg_advisory_xact_lock"


def _warning(fields: bytes) -> bytes:
    """NoticeResponse of the protocol ("Message Formats")."""
    body = b"SWARNING\x00VWARNING\x00" + fields + b"\x00\x00"
    return b"N" + (len(body) + 4).to_bytes(4, "big") + body


_FAREWELL = _warning(b"C57P01\x00Mthe server is being stopped")
"""What a server says that is stopped at once (ERRCODE_ADMIN_SHUTDOWN), whatever was asked of it."""
_QUEUE = _warning(b"C01000\x00MNOTIFY queue is 50% full\x00Fasync.c\x00L1500\x00RasyncQueueFillWarning")
"""What it says at a COMMIT with a NOTIFY while some session in the house listens and does not read for hours."""


class Cut(StrEnum):
    """Where the wire is cut."""

    BEFORE = "before the server got it"
    AFTER = "before its answer came back"
    LATE = "and it reaches the server later, when its sender asks already"
    NEVER = "and the server does not hear that the wire is cut"
    FAREWELL = "behind its answer, and the server says that it stops"
    NOWHERE = "nowhere, and the server warns that its queue of words is long"


_SAID: dict[Cut | None, tuple[bytes, bytes]] = {Cut.NOWHERE: (_QUEUE, b""), Cut.FAREWELL: (b"", _FAREWELL)}
"""Before and behind the answer."""


class Wire:
    """Passes everything on. `cut` arms it for the next COMMIT; once it struck, `struck` is set."""

    def __init__(self, server: sa.URL) -> None:
        self._server = (str(server.host), int(server.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut: Cut | None = None
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._left: tuple[socket.socket, bytes] | None = None
        self._says: tuple[socket.socket, Cut] | None = None
        self.struck = threading.Event()
        self.url = server.set(port=self._listener.getsockname()[1])
        self._start(self._accept)

    def cut(self, how: Cut) -> None:
        """At the next COMMIT of anybody."""
        self.struck.clear()
        self._cut = how

    def close(self) -> None:
        """No more."""
        with self._lock:
            for one in (self._listener, *self._open):
                _end(one)

    @staticmethod
    def _start(work: object, *values: object) -> None:
        threading.Thread(target=work, args=values, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            with self._lock:
                self._open += [client, server]
            answered = threading.Event()
            self._start(self._asks, client, server, answered)
            self._start(self._answers, client, server, answered)

    def _asks(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):  # it was closed meanwhile
            self._passed(client, server, cut)

    def _passed(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        while data := _received(client):
            how = None
            if _COMMIT in data:
                how, self._cut = self._cut, None
            if _LOCKS in data and self._left is not None:
                (late, commit), self._left = self._left, None
                late.sendall(commit)
            if how is None:
                server.sendall(data)
                continue
            if how in _SAID:
                self._says = server, how
                server.sendall(data)
                continue
            if how is Cut.AFTER:
                cut.set()
                server.sendall(data)
            elif how is Cut.LATE:
                self._left = server, data
            _end(client)
            if how is Cut.BEFORE:
                _end(server)
            self.struck.set()
            return
        _end(server)

    def _answers(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        while data := _received(server):
            if cut.is_set():
                continue
            how = None
            if self._says is not None and self._says[0] is server:
                (_, how), self._says = self._says, None
                self.struck.set()
            before, behind = _SAID.get(how, (b"", b""))
            try:
                client.sendall(before + data + behind)
            except OSError:
                return
            if how is Cut.FAREWELL:
                break
        _end(client)


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except OSError:
        return b""


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
