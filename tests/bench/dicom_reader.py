"""The reader's speed: the check before a C-STORE is answered, and a whole reading, beside pydicom, in one process.

Figures are the best of many readings, the three taking turns: after other work the first one takes half as long again.
pydicom is asked for every value of the header, as our reader gives it, and its waveform is left alone.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bridge.formats.dicom.reader import read_object
from bridge.formats.dicom.structure import check_structure
from tests.bench.report import row, verdict
from tests.unit.dicom.ecg_factory import encoded

SAMPLE = Path(__file__).parents[2] / "sample_messages" / "03_ecg_for_order.dcm"
ROUNDS, IN_A_ROW = 30, 10
CHECK_BAR, READ_BAR = 250, 2000  # µs: what a C-STORE's answer may cost, and what follows it

Way = Callable[[Path], object]


def encodings(folder: Path) -> dict[str, Path]:
    """The sample in both little endian syntaxes, with lengths defined and left open."""
    made: dict[str, Path] = {}
    for syntax, name in ((ExplicitVRLittleEndian, "explicit VR"), (ImplicitVRLittleEndian, "implicit VR")):
        for open_ in (False, True):
            ds = pydicom.dcmread(SAMPLE)
            ds.decode()  # an element that was not looked at would be copied as it stands
            ds.file_meta.TransferSyntaxUID = syntax
            path = folder / f"reader{len(made)}.dcm"
            path.write_bytes(encoded(ds, undefined_lengths=open_))
            made[f"{name}, {'open' if open_ else 'defined'} lengths"] = path
    return made


def pydicom_reading(path: Path) -> object:
    """Every element of the header converted."""
    return [element.value for element in pydicom.dcmread(path).iterall() if element.keyword != "WaveformData"]


def bench(folder: Path) -> None:
    """Microseconds an object."""
    ways: dict[str, Way] = {"check": check_structure, "read": read_object, "pydicom": pydicom_reading}
    paths = encodings(folder)
    best = dict.fromkeys(((name, way) for name in paths for way in ways), float("inf"))
    for _ in range(ROUNDS):
        for name, path in paths.items():
            for way, reading in ways.items():
                for _ in range(2 if way == "pydicom" else IN_A_ROW):
                    began = time.perf_counter()
                    reading(path)
                    best[name, way] = min(best[name, way], (time.perf_counter() - began) * 1e6)
    for name in paths:
        for way, what, bar in (("check", "check object", CHECK_BAR), ("read", "read object", READ_BAR)):
            micros = best[name, way]
            ratio = f"{micros:.0f} µs, pydicom takes {best[name, 'pydicom'] / micros:.1f} x"
            row(f"{what}: {name}", ratio, f"{bar} µs", verdict((micros, bar), most=True))
