"""A wire to PostgreSQL that is cut where a test says: before a COMMIT reached the server, or before its answer came."""

import contextlib
import socket
import threading
from enum import StrEnum

import sqlalchemy as sa

_COMMIT = b"COMMIT\x00"
_LOCKS = b"pg_advisory_xact_lock"
_FIELDS = b"SWARNING\x00VWARNING\x00C57P01\x00Mthe server is being stopped\x00\x00"
_FAREWELL = b"N" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS
"""What a server says that is stopped at once (NoticeResponse, ERRCODE_ADMIN_SHUTDOWN), whatever was asked of it."""


class Cut(StrEnum):
    """Where the wire is cut."""

    BEFORE = "before the server got it"
    AFTER = "before its answer came back"
    LATE = "and it reaches the server later, when its sender asks already"
    NEVER = "and the server does not hear that the wire is cut"
    FAREWELL = "behind its answer, and the server says that it stops"


class Wire:
    """Passes everything on. `cut` arms it for the next COMMIT; once it struck, `struck` is set."""

    def __init__(self, server: sa.URL) -> None:
        self._server = (str(server.host), int(server.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut: Cut | None = None
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._left: tuple[socket.socket, bytes] | None = None
        self._parting: socket.socket | None = None
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
            if how is Cut.FAREWELL:
                self._parting = server
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
            parts = self._parting is server
            try:
                client.sendall(data + _FAREWELL if parts else data)
            except OSError:
                return
            if parts:
                self._parting = None
                self.struck.set()
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
