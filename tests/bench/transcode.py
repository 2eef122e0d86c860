"""The upload file beside a plain copy with its hash."""

import hashlib
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from bridge.domain.recording import MultiplexGroup
from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.proof import Form
from bridge.formats.ecg.upload import NAMES, write_as
from bridge.sandbox.ecg_object import Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from tests.bench.processes import Process
from tests.bench.report import row, verdict

START = datetime(2026, 3, 1, tzinfo=UTC)


def bench(folder: Path) -> None:
    """A resting ECG and a long recording."""
    for name, seconds, rounds, growth in (("10 s x 12 leads", 10, 50, False), ("2 h x 12 leads", 7200, 3, True)):
        beat = ecg(seconds=10, rate=500, seed=2)
        signal_ = beat if seconds == 10 else np.tile(beat, (seconds // 10, 1))
        path = folder / f"t{seconds}.dcm"
        write(path, build(signal_, rate=500, seed=name, subject=Subject("1", "Muster^Max"), start=START))
        size = path.stat().st_size / 1e6
        group = read_object(path).recording.rhythm()
        copy: list[float] = []
        own: dict[Form, list[float]] = {form: [] for form in Form}
        for _ in range(rounds):
            copy.append(_timed(partial(_plain_copy, path, folder / "copy")))
            for form, times in own.items():
                times.append(_timed(partial(_transcode, path, group, folder / f"out.{form}", form)))
        for form, times in own.items():
            ratio = statistics.median(times) / statistics.median(copy)
            row(
                f"transcode {name} ({size:.1f} MB), {NAMES[form]}",
                f"{size / statistics.median(times):.0f} MB/s, {ratio:.1f} x a plain copy with hash",
                "2.5 x a plain copy",
                verdict((ratio, 2.5), most=True),
            )
            if growth:
                _growth(path, form)


def _growth(path: Path, form: Form) -> None:
    """Memory that transcoding adds, in a process of its own."""
    script = (
        "import sys,tempfile\nfrom pathlib import Path\n"
        "from bridge.formats.dicom.reader import read_object\n"
        "from bridge.formats.ecg.proof import Form\nfrom bridge.formats.ecg.upload import write_as\n"
        "def rss():\n return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])/1024\n"
        "small, big = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "def run(p):\n"
        "  g = read_object(p).recording.rhythm()\n"
        "  with p.open('rb') as f, tempfile.TemporaryFile() as o: write_as(Form(sys.argv[3]), g, f, o, record='r1')\n"
        "run(small); a = rss(); run(big); print('grown', rss() - a)\n"
    )
    small = path.with_name("t10.dcm")
    process = Process([sys.executable, "-c", script, str(small), str(path), form.value], until="grown")
    process.process.wait(60)
    grown = float(process.said["grown"])
    row(
        f"transcode, memory added by {path.stat().st_size / 1e6:.0f} MB, {NAMES[form]}",
        f"{grown:.0f} MB",
        "16 MB",
        verdict((grown, 16), most=True),
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


def _transcode(path: Path, group: MultiplexGroup, target: Path, form: Form) -> None:
    with path.open("rb") as payload, target.open("w+b") as out:
        write_as(form, group, payload, out, record="bench")
