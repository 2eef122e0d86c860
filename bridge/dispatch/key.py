"""The key of a task: deterministic, the same after a restart or a restore, and without a patient's value in it."""

import base64
import hashlib
import hmac


def task_key(site_key: bytes, *, destination: str, organization: str, purpose: str, parts: tuple[str, ...]) -> str:
    """`br1-` and 26 characters of base32: what a task is for, under the site's secret (failures.md §3.1).

    Every part is prefixed with its length, so that no two lists of parts read the same.
    """
    named = (destination, organization, purpose, *parts)
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in named)
    digest = hmac.new(site_key, message, hashlib.sha256).digest()
    return "br1-" + base64.b32encode(digest).decode("ascii")[:26].lower()


def tagged(key: str, generation: int) -> str:
    """The key as it goes into searching_tags; a re-send that somebody authorised carries its generation."""
    return key if generation == 1 else f"{key}-g{generation}"
