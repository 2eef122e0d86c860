"""How often an address may try to sign in, and how long a person is locked after wrong passwords."""

import ipaddress
import math
from collections import deque
from datetime import timedelta

from bridge.clock import Clock

A_MINUTE = 10
"""Attempts of one address in a minute (failures.md §4)."""
WINDOW = 60.0
ADDRESSES = 10_000
"""Addresses remembered at once; the one that was quiet for longest is forgotten first."""

WRONG = 5
"""Wrong passwords in a row that lock a person."""
FIRST_LOCK, LONGEST_LOCK = 30, 900
"""Seconds."""


class Attempts:
    """Counts the attempts of each address, in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, deque[float]] = {}

    def count(self, address: str) -> int:
        """One more of that address: 0, or the seconds after which it may try again. What is refused counts not."""
        now, who = self._clock.monotonic(), network(address)
        times = self._of.pop(who, None) or deque()
        while times and times[0] <= now - WINDOW:
            times.popleft()
        wait = math.ceil(times[0] + WINDOW - now) if len(times) >= A_MINUTE else 0
        if not wait:
            times.append(now)
        self._of[who] = times  # at the end of the line: heard of just now
        if len(self._of) > ADDRESSES:
            del self._of[next(iter(self._of))]
        return wait


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64 that one host can choose from (RFC 4291 §2.5.4)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def lock_after(failures: int) -> timedelta | None:
    """How long so many wrong passwords in a row lock: 30 s, doubled by each further one, to 15 minutes; None: not."""
    if failures < WRONG:
        return None
    return timedelta(seconds=min(FIRST_LOCK << min(failures - WRONG, 10), LONGEST_LOCK))
