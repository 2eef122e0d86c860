"""Folders and small files that a power cut leaves as they were made: a name is durable once its folder is synced."""

import contextlib
import os
import secrets
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """The names in it are on the disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """A folder for the bridge alone, with those above it, all durable. Raises OSError.

    Synced where it was there before too: whoever made it may have ended in between. What we may not read was made by
    somebody else, long ago.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    here = folder.resolve()
    disk = here.stat().st_dev
    for one in (here, *here.parents):
        if one.stat().st_dev != disk:
            return
        with contextlib.suppress(PermissionError):
            sync_folder(one)


def write_whole(path: Path, content: bytes) -> None:
    """A small file that is there whole, or as it was before. Raises OSError."""
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
    sync_folder(path.parent)
