"""Kinds of settings: sizes, addresses, zones, character sets and networks, as people write them."""

import codecs
import ipaddress
import re
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?\s*$")
_UNIT = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        found = _SIZE.match(value)
        if not found:
            raise ValueError("a size is a number and B, KiB, MiB, GiB or TiB, such as '5 GiB'")
        return int(float(found[1]) * _UNIT[found[2]])
    return value


def _address(value: Any) -> Any:
    host, _, port = str(value).rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address is host:port, such as 127.0.0.1:2575; port 0 takes any free one")
    return str(value)


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as cause:
        raise ValueError("not an IANA time zone of this machine, such as Europe/Berlin") from cause
    return str(value)


def _codec(value: Any) -> Any:
    try:
        codecs.lookup(str(value))
    except LookupError as cause:
        raise ValueError("not a character set that Python knows, such as cp1252 or iso8859-2") from cause
    return value


def _network(value: Any) -> Any:
    try:
        return ipaddress.ip_network(str(value), strict=False)
    except ValueError as cause:
        raise ValueError("an address or a network, such as 10.1.2.3 or 10.1.0.0/16") from cause


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Codec = Annotated[str, BeforeValidator(_codec)]
Size = Annotated[int, BeforeValidator(_bytes)]
Address = Annotated[str, BeforeValidator(_address)]
Zone = Annotated[str, BeforeValidator(_zone)]


def host_port(address: str) -> tuple[str, int]:
    """The two halves of an `Address`; brackets of an IPv6 host are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether a `host:port`, or what follows `http://`, cannot be reached from another machine."""
    host = re.split(r"[/?#]", address, maxsplit=1)[0].rpartition("@")[2]
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        host = host if port[:1] in {"", ":"} else ""
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Section(BaseModel):
    """A table of the configuration. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def no_plaintext(section: str, listen: str, *, encrypted: bool, allowed: bool) -> None:
    """Raises ValueError where patient data could be read on its way."""
    if not encrypted and not allowed and not is_loopback(listen):
        raise ValueError(
            f"listen: {listen} can be reached from other machines without encryption; "
            f"set [{section}] insecure_plaintext = true where the network is protected by other means"
        )
