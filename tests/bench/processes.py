"""The benchmark's processes: started, asked what they cost, ended by their own id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BRIDGE = [sys.executable, "-c", "from bridge.cli import main; main()"]
_TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that is free right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit("the peer did not start")


class Process:
    """A process of the benchmark. `said` holds what it printed up to its line `until`: first word → the rest."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None = None, until: str = "") -> None:
        self.process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True
        )
        self.said: dict[str, str] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout if until else ():
            name, _, rest = line.strip().partition(" ")
            self.said[name] = rest
            if name == until:
                break

    def address(self, name: str) -> tuple[str, int]:
        """An address that it printed."""
        host, _, port = self.said[name].split()[0].removeprefix("http://").rpartition(":")
        return host, int(port)

    def peak(self) -> float:
        """Peak resident memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by thread name."""
        return cpu_by_thread(self.process.pid)

    def end(self) -> None:
        """Stop it, if it is not stopped already."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_by_thread(pid: int) -> dict[str, float]:
    """Seconds of CPU of each thread of a process, user and system, by its number; `all` is the process."""
    spent: dict[str, float] = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # nanoseconds on a CPU; the ticks of `stat` are ten times coarser than a short run needs
        spent[thread.name] = int((thread / "schedstat").read_text().split()[0]) / 1e9
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    spent["all"] = (int(ticks[11]) + int(ticks[12])) / _TICK
    return spent


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and its children, those that ended as well."""
    found = {int(p.name): _stat(p) for p in Path("/proc").iterdir() if p.name.isdecimal()}
    own = found[pid]
    alive = [stat for stat in found.values() if stat and int(stat[1]) == pid]
    ticks = [*own[11:15], *(tick for stat in alive for tick in stat[11:13])]
    return sum(map(int, ticks)) / _TICK


def _stat(process: Path) -> list[str]:
    """What proc(5) says of it from its state on; nothing where it is gone meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return (process / "stat").read_text().rsplit(")", 1)[1].split()
    return []


@dataclass(frozen=True, slots=True)
class Service:
    """A bridge and the API that it works for."""

    bridge: Process
    api: Process

    @property
    def hl7(self) -> tuple[str, int]:
        return self.bridge.address("hl7")

    @property
    def dicom(self) -> tuple[str, int]:
        return self.bridge.address("dicom")


def sandbox(latency: float = 0.0, port: int = 0, journal: Path | None = None) -> Process:
    """The Cardio API of the sandbox, each of whose calls takes so many seconds; `journal` gets a line a task."""
    more = ["--journal", str(journal)] if journal else []
    command = [*BRIDGE, "sandbox", "--listen", f"127.0.0.1:{port}", "--latency", str(latency), *more]
    return Process(command, until="sandbox")


def settings(folder: Path, api: str) -> dict[str, str]:
    """The environment of a bridge with fresh stores in that folder."""
    return {
        "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
        "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
        "BRIDGE_STORE__MIN_FREE": "64 MiB",
        "BRIDGE_HL7__LISTEN": "127.0.0.1:0",
        "BRIDGE_HL7__REPLY_BUDGET": "30",
        "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
        "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
        "BRIDGE_CARDIO__BASE_URL": api,
        "BRIDGE_CARDIO__ORGANIZATION_PATH": "sandbox-hospital",
        "BRIDGE_CARDIO__TOKEN": "sandbox-token",
    }


@contextlib.contextmanager
def service(folder: Path, *, latency: float = 0.0, port: int = 0) -> Iterator[Service]:
    """A sandbox API (on a port of your choice) and a bridge, each a process of its own, on fresh stores."""
    folder.mkdir(parents=True, exist_ok=True)
    api = sandbox(latency, port)
    try:
        bridge = Process([*BRIDGE, "run", "--log-level", "error"], settings(folder, api.said["sandbox"]), until="ready")
        try:
            yield Service(bridge, api)
        finally:
            bridge.end()
    finally:
        api.end()
