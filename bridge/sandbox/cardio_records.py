"""What an upload holds, as the API detects it from the content (cardio_api.md, "What an upload may hold").

Everything is really decoded: a header that promises samples which are not there is refused.
"""

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

import edfio
import numpy as np
from numpy.typing import NDArray


class NotARecord(Exception):
    """The upload holds nothing that the API takes; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One ECG record. `first` are the first samples of each signal in its own unit."""

    format: str
    signals: tuple[str, ...]
    rate: float
    samples: int
    first: tuple[float, ...]
    sha256: str  # of the signal file


_SIGNAL = re.compile(
    r"^(?P<file>\S+)\s+(?P<format>\d+)(?:x\d+)?(?::\d+)?(?:\+\d+)?\s+(?P<gain>[\d.eE+-]+)(?:\((?P<baseline>-?\d+)\))?"
    r"(?:/(?P<unit>\S+))?\s+(?P<bits>\d+)\s+(?P<zero>-?\d+)\s+(?P<initial>-?\d+)\s+(?P<checksum>-?\d+)\s+(?P<block>\d+)"
    r"(?:\s+(?P<name>.*))?$"
)
_DTYPES = {16: "<i2", 32: "<i4", 61: ">i2", 80: "u1"}


def records(data: bytes) -> list[Record]:
    """Every record of an upload: one for a single file, one for each header of an archive. Raises NotARecord."""
    if data[:2] == b"PK":
        return _archive(data)
    return [_single(data)]


def _single(data: bytes) -> Record:
    if data[:8] == b"0       ":
        return _edf(data)
    if len(data) > 16 and data[16:22] == b"SCPECG":
        return Record("scp", (), 0.0, 0, (), hashlib.sha256(data).hexdigest())
    raise NotARecord("the content is not an EDF, SCP-ECG or archive file")


def _archive(data: bytes) -> list[Record]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as cause:
        raise NotARecord(f"the archive cannot be opened: {type(cause).__name__}") from cause
    found = [_wfdb(name, files) for name in sorted(files) if name.endswith(".hea")]
    found += [_edf(files[name]) for name in sorted(files) if name.lower().endswith(".edf")]
    if not found:
        raise NotARecord("the archive holds no record: no .hea and no .edf in it")
    return found


def _wfdb(name: str, files: dict[str, bytes]) -> Record:
    """A WFDB record (header(5), signal(5) of the WFDB documentation): header, signal file, checksums."""
    try:
        lines = [line for line in files[name].decode("ascii").splitlines() if line and not line.startswith("#")]
        record, count, rate, samples = lines[0].split()[:4]
        found = [_SIGNAL.match(line) for line in lines[1 : 1 + int(count)]]
        length, frequency = int(samples), float(rate.split("/")[0])
    except (UnicodeDecodeError, ValueError, IndexError) as cause:
        raise NotARecord(f"{name}: the header cannot be read") from cause
    signals = [match for match in found if match is not None]
    if record != PurePosixPath(name).stem:
        raise NotARecord(f"{name}: the header names record {record}")
    if len(signals) != int(count) or not signals:
        raise NotARecord(f"{name}: {count} signals are promised, {len(signals)} can be read")
    file = str(PurePosixPath(name).parent / signals[0]["file"])
    kind = int(signals[0]["format"])
    if any(s["file"] != signals[0]["file"] or int(s["format"]) != kind for s in signals):
        raise NotARecord(f"{name}: signals in several files or formats are not decoded here")
    if file not in files:
        raise NotARecord(f"{name}: signal file {file} is missing")
    values = _decoded(name, files[file], kind, length, len(signals))
    for number, signal in enumerate(signals):
        column = values[:, number]
        if int(column.sum(dtype=np.int64)) & 0xFFFF != int(signal["checksum"]) & 0xFFFF:
            raise NotARecord(f"{name}: the checksum of signal {number} does not hold")
        if length and int(column[0]) != int(signal["initial"]):
            raise NotARecord(f"{name}: the initial value of signal {number} does not hold")
    first = tuple(
        (float(values[0, n]) - int(s["baseline"] or s["zero"])) / (float(s["gain"]) or 200.0)
        for n, s in enumerate(signals)
        if length
    )
    names = tuple(s["name"] or "" for s in signals)
    return Record("wfdb", names, frequency, length, first, hashlib.sha256(files[file]).hexdigest())


def _decoded(name: str, data: bytes, kind: int, length: int, signals: int) -> NDArray[np.int64]:
    if kind == 212:
        return _format_212(name, data, length, signals)
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise NotARecord(f"{name}: format {kind} is not decoded here")
    expected = length * signals * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise NotARecord(f"{name}: the signal file has {len(data)} bytes, {expected} are promised")
    values = np.frombuffer(data, dtype).astype(np.int64).reshape(length, signals)
    return values - 128 if kind == 80 else values


def _format_212(name: str, data: bytes, length: int, signals: int) -> NDArray[np.int64]:
    """Two 12-bit samples in three bytes."""
    count = length * signals
    if len(data) < (count * 3 + 1) // 2:
        raise NotARecord(f"{name}: the signal file is too short")
    padded = np.frombuffer(data[: (count + 1) // 2 * 3].ljust((count + 1) // 2 * 3, b"\0"), "u1").astype(np.int64)
    low, middle, high = padded[0::3], padded[1::3], padded[2::3]
    pairs = np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], axis=1).reshape(-1)[:count]
    return np.where(pairs > 2047, pairs - 4096, pairs).reshape(length, signals)


def _edf(data: bytes) -> Record:
    try:
        edf = edfio.read_edf(io.BytesIO(data))
        signals = edf.signals
        first = tuple(float(s.data[0]) for s in signals)
        lengths = {len(s.digital) for s in signals}
    except Exception as cause:
        raise NotARecord(f"the EDF file cannot be decoded: {type(cause).__name__}") from cause
    if not signals:
        raise NotARecord("the EDF file holds no signal")
    names = tuple(s.label for s in signals)
    digest = hashlib.sha256(data).hexdigest()
    return Record("edf", names, float(signals[0].sampling_frequency), max(lengths), first, digest)
