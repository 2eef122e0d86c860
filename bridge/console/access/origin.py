"""By which name the console was called, and from where: against pages of others that speak through a browser.

A page of another site can make a browser send requests to us, and by rebinding its own name to our address (DNS
rebinding) it can even read our answers. So the name in Host must be one of ours, and whatever changes something must
come from a page of ours, which browsers say in Origin and Sec-Fetch-Site (Fetch §3.2, Fetch Metadata §2.3).
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from bridge.setting_kinds import is_loopback

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?")
_PORT = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Names:
    """What this console is called by. `listen` is its setting, `hosts` the names besides (`name`, `name:port`, or
    `https://name` where a proxy in front speaks TLS for us).
    """

    listen: str
    hosts: Sequence[str] = ()

    def known(self, headers: Headers, own: str = "") -> bool:
        """Whether it was called by a name of ours; `own` is the address that the connection came to.

        The port counts only where a setting names one: what comes through a tunnel has another, and a page of somebody
        else's cannot be rebound to a loopback name or to an address.
        """
        named = headers.getlist("host")
        if len(named) != 1:
            return False
        host, port = _split(named[0])
        if not host:
            return False
        local = is_loopback(self.listen)
        if local and is_loopback(f"[{host}]" if ":" in host else host):
            return True
        if not local and not self.hosts:
            return True
        if host == _split(self.listen)[0] or (host == own.lower() and _is_address(host)):
            return True
        for entry in self.hosts:
            name, wanted = _split(entry.partition("://")[2] or entry)
            if name == host and wanted in {"", port}:
                return True
        return False

    def scheme(self, headers: Headers, scheme: str) -> str:
        """What the browser has in front of the name: the connection's own, or that of a proxy that `hosts` names."""
        host, _ = _split(headers.get("host", ""))
        for entry in self.hosts:
            front, there, rest = entry.partition("://")
            if there and _split(rest)[0] == host:
                return front.lower()
        return scheme

    def is_ours(self, headers: Headers, scheme: str) -> bool:
        """Whether a request that changes something comes from a page of ours. One that does not say is not."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") == "same-origin"
        front, there, rest = origin.partition("://")
        mine = self.scheme(headers, scheme)
        return bool(there) and (front.lower(), *_full(rest, front)) == (mine, *_full(headers.get("host", ""), mine))


def _split(host: str) -> tuple[str, str]:
    """Name and port of a Host header or an address, lower case, without brackets; empty where it is none."""
    found = _HOST.fullmatch(host.strip().lower())
    return (found[1] or found[2].rstrip("."), found[3] or "") if found else ("", "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _full(host: str, scheme: str) -> tuple[str, str]:
    name, port = _split(host)
    return name, port or _PORT.get(scheme.lower(), "")
