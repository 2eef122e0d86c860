"""C-STORE beside DCMTK's storescp, which keeps nothing safe."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from bridge.sandbox.dicom_sender import CartAssociation
from bridge.sandbox.ecg_object import Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from tests.bench.processes import Process, free_port, service, wait_for
from tests.bench.report import row, verdict

START = datetime(2026, 3, 1, tzinfo=UTC)


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


def bench(folder: Path, count: int) -> None:
    """Every case with both receivers."""
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
        wait_for(port)
        peer = [
            dicom_load(("127.0.0.1", port), batch, senders, each=each, called="PEER")
            for batch, (_, senders, each) in zip(batches, cases, strict=True)
        ]
        server.end()
    else:
        row("DCMTK storescp", "not installed: no ratio")
    with service(folder) as up:
        for number, (batch, (name, senders, each)) in enumerate(zip(batches, cases, strict=True)):
            rate = dicom_load(up.dicom, batch, senders, each=each, called="CARDIOBRIDGE")
            ratio = f", {rate / peer[number]:.2f} x storescp +B ({peer[number]:.0f}/s)" if peer else ""
            bar, reached = ("0.7 x storescp +B", verdict((rate / peer[2], 0.7))) if number == 2 and peer else ("", "")
            row(f"C-STORE 125 KB, {name}", f"{rate:.0f} objects/s{ratio}", bar, reached)
        row("bridge, peak memory after C-STORE", f"{up.bridge.peak():.0f} MB")
