"""The bridge as a process of its own, the sandbox API as another, and a HIS that sends until it is answered."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.scene import on_loopback, order


def settings(folder: Path, address: str, **more: str) -> dict[str, str]:
    """Settings of a bridge with its store in that folder and that API; `more` are its own."""
    return {
        **on_loopback(folder),
        "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
        "BRIDGE_CARDIO__BASE_URL": address,
        "BRIDGE_CARDIO__ORGANIZATION_PATH": "sandbox-hospital",
        "BRIDGE_CARDIO__TOKEN": "sandbox-token",
        **more,
    }


class Service:
    """`bridge run` as a process of its own, on one port that stays the same."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start and wait for `ready`."""
        command = [sys.executable, "-c", "from bridge.cli import main; main()", "run", "--log-level", "warning"]
        # A command that a test ran beside others may have left its settings here: click's runner sets and resets them.
        others = {k: v for k, v in os.environ.items() if not (k.startswith("BRIDGE_") and "__" in k)}
        environment = {**others, **self._environment}
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
