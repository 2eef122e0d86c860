"""Where the control socket is, and who is at its other end: what commands need of it, without the console behind it."""

import contextlib
import pwd
from pathlib import Path

from bridge.settings import Settings


def user_name(uid: int) -> str:
    """The operating system's name of a user; his number where it knows none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"


def path_of(settings: Settings) -> Path:
    """Where the socket is: beside the store."""
    return settings.store.beside("control.sock")
