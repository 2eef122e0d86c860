"""An EDF+ file of ours as two independent readers see it: pyEDFlib (EDFlib, C) and edfio (numpy)."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import edfio
import numpy as np
import pyedflib

from bridge.domain.recording import MultiplexGroup
from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.edf import write_edf
from bridge.formats.ecg.proof import Proof


def edf_of(path: Path, target: Path) -> tuple[MultiplexGroup, Proof]:
    """The rhythm of an object as a file."""
    group = read_object(path).recording.rhythm()
    with path.open("rb") as payload, target.open("w+b") as out:
        proof = write_edf(group, payload, out)
    return group, proof


def written(path: Path) -> bytes:
    group = read_object(path).recording.rhythm()
    out = io.BytesIO()
    with path.open("rb") as payload:
        write_edf(group, payload, out)
    return out.getvalue()


@contextlib.contextmanager
def edflib(path: Path) -> Iterator[pyedflib.EdfReader]:
    """The file opened by pyEDFlib, which leaves it open where nobody closes it."""
    reader = pyedflib.EdfReader(str(path))
    try:
        yield reader
    finally:
        reader.close()


def digital(path: Path) -> np.ndarray:
    """Stored values, shape (samples, channels); both readers must agree."""
    with edflib(path) as reader:
        one = np.stack([reader.readSignal(n, digital=True) for n in range(reader.signals_in_file)], axis=1)
    other = np.stack([s.digital for s in edfio.read_edf(path).signals], axis=1)
    assert np.array_equal(one, other)
    return one


def physical(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """µV, shape (samples, channels), of either reader."""
    with edflib(path) as reader:
        one = np.stack([reader.readSignal(n) for n in range(reader.signals_in_file)], axis=1)
    return one, np.stack([s.data for s in edfio.read_edf(path).signals], axis=1)
