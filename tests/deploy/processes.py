"""A bridge, or a part of it, as a process of its own that prints its addresses."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

RUN = [sys.executable, "-c", "from bridge.cli import main; main()"]


class Process:
    """It is ready when this is made, and ends on SIGTERM."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], log: Path) -> None:
        """`words` are the whole command."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("BRIDGE_")}
        self.environment = {**own, **environment}
        self.log = log
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [*words], env=self.environment, stdout=subprocess.PIPE, stderr=out, text=True
            )
        self.addresses: dict[str, str] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, _, address = line.strip().partition(" ")
            if name == "ready":
                return
            self.addresses[name] = address
        self.process.stdout.close()
        self.process.wait(30)
        pytest.fail(f"it did not start: {log.read_text()[-2000:]}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status; of one that has ended already as well."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(100)

    def asked(self, path: str) -> tuple[int, str]:
        """What its console's port answers: the status, and the body."""
        try:
            with urllib.request.urlopen(f"http://{self.addresses['console']}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()


def run(*words: str, environment: dict[str, str], status: int = 0) -> str:
    """A command of the bridge to its end; what it printed."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("BRIDGE_")}
    done = subprocess.run(
        [*RUN, *words], env={**own, **environment}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
