"""An HTTP application served by uvicorn inside a loop of ours, on a socket that we opened."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from bridge.errors import CannotListen

_TICKS = 864_000
"""Of a tenth of a second: a day of them."""


class _Embedded(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process that embeds it. It ends at once where nobody
    is connected; uvicorn's own takes two tenths of a second.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """No more than what is under way."""
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        tick = 0
        while not await self.on_tick(tick):
            tick = (tick + 1) % _TICKS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()


def open_socket(host: str, port: int, *, setting: str, kind: type[socket.socket] = socket.socket) -> socket.socket:
    """A listening TCP socket of that class; port 0 takes any free one.

    Raises CannotListen that names the setting, where the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = kind(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
    except OSError as cause:
        sock.close()
        raise CannotListen(
            f"{setting}: cannot listen on {host}:{port}: {cause.strerror or cause}. "
            f"Another program may hold the port; choose another, or 0 for any free one."
        ) from cause
    sock.setblocking(False)
    return sock


_LONGEST_NAME = 107
"""Bytes of a Unix socket's name at the most (unix(7): sun_path has 108, with the zero behind it)."""


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a Unix socket's file that fits an address, however deep its folder lies (Linux)."""
    if len(os.fsencode(path)) <= _LONGEST_NAME:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def open_unix_socket(path: Path, *, setting: str) -> socket.socket:
    """A listening Unix socket that its owner alone can connect to. What an earlier run left there is taken away.

    Raises CannotListen that names the setting.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with reachable(path) as name:
            sock.bind(name)
        path.chmod(0o600)  # nobody can have connected: it does not listen yet
        sock.listen(16)
    except OSError as cause:
        sock.close()
        raise CannotListen(f"{setting}: cannot listen on {path}: {cause.strerror or cause}") from cause
    sock.setblocking(False)
    return sock


def _asking(tls: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """A context that gives each connection over to today's: a listener of asyncio's has one for all its life.

    OpenSSL asks for it at each hello, with a name in it or without (SSL_CTX_set_tlsext_servername_callback(3)).
    """
    listening = tls()

    def give_over(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = tls()

    listening.sni_callback = give_over
    return listening


@contextlib.asynccontextmanager
async def serving(
    app: Any, sock: socket.socket, http: Any = "auto", tls: Callable[[], ssl.SSLContext] | None = None
) -> AsyncIterator[str]:
    """Serve `app` on `sock` for as long as the context is open; yields its `host:port`, or its name in the file system.

    `http` is uvicorn's class for a connection; `tls` is asked for the context of each new one. Those still open at
    the end get 3 seconds.
    """
    config = uvicorn.Config(
        app,
        http=http,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
        server_header=False,
        proxy_headers=False,  # nobody says of himself that he is another
        ssl_context_factory=None if tls is None else lambda *_: _asking(tls),
    )
    server = _Embedded(config)
    name = sock.getsockname()
    task = asyncio.create_task(server.serve(sockets=[sock]), name="http")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110  uvicorn has a flag here, no event
            await asyncio.sleep(0.005)
        yield name if isinstance(name, str) else f"{name[0]}:{name[1]}"
    finally:
        server.end()
        await task
