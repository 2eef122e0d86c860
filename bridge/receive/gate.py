"""Who may connect to a listener, and how many at once: decided before a byte is read, TLS included (F1)."""

import ipaddress
import socket
from collections import Counter
from typing import Any

from bridge.settings import ListenerSettings

PER_PEER = 64
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 60_000))
"""A peer that vanished is noticed within two minutes (F20). Linux names; what a system lacks is left out."""


def peer_of(address: Any) -> str:
    """The IP address of what `accept` gave, in one spelling: no zone, and no IPv4 address dressed as IPv6."""
    found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)


class Gate:
    """Counts connections from their acceptance on, so that those in their TLS handshake count as well."""

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._peers: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Connections at the moment."""
        return self._peers.total()

    def enter(self, peer: str) -> str:
        """Take a connection of `peer_of` in; empty, or the reason why not."""
        address = ipaddress.ip_address(peer)
        if self._settings.allow and not any(address in network for network in self._settings.allow):
            return "not_allowed"
        if self._peers.total() >= self._settings.max_connections:
            return "too_many"
        most = self._settings.max_connections_per_peer
        if most is None and not address.is_loopback:
            most = PER_PEER
        if most is not None and self._peers[peer] >= most:
            return "too_many_of_peer"
        self._peers[peer] += 1
        return ""

    def leave(self, peer: str) -> None:
        """A connection ended."""
        self._peers[peer] -= 1
        if self._peers[peer] <= 0:
            del self._peers[peer]


def prepare(sock: socket.socket) -> None:
    """Answers go out at once, and a peer that vanished is noticed (F20)."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
