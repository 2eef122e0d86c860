"""F7, F10, F11: the bridge is killed at random instants while senders resend; three journals are compared."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.settings import load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance.scene import order

KILLS = int(os.environ.get("BRIDGE_KILLS", "25"))


class Service:
    """`bridge run` as a process of its own, on one port that stays the same."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start and wait for `ready`."""
        command = [sys.executable, "-c", "from bridge.cli import main; main()", "run", "--log-level", "warning"]
        environment = {**os.environ, **self._environment}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "ready":
                return
        pytest.fail(f"the service did not start: {self._log.read_text()[-2000:]}")

    def end(self, number: signal.Signals) -> None:
        """Signal it and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(100)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Sender(threading.Thread):
    """A HIS that sends its orders one after the other and sends again until it has a positive answer."""

    def __init__(self, number: int, port: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._port, self._over = number, port, stop
        self.acknowledged: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            name = f"S{self._number}N{count}"
            body = order(f"C{name}", name, patient=f"P{self._number}{count % 7}").encode()
            while True:
                answer = self._once(body)
                if b"MSA|AA|" in answer:
                    self.acknowledged.append(name)
                    break
                if b"MSA|" in answer:
                    self.refused.append(name)
                    break
                if self._over.is_set():
                    return
                time.sleep(0.02)

    def _once(self, body: bytes) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=10) as sock:
                sock.sendall(b"\x0b" + body + b"\x1c\r")
                answer = b""
                while not answer.endswith(b"\x1c\r"):
                    part = sock.recv(65536)
                    if not part:
                        return b""
                    answer += part
                return answer
        except OSError:
            return b""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def await_work(senders: list[Sender]) -> None:
    """Until somebody is answered: however slow the machine is, a service that answers nobody is as good as down."""
    before = sum(len(sender.acknowledged) for sender in senders)
    patience = time.monotonic() + 30
    while sum(len(sender.acknowledged) for sender in senders) == before:
        assert time.monotonic() < patience, "nobody was answered"
        time.sleep(0.01)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The sandbox API as a process of its own, with its journal on disk."""
    journal = tmp_path / "api.jsonl"
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "sandbox", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*command, "--journal", str(journal)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = next(line.split()[1] for line in process.stdout if line.startswith("sandbox "))
    yield address, journal
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_f10_killed_at_random_instants_nothing_is_lost_and_nothing_is_twice(
    tmp_path: Path, api: tuple[str, Path]
) -> None:
    address, journal = api
    port = free_port()
    environment = {
        "BRIDGE_STORE__URL": f"sqlite:///{tmp_path}/bridge.db",
        "BRIDGE_STORE__PAYLOADS": f"{tmp_path}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
        "BRIDGE_HL7__LISTEN": f"127.0.0.1:{port}",
        "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
        "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
        "BRIDGE_CARDIO__BASE_URL": address,
        "BRIDGE_CARDIO__ORGANIZATION_PATH": "sandbox-hospital",
        "BRIDGE_CARDIO__TOKEN": "sandbox-token",
    }
    service = Service(environment, tmp_path / "service.log")
    dice = random.Random(20260301)
    stop = threading.Event()
    senders = [Sender(n, port, stop) for n in range(4)]
    service.start()
    for sender in senders:
        sender.start()
    for kill in range(KILLS):
        if kill % 3:  # in the middle of its work; else while it takes up what the kill before left
            await_work(senders)
        time.sleep(dice.uniform(0.0, 0.4))
        service.end(signal.SIGKILL)
        service.start()
    stop.set()
    for sender in senders:
        sender.join(30)
    time.sleep(1)
    service.end(signal.SIGTERM)

    acknowledged = [name for sender in senders for name in sender.acknowledged]
    created = [json.loads(line) for line in journal.read_text().splitlines()]
    by_order: dict[str, int] = {}
    for entry in created:
        number = entry["request"]["investigation_id"].removeprefix("ACC")
        by_order[number] = by_order.get(number, 0) + 1
    engine = reader_engine(load(None, environment).store.sqlite_path)
    with engine.connect() as conn:
        rows = {r.order: r for r in listing.rows(conn, limit=1_000_000)}
    engine.dispose()

    assert not [s.refused for s in senders if s.refused]
    lost = [n for n in acknowledged if n not in rows or (rows[n].state != "IN_DOUBT" and not rows[n].task_ids)]
    unfinished = [r.order for r in rows.values() if r.state not in {"CREATED", "IN_DOUBT"}]
    twice = [n for n, times in by_order.items() if times > 1]
    in_doubt = [r.order for r in rows.values() if r.state == "IN_DOUBT"]
    print(
        f"{KILLS} kills: acknowledged {len(acknowledged)}, created {len(created)}, in doubt {len(in_doubt)}, "
        f"lost {len(lost)}, unfinished {len(unfinished)}, twice {len(twice)}"
    )
    assert len(acknowledged) > KILLS
    assert (lost, twice) == ([], [])
    assert set(unfinished) <= {n for n in rows if n not in acknowledged}
    assert all(by_order.get(n, 0) == 1 for n, r in rows.items() if r.state == "CREATED")
