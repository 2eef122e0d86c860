"""How many may be there: connections that have said nothing yet, and associations (failures.md F1, F3).

A connection that never asks for an association must not take the place of one that does, so both are counted apart.
Where too many wait outside, one is let go: of the address that has most of them there, the one that waits longest.
"""

import ipaddress
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable

from bridge.dicom_settings import DicomSettings

OUTSIDE = 64
OUTSIDE_OF_PEER = 16
PER_PEER = 8
"""Associations of one address (dicom_ecg.md §2); loopback has no limit unless it is set."""


class Places:
    """Counts of one listener, for any thread. A ticket is a connection, from its acceptance to its end."""

    def __init__(self, settings: DicomSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._tickets = 0
        self._outside: OrderedDict[int, tuple[str, Callable[[], None]]] = OrderedDict()
        self._inside: dict[int, str] = {}

    @property
    def associations(self) -> int:
        """Associations at the moment."""
        return len(self._inside)

    def wait_outside(self, peer: str, let_go: Callable[[], None]) -> int:
        """A connection of that address is there. `let_go` ends one that must make room, from another thread."""
        gone: list[Callable[[], None]] = []
        with self._lock:
            self._tickets += 1
            ticket = self._tickets
            waiting = Counter(of for of, _ in self._outside.values())
            if waiting[peer] >= OUTSIDE_OF_PEER and not _is_loopback(peer):
                gone.append(self._oldest_of(peer))
            elif len(self._outside) >= OUTSIDE:
                gone.append(self._oldest_of(waiting.most_common(1)[0][0]))
            self._outside[ticket] = (peer, let_go)
        for end in gone:
            end()
        return ticket

    def _oldest_of(self, peer: str) -> Callable[[], None]:
        ticket = next(t for t, (of, _) in self._outside.items() if of == peer)
        return self._outside.pop(ticket)[1]

    def come_in(self, ticket: int, peer: str) -> bool:
        """The connection becomes an association, where there is a place for one; never one that was let go."""
        most = self._settings.max_associations_per_peer
        if most is None and not _is_loopback(peer):
            most = PER_PEER
        with self._lock:
            if ticket not in self._outside or len(self._inside) >= self._settings.max_associations:
                return False
            if most is not None and Counter(self._inside.values())[peer] >= most:
                return False
            del self._outside[ticket]
            self._inside[ticket] = peer
            return True

    def go_out(self, ticket: int, peer: str, let_go: Callable[[], None]) -> None:
        """The association is over, and its connection not yet: it holds nobody up any more."""
        with self._lock:
            if self._inside.pop(ticket, None) is not None:
                self._outside[ticket] = (peer, let_go)

    def leave(self, ticket: int) -> None:
        """The connection is gone."""
        with self._lock:
            self._outside.pop(ticket, None)
            self._inside.pop(ticket, None)


def _is_loopback(peer: str) -> bool:
    return ipaddress.ip_address(peer).is_loopback
