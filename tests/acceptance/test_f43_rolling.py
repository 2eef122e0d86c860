"""F43: the service is told to end and started again, over and over, while senders go on.

`BRIDGE_RESTARTS=100 make test ARGS="-s tests/acceptance/test_f43_rolling.py"` does it a hundred times; three without.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance.process import Sender, Service, api, await_work, settings
from tests.acceptance.test_ecg_to_task import recording
from tests.ports import free_port

__all__ = ["api"]
SEND = [sys.executable, "-c", "from bridge.cli import main; main()", "send"]
QUIETLY: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
RESTARTS = int(os.environ.get("BRIDGE_RESTARTS", "3"))


class Cart(threading.Thread):
    """Sends its recordings one after the other, each until it is taken; a process each, as carts are."""

    def __init__(self, paths: list[Path], port: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._paths, self._port, self._over = paths, port, stop
        self.taken: list[str] = []
        self.sent = 0

    def run(self) -> None:
        for path in self._paths:
            while not self._over.is_set():
                self.sent += 1
                sent = subprocess.run([*SEND, path, "--to", f"127.0.0.1:{self._port}"], check=False, **QUIETLY)
                if sent.returncode == 0:
                    self.taken.append(path.stem)
                    break


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_f43_rolling_restarts_lose_nothing_double_nothing_and_leave_no_doubt(
    tmp_path: Path, api: tuple[str, Path]
) -> None:
    address, journal = api
    port, cart_port = free_port(), free_port()
    environment = settings(
        tmp_path, address, BRIDGE_HL7__LISTEN=f"127.0.0.1:{port}", BRIDGE_DICOM__LISTEN=f"127.0.0.1:{cart_port}"
    )
    (tmp_path / "objects").mkdir()
    paths = [recording(tmp_path / "objects", seed=f"n{n}") for n in range(4 * RESTARTS)]
    service = Service(environment, tmp_path / "service.log")
    dice = random.Random(20260302)
    stop = threading.Event()
    senders = [Sender(n, port, stop) for n in range(4)]
    cart = Cart(paths, cart_port, stop)
    service.start()
    for one in (*senders, cart):
        one.start()
    for _ in range(RESTARTS):
        await_work(senders)
        time.sleep(dice.uniform(0.0, 0.3))  # somewhere in the midst of their work
        assert service.end(signal.SIGTERM) is None
        service.start()
    await_work(senders)
    patience = time.monotonic() + 60
    while not cart.taken and time.monotonic() < patience:  # a process each: on a busy machine they come slowly
        time.sleep(0.05)
    stop.set()
    for one in (*senders, cart):
        one.join(30)
    engine = reader_engine(load(None, environment).store.sqlite_path)
    done = {"CREATED", "IN_DOUBT"}
    patience = time.monotonic() + 120
    while True:
        with engine.connect() as conn:
            rows = listing.rows(conn, limit=1_000_000)
        if all(row.state in done for row in rows) or time.monotonic() > patience:
            break
        time.sleep(0.05)
    engine.dispose()
    service.end(signal.SIGTERM)

    made = Counter(
        json.loads(line)["request"].get("searching_tags", ["none"])[0] for line in journal.read_text().splitlines()
    )
    by_order = {row.order: row for row in rows if row.kind == "hl7"}
    objects = [row for row in rows if row.kind == "dicom"]
    acknowledged = [name for sender in senders for name in sender.acknowledged]
    lost = [name for name in acknowledged if name not in by_order or not by_order[name].task_ids]
    print(
        f"{RESTARTS} restarts: orders acknowledged {len(acknowledged)}, objects taken {len(cart.taken)} of "
        f"{cart.sent} sent, tasks {sum(made.values())}, in doubt {sum(r.state == 'IN_DOUBT' for r in rows)}"
    )
    assert not [s.refused for s in senders if s.refused]
    assert lost == []
    assert len(objects) >= len(cart.taken) > 0
    assert [(r.state, r.reason) for r in rows if r.state != "CREATED"] == [], "no doubt comes of an orderly end"
    assert [tag for tag, times in made.items() if times > 1] == []
    assert sum(made.values()) == len(rows)
    assert len(acknowledged) > RESTARTS
