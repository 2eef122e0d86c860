"""Which process of which machine this is, so that the next one there can tell at once that it is gone.

A boot's id is the kernel's own and random (random(4), `/proc/sys/kernel/random/boot_id`): unlike a machine's id, it is
another one in a clone of a virtual machine that was started. A process is known by its number, its name space of
numbers (a container has one of its own) and when it began, since numbers come again.
"""

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STARTED = 19
"""Place of the start's time behind the command's name in `/proc/PID/stat` (proc(5): field 22)."""
_ENDED = "ZXx"
"""Its state there, once it runs no more."""


def here() -> str:
    """This process; empty where the system does not say."""
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
        space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  a link that leads to no path
        return f"{boot}/{space}/{os.getpid()}/{_started(os.getpid())}"
    except (OSError, ValueError, IndexError):
        return ""


def is_surely_gone(place: str) -> bool:
    """Whether that process ran here, in this boot and name space, and runs no more. False where that cannot be said."""
    own = here()
    if not own or not place or own.split("/")[:2] != place.split("/")[:2]:
        return False
    *_, pid, began = place.split("/")
    try:
        return _started(int(pid)) != began
    except FileNotFoundError:
        return not _runs(int(pid))
    except (OSError, ValueError, IndexError):
        return False


def _runs(pid: int) -> bool:
    """Whether a process has that number. One that may not be traced is not to be seen (proc(5), hidepid: what systemd
    makes of ProtectProc=invisible, and two units with PrivateUsers= may not trace each other); a signal would find it.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    """When it began, in ticks since the boot; empty where it ended and its parent has not taken note of it yet."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return "" if stat[0] in _ENDED else stat[_STARTED]
