"""C-STORE beside DCMTK's storescp, Orthanc and pynetdicom; and the whole way to a task beside a naive bridge.

Our rows of C-STORE are of the door: the API is away meanwhile, so what is measured is custody (file and row on stable
storage) and the reading that follows it, in the same process. The whole way is measured by itself.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bridge.sandbox.ecg_object import Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from tests.bench.dicom_load import Load, send, wire
from tests.bench.dicom_peers import Receiver, have, orthanc, pynetdicom, storescp
from tests.bench.processes import BRIDGE, Process, sandbox, settings
from tests.bench.report import row, verdict

START = datetime(2026, 3, 1, tzinfo=UTC)
CASES = [
    ("one association", 1, False),
    ("an association each", 1, True),
    ("8 associations", 8, False),
    ("8 carts, an association each", 8, True),
]
BARS: list[dict[str, float]] = [
    {"Orthanc": 4, "pynetdicom": 4},
    {"Orthanc": 2, "pynetdicom": 5},
    {"Orthanc": 5, "storescp": 0.7},
    {"Orthanc": 2},
]
AWAY = "http://127.0.0.1:9"


def objects(folder: Path, name: str, count: int) -> list[bytes]:
    """C-STOREs of ECG objects of about 125 KB, each with a UID of its own."""
    signal_ = ecg(seconds=10, rate=500, seed=1)
    path = folder / f"{name}.dcm"
    made = []
    for number in range(count):
        subject = Subject(f"C{number}", "Muster^Max", "19700131", "M")
        write(path, build(signal_, rate=500, seed=f"{name}{number}", subject=subject, start=START))
        made.append(wire(path))
    return made


@contextlib.contextmanager
def bridge(folder: Path, api: str = AWAY) -> Iterator[Receiver]:
    """A bridge on fresh stores."""
    folder.mkdir()
    process = Process([*BRIDGE, "run", "--log-level", "error"], settings(folder, api), until="ready")
    try:
        yield Receiver(process.address("dicom"), "CARDIOBRIDGE", process)
    finally:
        process.end()


def receivers() -> dict[str, Callable[[Path], AbstractContextManager[Receiver]]]:
    """Those that are here, ourselves last."""
    found: dict[str, Callable[[Path], AbstractContextManager[Receiver]]] = {}
    if have("storescp"):
        found["storescp"] = storescp
    if have("Orthanc"):
        found["Orthanc"] = orthanc
    found["pynetdicom"] = pynetdicom
    found["bridge"] = bridge
    return found


def bench(folder: Path, count: int) -> None:
    """Every case with every receiver, each time a fresh one: none works off the case before meanwhile."""
    batches = [objects(folder, f"case{n}", count) for n in range(len(CASES))]
    loads: dict[str, list[Load]] = {}
    for name, start in receivers().items():
        peaks = []
        for number, (batch, (_, carts, each)) in enumerate(zip(batches, CASES, strict=True)):
            with start(folder / f"{name}-{number}") as up:
                loads.setdefault(name, []).append(send(up.address, up.called, batch, carts, each=each))
                peaks.append(up.process.peak())
        row(f"{name}, peak memory after C-STORE", f"{max(peaks):.0f} MB")
    for number, (case, _, _) in enumerate(CASES):
        ours = loads["bridge"][number]
        ratios = {name: ours.rate / load[number].rate for name, load in loads.items() if name != "bridge"}
        beside = ", ".join(f"{ratio:.2f} x {name} ({loads[name][number].rate:.0f})" for name, ratio in ratios.items())
        bars = {name: bar for name, bar in BARS[number].items() if name in ratios}
        row(
            f"C-STORE 125 KB, {case}",
            f"{ours.rate:.0f} objects/s, p99 {ours.p99 * 1000:.1f} ms; {beside}",
            ", ".join(f"{bar:g} x {name}" for name, bar in bars.items()),
            verdict(*((ratios[name], bar) for name, bar in bars.items())) if bars else "",
        )
        if number == 1 and "Orthanc" in loads:
            theirs = loads["Orthanc"][number].p99
            reached = verdict((ours.p99, theirs), most=True)
            row("  p99 beside Orthanc's", f"{ours.p99 * 1000:.1f} / {theirs * 1000:.1f} ms", "below Orthanc's", reached)
    whole_way(folder, count)


def whole_way(folder: Path, count: int) -> None:
    """From the cart to the created task, one association."""
    rates: dict[str, float] = {}
    for name in ("naive", "bridge"):
        journal = folder / f"{name}.jsonl"
        journal.touch()
        api = sandbox(journal=journal)
        try:
            address = api.said["sandbox"].split()[0]
            batch = objects(folder, f"whole-{name}", count)
            environment = {"BRIDGE_CARDIO__BASE_URL": address, "BRIDGE_CARDIO__TOKEN": "sandbox-token"}
            start = partial(pynetdicom, name="naive", environment=environment) if name == "naive" else None
            place = folder / f"whole-{name}"
            with start(place) if start is not None else bridge(place, address) as up:
                began = time.perf_counter()
                send(up.address, up.called, batch, 1, each=False)
                while len(journal.read_text().splitlines()) < count:
                    time.sleep(0.02)
                rates[name] = count / (time.perf_counter() - began)
        finally:
            api.end()
    ratio = rates["bridge"] / rates["naive"]
    row(
        "C-STORE to task, the whole way, one association",
        f"{rates['bridge']:.0f} objects/s, {ratio:.2f} x a naive bridge ({rates['naive']:.0f})",
        "3 x the naive bridge",
        verdict((ratio, 3)),
    )
