"""Dry runs of what somebody brings to a page, each in a process of its own: it may be made to cost (F28).

`python -m bridge.rehearsal.apart` reads open files under limits, over books in memory. It can write no file, so that
nothing of a patient is left behind, and it gives way to the service that started it.
"""

import asyncio
import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.clock import SystemClock
from bridge.errors import BridgeError
from bridge.mapping.in_force import rules_in_force
from bridge.rehearsal.dry_run import DryRun, unframed
from bridge.rehearsal.pasted import as_sent
from bridge.settings import Settings

SECONDS = 10
"""Of processor time, as for a trial in service."""
PATIENCE = 60
"""Seconds on the clock: a start on a busy machine needs some of them."""
MEMORY = 1 << 30
"""Address space, bytes."""
LONGEST = 4 * 2**20
"""Bytes of what is told; more is nothing that a person reads."""
AT_ONCE = 2
"""Dry runs of one service; who comes then is asked to come again."""
_NO_ROOM = 3
_NEEDED = {"site", "hl7", "dicom", "orders", "patients", "recordings", "mapping", "cardio"}
_SECRET: Any = {"cardio": {"token": True, "destinations": {"__all__": {"token"}}}}
_HELD = "in service it would be tried three times, and then held for a person as poison"


class Busy(BridgeError):
    """Others are at it."""


class Stopped(BridgeError):
    """A dry run came to no end within its limits."""


@dataclass(frozen=True, slots=True)
class Given:
    """A file that is open, by its descriptor: it needs no name. `pasted` is text in UTF-8 from a form."""

    file: int
    pasted: bool = False


class Rehearsals:
    """The dry runs of one service, a few at a time."""

    def __init__(self) -> None:
        self._under_way = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place for one, taken before anything of it is read. Raises Busy."""
        if self._under_way >= AT_ONCE:
            raise Busy(f"{AT_ONCE} dry runs are under way; try again in a moment")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


async def rehearse(given: Sequence[Given], settings: Settings, *, listener: str, calling: str) -> list[dict[str, Any]]:
    """What each of these comes to, one after the other, as `bridge map --json` tells it (without the file's name).

    Raises Stopped, which says why and holds no value of what was given.
    """
    document = {
        "settings": settings.model_dump(mode="json", exclude_unset=True, include=_NEEDED, exclude=_SECRET),
        "listener": listener,
        "calling": calling,
        "given": [[one.file, one.pasted] for one in given],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge.rehearsal.apart",
        str(SECONDS),
        str(MEMORY),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a traceback can hold a patient's value
        env={name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")},
        pass_fds=[one.file for one in given],
    )
    try:
        async with asyncio.timeout(PATIENCE):
            told = await _talk(process, json.dumps(document).encode())
            code = await process.wait()
    except TimeoutError as cause:
        raise Stopped(f"it came to no end within {PATIENCE} seconds; {_HELD}") from cause
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        raise Stopped(f"{_why(code)}; {_HELD}")
    found: list[dict[str, Any]] = json.loads(told)
    return found


async def _talk(process: asyncio.subprocess.Process, document: bytes) -> bytes:
    """It reads all before it says anything. Raises Stopped where it says too much."""
    if process.stdin is None or process.stdout is None:
        return b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(document)
        await process.stdin.drain()
    process.stdin.close()
    told = bytearray()
    while part := await process.stdout.read(65536):
        told += part
        if len(told) > LONGEST:
            raise Stopped(f"what came of it is longer than {LONGEST >> 20} MiB; `bridge map` shows it")
    return bytes(told)


def _why(code: int) -> str:
    if code < 0:
        return f"it took more than {SECONDS} seconds of processor time, or ended its process"
    if code == _NO_ROOM:
        return f"it took more than {MEMORY >> 20} MiB of memory"
    return "the bridge's own rules failed on it"


def main(seconds: str, memory: str) -> None:
    """The dry run itself: no store, no network, nothing written."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    document = json.load(sys.stdin.buffer)
    settings = Settings.model_validate(document["settings"])
    run = DryRun(rules_in_force(settings), settings, SystemClock(), document["listener"])
    told = [_of(run, file, document["calling"], pasted=pasted) for file, pasted in document["given"]]
    sys.stdout.buffer.write(json.dumps(told, ensure_ascii=False).encode())


def _of(run: DryRun, descriptor: int, calling: str, *, pasted: bool) -> dict[str, Any]:
    path = Path(f"/proc/self/fd/{descriptor}")  # opened anew, from its beginning (proc(5))
    if not pasted:
        return run.of(path, calling)
    return run.file(unframed(as_sent(path.read_bytes().decode())))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MemoryError:
        sys.exit(_NO_ROOM)
