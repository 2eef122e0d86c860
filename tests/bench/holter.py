"""Long recordings: into the payload store beside storescp and Orthanc, and a whole day from door to door.

The day is 24 h of 12 channels at 1000 Hz: 2.07 GB. Its samples are made as they are sent, so no other copy exists.
"""

import os
import struct
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from bridge.sandbox.ecg_object import Subject, build
from bridge.sandbox.ecg_signal import ecg
from tests.bench.dicom import bridge, receivers
from tests.bench.dicom_load import AMBULATORY, PDU, Holter, send_holter
from tests.bench.processes import Process, sandbox
from tests.bench.report import row, verdict

RATE, CHANNELS = 1000, 12
START = datetime(2026, 3, 1, tzinfo=UTC)


def holter(seconds: int, seed: str) -> Holter:
    """A recording of so many seconds."""
    made = build(
        ecg(seconds=2, rate=RATE, seed=3), rate=RATE, seed=seed, subject=Subject("H1", "Muster^Max"), start=START
    )
    made.SOPClassUID = AMBULATORY
    made.WaveformSequence = made.WaveformSequence[:1]
    group = made.WaveformSequence[0]
    samples = seconds * RATE
    group.NumberOfWaveformSamples = samples
    group.WaveformData = b"\0\0"
    made["WaveformSequence"].is_undefined_length = group.is_undefined_length_sequence_item = True
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, made)
    written = out.getvalue()
    mark = struct.pack("<HH2s", 0x5400, 0x1010, b"OW")
    at = written.index(mark) + 8
    size = samples * CHANNELS * 2
    tail = written[at + 4 + 2 :]  # the ends of the item and of the sequence
    beat = np.tile(np.arange(-3000, 3000, dtype="<i2"), 12).tobytes()
    room = (PDU - 6) // len(beat) * len(beat) or PDU - 6 - (PDU - 6) % (2 * CHANNELS)
    block = (beat * (room // len(beat) + 1))[:room]
    return Holter(str(made.SOPInstanceUID), written[:at] + struct.pack("<L", size), size, block, tail)


class Memory(threading.Thread):
    """The most that a process has in memory, apart from the cache of its files, looked at ten times a second."""

    def __init__(self, process: Process) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{process.process.pid}/status")
        self._over = threading.Event()
        self.first = self.now()
        self.most = self.first

    def now(self) -> float:
        """MB."""
        return int(self._status.read_text().split("VmRSS:")[1].split()[0]) / 1024

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self.now())

    def end(self) -> None:
        self._over.set()
        self.join()


def bench(folder: Path, hours: float) -> None:
    """A Holter of 130 MB into every receiver; then the long one, all the way."""
    rates: dict[str, float] = {}
    grown: dict[str, float] = {}
    for name, start in receivers().items():
        short = holter(130_000_000 // (RATE * CHANNELS * 2), f"{name}-short")
        with start(folder / name) as up:
            memory = Memory(up.process)
            memory.start()
            seconds = send_holter(up.address, up.called, short, os.getpid)
            memory.end()
            rates[name], grown[name] = short.size / 1e6 / seconds, memory.most - memory.first
    beside = ", ".join(
        f"{rates['bridge'] / rate:.2f} x {name} ({rate:.0f}, {grown[name]:+.0f} MB)"
        for name, rate in rates.items()
        if name != "bridge"
    )
    reached = verdict((rates["bridge"] / rates["Orthanc"], 4)) if "Orthanc" in rates else ""
    row("Holter of 130 MB into the payload store", f"{rates['bridge']:.0f} MB/s; {beside}", "4 x Orthanc", reached)
    row("  memory", f"{grown['bridge']:+.1f} MB", "16 MB", verdict((grown["bridge"], 16), most=True))
    if hours:
        door_to_door(folder, hours)


def door_to_door(folder: Path, hours: float) -> None:
    """Received, transcoded, hashed, uploaded, made into a task."""
    journal = folder / "day.jsonl"
    journal.touch()
    api = sandbox(journal=journal)
    try:
        day = holter(round(hours * 3600), "day")
        with bridge(folder / "day", api.said["sandbox"].split()[0]) as up:
            memory = Memory(up.process)
            memory.start()
            began = time.perf_counter()
            received = send_holter(up.address, up.called, day, os.getpid)
            while not journal.read_text():
                time.sleep(0.1)
            whole = time.perf_counter() - began
            memory.end()
            figure = (
                f"{day.size / 1e9:.2f} GB in {received:.1f} s, its task after {whole:.1f} s; "
                f"most in memory {memory.most:.0f} MB ({memory.most - memory.first:+.0f})"
            )
            row(f"Holter of {hours:g} h, from door to door", figure, "300 MB", verdict((memory.most, 300), most=True))
    finally:
        api.end()
