"""Word to the service manager: ready, stopping, and a sign of life for its watchdog (sd_notify(3), systemd).

A datagram to the socket that NOTIFY_SOCKET names. Where no manager asks for it nobody is told, and one that does not
listen is no reason to stop: custody goes on.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

import structlog

from bridge.clock import Clock, SystemClock

log = structlog.get_logger()

_PATIENCE = 5.0
"""Seconds for a manager whose queue is full."""
_SHARE = 3
"""Signs of life within the watchdog's time: two may come late before the third is missed."""


async def tell(*words: str, environment: Mapping[str, str] | None = None) -> None:
    """Assignments such as `READY=1`, as one datagram. The socket is opened anew each time: so may the manager's be.

    A name that begins with @ is one of the abstract namespace (unix(7)).
    """
    name = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(f"\0{name[1:]}" if name.startswith("@") else name)
            async with asyncio.timeout(_PATIENCE):
                await asyncio.get_running_loop().sock_sendall(sock, "\n".join(words).encode())
    except OSError as problem:  # TimeoutError is one
        log.warning("manager.not_told", error=type(problem).__name__)


def watchdog(environment: Mapping[str, str]) -> float:
    """Seconds within which the manager wants a sign of life; 0 where it wants none of this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    told = environment.get("WATCHDOG_USEC", "")
    return int(told) / 1e6 if told.isdigit() else 0.0


@contextlib.asynccontextmanager
async def alive(clock: Clock | None = None, environment: Mapping[str, str] | None = None) -> AsyncIterator[None]:
    """A sign of life from this event loop, for as long as the context is open: a loop that stands still gives none."""
    within = watchdog(os.environ if environment is None else environment)
    clock = clock or SystemClock()

    async def beat() -> None:
        while True:
            await tell("WATCHDOG=1", environment=environment)
            await clock.sleep(within / _SHARE)

    task = asyncio.create_task(beat(), name="watchdog") if within else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
