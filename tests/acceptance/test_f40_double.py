"""F40: two services on one store, and one that was stopped in its tracks and goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from bridge.settings import load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance.process import Sender, Service, api, await_work, settings
from tests.ports import free_port

__all__ = ["api"]


@pytest.mark.timeout(240)
def test_f40_a_second_service_is_refused_also_while_the_first_one_is_stopped(
    tmp_path: Path, api: tuple[str, Path]
) -> None:
    """SIGSTOP is what a paused virtual machine looks like: its lock is held, and its POSTs are under way."""
    address, journal = api
    port = free_port()
    environment = settings(tmp_path, address, BRIDGE_HL7__LISTEN=f"127.0.0.1:{port}", BRIDGE_CARDIO__TIMEOUT="2")
    service = Service(environment, tmp_path / "service.log")
    stop = threading.Event()
    senders = [Sender(n, port, stop) for n in range(2)]
    service.start()
    for sender in senders:
        sender.start()
    assert service._process is not None
    for _ in range(3):
        await_work(senders)
        service._process.send_signal(signal.SIGSTOP)
        ran = subprocess.run(
            [sys.executable, "-c", "from bridge.cli import main; main()", "run"],
            env={**os.environ, **environment, "BRIDGE_HL7__LISTEN": "127.0.0.1:0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # which takes longer than a POST may
        service._process.send_signal(signal.SIGCONT)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "is held by another running bridge" in ran.stderr
    await_work(senders)
    stop.set()
    for sender in senders:
        sender.join(30)
    engine = reader_engine(load(None, environment).store.sqlite_path)
    patience = time.monotonic() + 60
    while True:
        with engine.connect() as conn:
            rows = listing.rows(conn, limit=100_000)
        if all(row.state in {"CREATED", "IN_DOUBT"} for row in rows) or time.monotonic() > patience:
            break
        time.sleep(0.05)
    engine.dispose()
    service.end(signal.SIGTERM)
    made = Counter(
        json.loads(line)["request"]["investigation_id"].removeprefix("ACC") for line in journal.read_text().splitlines()
    )
    assert [number for number, times in made.items() if times > 1] == []
    by_order = {row.order: row.state for row in rows}
    assert set(by_order.values()) <= {"CREATED", "IN_DOUBT"}
    acknowledged = [name for sender in senders for name in sender.acknowledged]
    assert not [name for name in acknowledged if name not in by_order]
    assert all(made[number] == 1 for number, state in by_order.items() if state == "CREATED")
