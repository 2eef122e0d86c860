"""A process that has read all of the bridge's code already, and forks a service at a word: a start in a tenth of the
time, so that a thousand kills take minutes. What is killed is a process like any other.

It hears JSON lines: `{"start": arguments, "environment": …, "out": path, "log": path, "before": "module:function"}`
is answered by the child's pid, `{"wait": pid}` by its exit status, once it is gone and everything it held is free,
`{"look": pid}` by the same, or null where it is up. Its own end takes its children with it.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READ = (
    "uvloop",
    "bridge.app",
    "bridge.logs",
    "bridge.cli.run_command",
    "bridge.cli.sandbox_command",
    "bridge.sandbox.cardio_api",
    "alembic.runtime.migration",
)


class Nursery:
    """The campaign's end of it."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", "from tests.campaign.nursery import main; main()"]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads would not outlive a fork
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(
        self, arguments: list[str], environment: Mapping[str, str], out: Path, log: Path, before: str = ""
    ) -> int:
        """The pid of `bridge` with these arguments. `before` names a function that is called in it first."""
        asked = {"start": arguments, "environment": dict(environment), "out": str(out), "log": str(log)}
        return int(self._ask({**asked, "before": before}))

    def wait(self, pid: int) -> int:
        """Its exit status, negative for a signal; it is gone then."""
        return int(self._ask({"wait": pid}))

    def look(self, pid: int) -> int | None:
        """Its exit status where it has ended by itself; None: it is up."""
        told: int | None = json.loads(self._ask({"look": pid}))
        return told

    def _ask(self, asked: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        if not told:
            raise RuntimeError("the nursery has ended; its error stands above")
        return told

    def close(self) -> None:
        """End it, and what it started."""
        with self._process:  # which closes the pipes and waits
            pass


def main() -> None:
    """Until its standard input ends, or whoever started it does."""
    _end_with_parent()
    for name in READ:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    children: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        pid: int = asked.get("wait", asked.get("look", 0))
        if pid:
            gone, status = os.waitpid(pid, 0 if "wait" in asked else os.WNOHANG)
            children.discard(gone)
            print(os.waitstatus_to_exitcode(status) if gone else "null", flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _be(asked)
        children.add(pid)
        print(pid, flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be(asked: dict[str, Any]) -> None:
    """The child: its own output, its own environment, then the command. Does not come back."""
    _end_with_parent()
    os.setsid()
    os.environ.update(asked["environment"])
    _to(0, "/dev/null", os.O_RDONLY)
    _to(1, asked["out"], os.O_WRONLY)
    _to(2, asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.argv = ["bridge", *asked["start"]]
    try:
        module, _, function = asked["before"].partition(":")
        if module:
            getattr(importlib.import_module(module), function)()
        importlib.import_module("bridge.cli").main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    else:
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    """A campaign that is stopped leaves nothing behind (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _to(number: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, number)
    os.close(opened)
