"""`make bench`: everything in one run on this machine, each figure as a ratio with a peer of the same run.

Bars are those that the project has set itself; a figure below its bar is printed as such, not hidden.
"""

import argparse
import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.wfdb import write_archive
from bridge.sandbox.dicom_sender import CartAssociation
from bridge.sandbox.ecg_object import Subject, build, write
from bridge.sandbox.ecg_signal import ecg

START = datetime(2026, 3, 1, tzinfo=UTC)
BRIDGE = [sys.executable, "-c", "from bridge.cli import main; main()"]


def order(number: int, lane: int) -> bytes:
    """An ORM^O01 of about 1 KB with a number of its own."""
    padding = "\r".join(f"NTE|{n}||{'invented remark ' * 6}" for n in range(1, 6))
    return (
        f"MSH|^~\\&|HIS|BENCH|CARDIO|BRIDGE|20260301120000+0100||ORM^O01|B{lane}N{number}|P|2.3.1\r"
        f"PID|1||{lane}{number % 50:03}^^^BENCH^MR||Muster^Max||19700131|M\r"
        f"PV1|1|I|WARD^1^2\rORC|NW|B{lane}N{number}^HIS\r"
        f"OBR|1|B{lane}N{number}^HIS||93000^12-lead ECG^CPT||||||||||||||A{lane}N{number}\r{padding}\r"
    ).encode()


def admission(number: int, lane: int) -> bytes:
    """An ADT^A08 of about 1 KB."""
    padding = "\r".join(f"NTE|{n}||{'invented remark ' * 6}" for n in range(1, 7))
    return (
        f"MSH|^~\\&|HIS|BENCH|CARDIO|BRIDGE|20260301120000+0100||ADT^A08|D{lane}N{number}|P|2.5\rEVN|A08\r"
        f"PID|1||{lane}{number % 50:03}^^^BENCH^MR||Muster^Max||19700131|M\r{padding}\r"
    ).encode()


