"""The ECG page's pictures: a resting ECG, and a day of twelve leads beside a plain reading of its file. CPU time."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bridge.console.ecg.overview import overview
from bridge.console.ecg.picture import picture
from tests.bench.holter import CHANNELS, RATE, holter
from tests.bench.report import row, verdict

RESTING = Path(__file__).parents[2] / "sample_messages" / "03_ecg_for_order.dcm"
DAY = 86_400
_GROWTH = """
import sys
from pathlib import Path
from bridge.console.ecg.overview import overview
from bridge.console.ecg.picture import picture
def most():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
for path in sys.argv[1:]:
    overview(Path(path)), picture(Path(path))
    print(most())
"""


def bench(folder: Path) -> None:
    """Time and size of a picture; time and memory of an overview, which looks at every sample."""
    times: list[float] = []
    for _ in range(30):
        began = time.process_time()
        svg = picture(RESTING).svg
        times.append(time.process_time() - began)
    milliseconds = statistics.median(times) * 1000
    row(
        "picture of a resting ECG, 12 leads",
        f"{milliseconds:.0f} ms of CPU, {len(svg) / 1000:.0f} kB",
        "50 ms",
        verdict((milliseconds, 50), most=True),
    )
    path = folder / "day.dcm"
    day = holter(DAY, "picture")
    with path.open("wb") as file:
        file.write(day.head)
        for _ in range(day.size // len(day.block)):
            file.write(day.block)
        file.write(day.block[: day.size % len(day.block)])
        file.write(day.tail)
    plain, whole = _timed(_read, path), _timed(overview, path)
    row(
        f"overview of 24 h x {CHANNELS} leads at {RATE} Hz ({day.size / 1e9:.2f} GB)",
        f"{whole:.1f} s of CPU, {whole / plain:.1f} x a plain reading",
        "4 x a plain reading",
        verdict((whole / plain, 4), most=True),
    )
    said = subprocess.run([sys.executable, "-c", _GROWTH, RESTING, path], capture_output=True, text=True, check=True)
    small, big = map(float, said.stdout.split())
    row("  memory", f"{big - small:+.1f} MB", "16 MB", verdict((big - small, 16), most=True))


def _read(path: Path) -> None:
    buffer = bytearray(256 * 1024)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _timed(work, path: Path) -> float:
    """The best of three: the first one fills the cache of the file system."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work(path)
        best = min(best, time.process_time() - began)
    return best
