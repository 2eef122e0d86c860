"""An HTTP application served by uvicorn inside a loop of ours, on a socket that we opened."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Any

import uvicorn

from bridge.errors import CannotListen


class _Embedded(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process that embeds it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def open_socket(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one.

    Raises CannotListen that names the setting, where the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
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


@contextlib.asynccontextmanager
async def serving(app: Any, sock: socket.socket) -> AsyncIterator[str]:
    """Serve `app` on `sock` for as long as the context is open; yields its `host:port`.

    Connections still open at the end get 3 seconds.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    server = _Embedded(config)
    host, port = sock.getsockname()[:2]
    task = asyncio.create_task(server.serve(sockets=[sock]), name="http")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110  uvicorn has a flag here, no event
            await asyncio.sleep(0.005)
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await task
