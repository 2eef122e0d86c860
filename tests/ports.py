"""A port for a test that has to name one before anybody listens, or that comes back to it after an end."""

import socket
from pathlib import Path
from random import SystemRandom

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SPAN = 10_000


def free_port() -> int:
    """A port of loopback that is free now, and that the kernel gives to nobody by itself (ip(7)): also while a service
    is down no connection of another test takes it.
    """
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 0
    below = range(first - _SPAN, first) if first > 1024 + _SPAN else [0]
    while True:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", SystemRandom().choice(below)))
            except OSError:
                continue
            return int(sock.getsockname()[1])
