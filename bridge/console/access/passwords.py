"""Passwords of local users: Argon2id (RFC 9106), by its second recommended option, no more than two at a time."""

import asyncio
import contextlib
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import AsyncIterator

from argon2 import Parameters, PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY

from bridge.console.access.names import folded
from bridge.errors import ActionRefused, BridgeError

SHORTEST, LONGEST = 12, 128
"""Characters of a password."""
AT_ONCE = 2
"""Verifications at once: each takes 64 MiB and four threads."""
WAITING = 20
"""Who may wait for his turn besides; behind them it is refused at once."""


class Busy(BridgeError):
    """Too many want to sign in just now."""


class Passwords:
    """Makes hashes and verifies against them, in threads."""

    def __init__(self, parameters: Parameters = RFC_9106_LOW_MEMORY) -> None:
        self._hasher = PasswordHasher.from_parameters(parameters)
        self._nobody = _hash_of_nothing(parameters)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._under_way = 0

    async def hashed(self, password: str) -> str:
        """What is stored of a password."""
        async with self._place():
            return await asyncio.to_thread(self._hasher.hash, _spelt(password))

    async def fits(self, stored: str, password: str) -> bool:
        """Whether it is the one; an empty `stored` (nobody there) costs the same and fits never. Raises Busy."""
        async with self._place():
            return await asyncio.to_thread(self._fits, stored, password)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """In line, and then at the work. Raises Busy where the line is full."""
        if self._under_way >= AT_ONCE + WAITING:
            raise Busy("too many want to sign in just now; try again in a moment")
        self._under_way += 1
        try:
            async with self._turn:
                yield
        finally:
            self._under_way -= 1

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made by other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _fits(self, stored: str, password: str) -> bool:
        try:
            # More than anybody could have set is wrong, at the same cost.
            return self._hasher.verify(stored or self._nobody, _spelt(password)[: LONGEST + 1]) and bool(stored)
        except (VerifyMismatchError, InvalidHashError):
            return False
        except VerificationError as cause:  # no memory for it: that is nobody's wrong password
            raise Busy("no password can be compared just now; try again in a moment") from cause


def require_good(password: str, name: str) -> None:
    """Raises ActionRefused that says what a password of that person needs."""
    if not SHORTEST <= len(_spelt(password)) <= LONGEST:
        raise ActionRefused(f"a password has {SHORTEST} to {LONGEST} characters")
    if folded(password) == folded(name):
        raise ActionRefused("a password is not the name")
    if len(set(password)) < 4:
        raise ActionRefused("a password has four different characters at the least")


def invented() -> str:
    """A password that nobody chose: 120 bits."""
    return secrets.token_urlsafe(15)


def _spelt(password: str) -> str:
    """One spelling, whatever the keyboard composes (RFC 8265 §4.2: NFC)."""
    return unicodedata.normalize("NFC", password)


def _hash_of_nothing(parameters: Parameters) -> str:
    """A hash that fits nothing and costs what any other does: what an unknown name is compared with."""
    salt, digest = (
        b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (parameters.salt_len, parameters.hash_len)
    )
    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v={parameters.version}${costs}${salt}${digest}"
