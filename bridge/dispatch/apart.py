"""A message tried in a process of its own, before it is read here once more (F28).

Whose reader has ended before may take memory without bounds, or never come back. `python -m bridge.dispatch.apart`
reads it under limits and ends with 0 where that goes well; a reader in this process does the same then.
"""

import asyncio
import contextlib
import json
import resource
import sys
from pathlib import Path

from bridge.clock import SystemClock
from bridge.dispatch.understand import understand_message, understand_recording
from bridge.errors import BadInput
from bridge.formats.dicom.reader import read_object
from bridge.formats.hl7.limits import limits_of
from bridge.formats.hl7.reader import read
from bridge.mapping.in_force import rules_in_force
from bridge.settings import Settings
from bridge.store.line import Claimed

SECONDS = 10
MEMORY = 1 << 30
"""Address space of the trial, bytes."""


async def survives(claimed: Claimed, payload: Path | None, settings: Settings) -> bool:
    """Whether the message can be read within the limits. A message that is refused in good order survives."""
    document = {
        "kind": claimed.kind,
        "listener": claimed.listener,
        "sender": claimed.sender,
        "payload": str(payload) if payload else "",
        "settings": settings.model_dump(mode="json", exclude={"cardio", "console", "dicom", "store"}),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge.dispatch.apart",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS):
            await process.communicate(json.dumps(document).encode() + b"\n" + (claimed.raw or b""))
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        return False
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode == 0


def main() -> None:
    """The trial itself: no store, no network, nothing written."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    document = json.loads(sys.stdin.buffer.readline())
    settings = Settings.model_validate(document["settings"])
    rules = rules_in_force(settings)[document["listener"] if document["listener"] in settings.hl7.all() else "hl7"]
    with contextlib.suppress(BadInput):
        if document["kind"] == "dicom":
            understand_recording(read_object(Path(document["payload"])), document["sender"], rules, settings)
            return
        listener = settings.hl7.all().get(document["listener"], settings.hl7).of_sender(document["sender"])
        message = read(sys.stdin.buffer.read(), fallback_charset=listener.fallback_charset, most=limits_of(listener))
        understand_message(message, document["sender"], rules, settings, SystemClock().now(), listener)


if __name__ == "__main__":
    main()