def free_port() -> int:
    """A port that is free right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A server of the benchmark, ended by its own id."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None, until: str = "") -> None:
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.said: dict[str, str] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout if until else ():
            name, _, rest = line.strip().partition(" ")
            self.said[name] = rest
            if name == until:
                break

    def peak(self) -> float:
        """Peak resident memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def end(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[tuple[Process, tuple[str, int], tuple[str, int]]]:
    """A sandbox API and a bridge, each a process of its own, on fresh stores."""
    api = Process([*BRIDGE, "sandbox", "--listen", "127.0.0.1:0"], until="sandbox")
    bridge = Process(
        [*BRIDGE, "run", "--log-level", "error"],
        {
            "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
            "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
            "BRIDGE_STORE__MIN_FREE": "64 MiB",
            "BRIDGE_HL7__LISTEN": "127.0.0.1:0",
            "BRIDGE_HL7__REPLY_BUDGET": "30",
            "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
            "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
            "BRIDGE_CARDIO__BASE_URL": api.said["sandbox"].split()[0],
            "BRIDGE_CARDIO__ORGANIZATION_PATH": "sandbox-hospital",
            "BRIDGE_CARDIO__TOKEN": "sandbox-token",
        },
        until="ready",
    )

    def address(name: str) -> tuple[str, int]:
        host, _, port = bridge.said[name].rpartition(":")
        return host, int(port)

    try:
        yield bridge, address("hl7"), address("dicom")
    finally:
        bridge.end()
        api.end()


async def hl7_load(
    address: tuple[str, int], connections: int, count: int, make: Callable[[int, int], bytes], base: int, need: bytes
) -> tuple[float, float, float]:
    """Messages/s, p50 and p99 in ms, each connection sending its next message when it has its answer."""
    times: list[float] = []

    async def one(lane: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for number in range(count // connections):
            began = time.perf_counter()
            writer.write(b"\x0b" + make(number, base + lane) + b"\x1c\r")
            answer = await reader.readuntil(b"\x1c\r")
            times.append(time.perf_counter() - began)
            if need not in answer:
                raise SystemExit(f"not the answer that the benchmark needs: {answer[:400]!r}")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(n) for n in range(connections)))
    took = time.perf_counter() - began
    times.sort()
    return len(times) / took, statistics.median(times) * 1000, times[int(len(times) * 0.99) - 1] * 1000


def hl7apy_rate(count: int = 60) -> float:
    """Messages/s of hl7apy's own server with its parse, one connection a message."""
    script = (
        "import sys\nfrom hl7apy.mllp import MLLPServer, AbstractHandler\nfrom hl7apy.parser import parse_message\n"
        "class H(AbstractHandler):\n"
        " def reply(self):\n"
        "  m = parse_message(self.incoming_message)\n"
        "  return '\\x0bMSH|^~\\\\&|||||||ACK|1|P|2.3.1\\rMSA|AA|' + m.msh.msh_10.value + '\\r\\x1c\\r'\n"
        "s = MLLPServer('127.0.0.1', int(sys.argv[1]), {'ORM^O01': (H,)})\nprint('up', flush=True)\ns.serve_forever()\n"
    )
    port = free_port()
    server = Process([sys.executable, "-c", script, str(port)], until="up")
    try:
        began = time.perf_counter()
        for number in range(count):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(b"\x0b" + order(number, 0) + b"\x1c\r")
                while not (part := sock.recv(65536)).endswith(b"\x1c\r"):
                    if not part:
                        raise SystemExit("hl7apy's server closed without an answer")
        return count / (time.perf_counter() - began)
    finally:
        server.end()


def objects(folder: Path, count: int) -> list[Path]:
    """ECG objects of about 125 KB, each with a UID of its own."""
    signal_ = ecg(seconds=10, rate=500, seed=1)
    made = []
    for number in range(count):
        path = folder / f"o{number}.dcm"
        subject = Subject(f"C{number}", "Muster^Max", "19700131", "M")
        write(path, build(signal_, rate=500, seed=f"{folder.name}{number}", subject=subject, start=START))
        made.append(path)
    return made


def dicom_load(address: tuple[str, int], paths: list[Path], senders: int, *, each: bool, called: str) -> float:
    """Objects/s; `each`: an association an object, as carts do."""
    shares = [paths[n::senders] for n in range(senders)]

    def share(mine: list[Path]) -> None:
        if not each:
            with CartAssociation(*address, mine[:1], called=called) as cart:
                for number, path in enumerate(mine):
                    assert cart.store(path, message_id=number + 1).status == 0
            return
        for path in mine:
            with CartAssociation(*address, [path], called=called) as cart:
                assert cart.store(path).status == 0

    began = time.perf_counter()
    with ThreadPoolExecutor(senders) as pool:
        list(pool.map(share, shares))
    return len(paths) / (time.perf_counter() - began)


def row(what: str, figure: str, bar: str = "", reached: str = "") -> None:
    """One line of the table."""
    print(f"{what:<58} {figure:<44} {bar:<34} {reached}", flush=True)


def verdict(value: float, bar: float, *, most: bool = False) -> str:
    """Whether the bar is reached."""
    return "reached" if (value <= bar if most else value >= bar) else "BELOW"


async def bench_hl7(folder: Path, count: int) -> None:
    """HL7 messages with task ids, and ADT."""
    naive = hl7apy_rate()
    row("hl7apy MLLPServer + parse, 1 connection a message", f"{naive:.0f} msg/s")
    with service(folder) as (bridge, hl7, _):
        await hl7_load(hl7, 2, 100, order, 900, b"task=")
        for number, connections in enumerate((1, 8, 64)):
            rate, p50, p99 = await hl7_load(hl7, connections, count, order, 100 * (number + 1), b"task=")
            figure = f"{rate:.0f} msg/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {rate / naive:.1f}x"
            bar, reached = {
                1: ("p50 <= 4 ms", verdict(p50, 4, most=True)),
                8: ("15x hl7apy, p50 <= 16 ms", verdict(min(rate / naive / 15, 16 / p50), 1)),
            }.get(connections, ("", ""))
            row(f"ORM -> ORR with task id, {connections} connections", figure, bar, reached)
        for number, connections in enumerate((1, 8, 64)):
            rate, p50, p99 = await hl7_load(hl7, connections, count, admission, 100 * (number + 5), b"MSA|AA")
            row(f"ADT -> AA, {connections} connections", f"{rate:.0f} msg/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        row("bridge, peak memory after HL7", f"{bridge.peak():.0f} MB")


def bench_dicom(folder: Path, count: int) -> None:
    """C-STORE beside DCMTK's storescp, which keeps nothing safe."""
    paths = objects(folder, count * 4)
    batches = [paths[n * count : (n + 1) * count] for n in range(4)]
    cases = [
        ("one association", 1, False),
        ("an association each", 1, True),
        ("8 associations", 8, False),
        ("8 carts, an association each", 8, True),
    ]
    peer: list[float] = []
    program = shutil.which("storescp")
    if program:
        port, kept = free_port(), folder / "storescp"
        kept.mkdir()
        os.environ["TCP_NODELAY"] = "1"
        # +B keeps the bytes; --fork serves several carts at once
        server = Process([program, "+B", "--fork", "-od", str(kept), "-aet", "PEER", str(port)])
        _wait_for(port)
        peer = [
            dicom_load(("127.0.0.1", port), batch, senders, each=each, called="PEER")
            for batch, (_, senders, each) in zip(batches, cases, strict=True)
        ]
        server.end()
    else:
        row("DCMTK storescp", "not installed: no ratio")
    with service(folder) as (bridge, _, dicom):
        for number, (batch, (name, senders, each)) in enumerate(zip(batches, cases, strict=True)):
            rate = dicom_load(dicom, batch, senders, each=each, called="CARDIOBRIDGE")
            ratio = f", {rate / peer[number]:.2f} x storescp +B ({peer[number]:.0f}/s)" if peer else ""
            bar, reached = ("0.7 x storescp +B", verdict(rate / peer[2], 0.7)) if number == 2 and peer else ("", "")
            row(f"C-STORE 125 KB, {name}", f"{rate:.0f} objects/s{ratio}", bar, reached)
        row("bridge, peak memory after C-STORE", f"{bridge.peak():.0f} MB")


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit("the peer did not start")


def bench_transcode(folder: Path) -> None:
    """The upload file beside a plain copy with its hash."""
    for name, seconds, rounds, growth in (("10 s x 12 leads", 10, 50, False), ("2 h x 12 leads", 7200, 3, True)):
        beat = ecg(seconds=10, rate=500, seed=2)
        signal_ = beat if seconds == 10 else np.tile(beat, (seconds // 10, 1))
        path = folder / f"t{seconds}.dcm"
        write(path, build(signal_, rate=500, seed=name, subject=Subject("1", "Muster^Max"), start=START))
        size = path.stat().st_size / 1e6
        group = read_object(path).recording.rhythm()
        copy, own = [], []
        for _ in range(rounds):
            copy.append(_timed(partial(_plain_copy, path, folder / "copy")))
            own.append(_timed(partial(_transcode, path, group, folder / "out.zip")))
        ratio = statistics.median(own) / statistics.median(copy)
        row(
            f"transcode {name} ({size:.1f} MB)",
            f"{size / statistics.median(own):.0f} MB/s, {ratio:.1f} x a plain copy with hash",
            "2.5 x a plain copy",
            verdict(ratio, 2.5, most=True),
        )
        if growth:
            _growth(path)


def _growth(path: Path) -> None:
    """Memory that transcoding adds, in a process of its own."""
    script = (
        "import io,sys,tempfile\nfrom pathlib import Path\n"
        "from bridge.formats.dicom.reader import read_object\nfrom bridge.formats.ecg.wfdb import write_archive\n"
        "def rss():\n return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])/1024\n"
        "small, big = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "def run(p):\n"
        "  g = read_object(p).recording.rhythm()\n"
        "  with p.open('rb') as f, tempfile.TemporaryFile() as o: write_archive(g, f, o, record='r1')\n"
        "run(small); a = rss(); run(big); print('grown', rss() - a)\n"
    )
    small = path.with_name("t10.dcm")
    process = Process([sys.executable, "-c", script, str(small), str(path)], until="grown")
    process.process.wait(60)
    grown = float(process.said["grown"])
    row(
        f"transcode, memory added by {path.stat().st_size / 1e6:.0f} MB",
        f"{grown:.0f} MB",
        "16 MB",
        verdict(grown, 16, most=True),
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _plain_copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as file, target.open("wb") as out:
        while block := file.read(1 << 20):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _transcode(path: Path, group: object, target: Path) -> None:
    with path.open("rb") as payload, target.open("w+b") as out:
        write_archive(group, payload, out, record="bench")  # type: ignore[arg-type]


def fdatasync_rate() -> float:
    """Durable writes/s of this disk, the measure that every durable figure stands beside."""
    with tempfile.NamedTemporaryFile(dir=".") as file:
        began = time.perf_counter()
        for _ in range(500):
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
        return 500 / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000, help="HL7 messages a case")
    parser.add_argument("--objects", type=int, default=200, help="DICOM objects a case")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    row("4 KB appended and fdatasynced", f"{fdatasync_rate():.0f}/s")
    # never deleted between the cases: mass deletion slows the creation of files down for half a minute
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as scratch:
        for name, work in (
            ("hl7", lambda f: asyncio.run(bench_hl7(f, given.messages))),
            ("dicom", lambda f: bench_dicom(f, given.objects)),
            ("transcode", bench_transcode),
        ):
            folder = Path(scratch).resolve() / name
            folder.mkdir()
            work(folder)


if __name__ == "__main__":
    main()
