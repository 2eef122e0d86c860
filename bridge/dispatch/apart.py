"""Messages tried in a process of their own, before they are read here (F28).

What an earlier run did not get past may have ended it: by memory without bounds, or by never coming back. `python -m
bridge.dispatch.apart` reads it under limits, and ends with 0 where that goes well.
"""

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.clock import SystemClock
from bridge.dispatch.understand import understand_message, understand_recording
from bridge.errors import BadInput
from bridge.formats.dicom.reader import read_object
from bridge.formats.hl7.limits import limits_of
from bridge.formats.hl7.reader import read
from bridge.mapping.in_force import rules_in_force
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store.line import Claimed
from bridge.store.payloads import Payloads

SECONDS = 10
"""Of CPU: what a message may cost does not depend on what else the machine does."""
PATIENCE = 60
"""Seconds on the clock, for a trial that waits for something. A start on a busy machine needs some of them."""
MEMORY = 1 << 30
"""Address space of the trial, bytes."""


async def survive(claimed: Sequence[Claimed], payloads: Payloads, settings: Settings) -> bool:
    """Whether all of these can be read within the limits. A message that is refused in good order survives.

    Raises StoreError where the payload store does not answer: that says nothing of the messages.
    """
    with contextlib.ExitStack() as stack:

        def paths() -> list[str]:
            return [str(stack.enter_context(payloads.at_hand(one.payload))) if one.payload else "" for one in claimed]

        try:
            return await _survive(claimed, await asyncio.to_thread(paths), settings)
        except OSError:  # no such payload
            return False


async def _survive(claimed: Sequence[Claimed], paths: Sequence[str], settings: Settings) -> bool:
    document = {
        "settings": settings.model_dump(
            mode="json", exclude_unset=True, exclude={"cardio", "console", "dicom", "store"}
        ),
        "messages": [
            {
                "kind": one.kind,
                "listener": one.listener,
                "sender": one.sender,
                "payload": path,
                "size": len(one.raw or b""),
            }
            for one, path in zip(claimed, paths, strict=True)
        ],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge.dispatch.apart",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    raw = b"".join(one.raw or b"" for one in claimed)
    try:
        async with asyncio.timeout(PATIENCE):
            await process.communicate(json.dumps(document).encode() + b"\n" + raw)
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
    rules = rules_in_force(settings)
    for one in document["messages"]:
        with contextlib.suppress(BadInput):
            _read(one, sys.stdin.buffer.read(one["size"]), rules, settings)


def _read(one: dict[str, Any], raw: bytes, rules: Mapping[str, Rules], settings: Settings) -> None:
    own = rules.get(one["listener"]) or rules["hl7"]
    if one["kind"] == "dicom":
        understand_recording(read_object(Path(one["payload"])), one["sender"], own, settings)
        return
    listener = settings.hl7.all().get(one["listener"], settings.hl7).of_sender(one["sender"])
    message = read(raw, fallback_charset=listener.fallback_charset, most=limits_of(listener))
    understand_message(message, one["sender"], own, settings, SystemClock().now(), listener)


if __name__ == "__main__":
    main()
