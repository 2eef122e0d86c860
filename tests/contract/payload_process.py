"""A process as far as payloads go: `python -m tests.contract.payload_process MODE`, its settings on standard input.

It tells each name once it is kept, as the row behind it would, and lets go of it then.
"""

import json
import os
import sys
from pathlib import Path

from bridge.store.payloads import Payloads, payloads_for
from bridge.store_settings import StoreSettings

BLOCK = 1 << 20
SAME = 40
"""Contents that every process keeps."""
LONG = 200
"""MiB of the long object."""


def main() -> None:
    """Keep what the mode says."""
    settings = StoreSettings.model_validate_json(sys.stdin.readline())
    payloads = payloads_for(settings)
    payloads.open()
    _tell("ready")
    sys.stdin.readline()
    {"same": _same, "ever": _ever, "long": _long}[sys.argv[1]](payloads)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _keep(payloads: Payloads, content: bytes) -> None:
    file = payloads.incoming()
    file.write(content)
    name, _ = file.keep()
    _tell(name)
    file.close()


def _same(payloads: Payloads) -> None:
    """The same contents as everybody, in the same order."""
    for number in range(SAME):
        _keep(payloads, f"ecg {number} ".encode() * 1000)


def _ever(payloads: Payloads) -> None:
    """New contents until somebody ends it."""
    while True:
        _keep(payloads, os.urandom(200_000))


def _long(payloads: Payloads) -> None:
    """One that no memory should have to hold, there and back; the most memory before it, behind it, and behind its
    way back, KiB.
    """
    peaks = [_most()]
    file = payloads.incoming()
    block = os.urandom(BLOCK)
    for number in range(LONG):
        file.write(number.to_bytes(4, "big") + block[4:])
    name, _ = file.keep()
    file.close()
    peaks.append(_most())
    size = 0
    with payloads.at_hand(name) as path, path.open("rb") as content:
        while read := content.read(BLOCK):
            size += len(read)
    peaks.append(_most())
    _tell(json.dumps({"size": size, "peaks": peaks}))


def _most() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


if __name__ == "__main__":
    main()
