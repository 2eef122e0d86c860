"""Names of persons, as they are compared and stored, and where a page may lead to after a sign-in."""

import unicodedata
from urllib.parse import urlsplit

from bridge.errors import ActionRefused

LONGEST = 64
RESERVED = frozenset({"local", "unknown"})
"""Names that the audit trail has for whoever comes without sign-in, and for whom nobody knows."""
_SIGNS = frozenset(" ._-@'+()")
_HOME = "/"
_NO_PAGES = ("/sign-in", "/sign-out", "/set-up", "/events", "/api", "/static")


def folded(name: str) -> str:
    """A name as it is compared: without width, case, and spaces too many (NFKC, then case folding, then NFKC)."""
    same = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(same.split())


def person_name(name: str) -> str:
    """A name for a new row: folded; letters, marks and digits of any script, and a few signs.

    Raises ActionRefused that says why not; never the name itself, where people type passwords by mistake.
    """
    found = folded(name)
    if not 1 <= len(found) <= LONGEST:
        raise ActionRefused(f"a name has 1 to {LONGEST} characters")
    if any(unicodedata.category(c)[0] not in "LMN" and c not in _SIGNS for c in found):
        raise ActionRefused("a name has letters, digits and . _ - @ ' + ( ) in it, nothing else")
    if found in RESERVED:
        raise ActionRefused("this name is kept for the bridge itself; choose another")
    return found


def page_within(address: str) -> str:
    """Path and query of a whole address, wherever it is; empty where it is none."""
    try:
        found = urlsplit(address)
    except ValueError:
        return ""
    return found.path + (f"?{found.query}" if found.query else "")


def page_of_ours(address: str) -> str:
    """Where to go after a sign-in: a page of this console, whatever was asked for. No other host, no loop.

    Browsers take a backslash for a slash and leave out tabs and line ends (WHATWG URL §4.4): with one it is no address.
    """
    plain = address.isascii() and address.isprintable() and "\\" not in address and " " not in address
    if not plain or not address.startswith("/") or address.startswith("//") or len(address) > 2000:
        return _HOME
    path = urlsplit(address).path
    return _HOME if any(path == p or path.startswith(p + "/") for p in _NO_PAGES) else address
