"""What an upload holds, as the API detects it from the content (cardio_api.md, "What an upload may hold").

An archive's records are counted, each is really decoded, and what belongs to no record is refused: whether the API
would look past it is not documented.
"""

import hashlib
import io
import lzma
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO

import edfio

from bridge.sandbox import cardio_wfdb
from bridge.sandbox.cardio_wfdb import PER_VOLT, NotARecord, Record

_MOST_UNPACKED = 2**32 - 1  # bytes, the longest upload there is
_MOST_HEADER = 1 << 20
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, OSError, EOFError)


def records(data: bytes) -> list[Record]:
    """Every record of an upload: one for a single file, each one of an archive. Raises NotARecord."""
    if data[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return _archive(archive)
        except _DAMAGED as cause:  # Deflate64 and xz, which the API opens, come here too, as NotImplementedError
            raise NotARecord(f"the archive cannot be opened here: {type(cause).__name__}") from cause
    return [_single(data)]


def _single(data: bytes) -> Record:
    if data[:8] == b"0       ":
        return _edf(data)
    if data[16:22] == b"SCPECG":
        return _scp(data)
    raise NotARecord("the content is no EDF, SCP-ECG or archive file")


def _archive(archive: zipfile.ZipFile) -> list[Record]:
    files = {i.filename: i for i in archive.infolist() if not i.is_dir()}
    if len(files) != sum(not i.is_dir() for i in archive.infolist()):
        raise NotARecord("the archive holds two files of one name")
    if sum(i.file_size for i in files.values()) > _MOST_UNPACKED:
        raise NotARecord("the archive unpacks to more than an upload may hold")
    found: list[Record] = []
    taken: set[str] = set()
    for name in sorted(files):
        path = PurePosixPath(name)
        if path.suffix == ".hea":
            record, mine = _wfdb(archive, files, path)
            if mine & taken:
                raise NotARecord("two headers name one signal file")
            taken |= mine
        elif path.suffix.lower() in {".edf", ".scp"}:
            record = _single(archive.read(name))
            taken.add(name)
        else:
            continue
        found.append(record)
    if not found:
        raise NotARecord("the archive holds no record: no .hea, .edf or .scp in it")
    if over := set(files) - taken:
        raise NotARecord(f"{len(over)} files of the archive belong to no record")
    return found


def _wfdb(archive: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], path: PurePosixPath) -> tuple[Record, set[str]]:
    """A record in several files, which lie beside their header."""

    def opened(name: str) -> tuple[IO[bytes], int]:
        info = files.get(str(path.parent / name))
        if info is None:
            raise NotARecord("a signal file that the header names is missing")
        return archive.open(info), info.file_size

    if files[str(path)].file_size > _MOST_HEADER:
        raise NotARecord("a header is longer than 1 MiB")
    record, signal_files = cardio_wfdb.read(archive.read(str(path)), path.stem, opened)
    return record, {str(path), *(str(path.parent / name) for name in signal_files)}


def _edf(data: bytes) -> Record:
    """EDF and EDF+: the sizes by its own header (EDF specification, 1992), the values by edfio."""
    try:
        count = int(data[252:256])
        head, blocks = int(data[184:192]), int(data[236:244])
        each = [int(data[256 + count * 216 + 8 * n :][:8]) for n in range(count)]
    except ValueError as cause:
        raise NotARecord("a number of the EDF header cannot be read") from cause
    if count < 1 or blocks < 1 or head != 256 * (count + 1) or len(data) != head + 2 * blocks * sum(each):
        raise NotARecord(f"the EDF header promises another file than one of {len(data)} bytes")
    try:
        edf = edfio.read_edf(io.BytesIO(data))
        leads = tuple(s.label for s in edf.signals)
        units = [PER_VOLT.get(s.physical_dimension, 1.0) for s in edf.signals]
        first = tuple(float(s.data[0]) * unit for s, unit in zip(edf.signals, units, strict=True))
        lengths = [(len(s.digital), float(s.sampling_frequency)) for s in edf.signals]
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, OSError) as cause:
        raise NotARecord(f"the EDF file cannot be decoded: {type(cause).__name__}") from cause
    if not lengths:
        raise NotARecord("the EDF file holds no signal")
    samples, rate = max(lengths)
    return Record("edf", leads, rate, samples, first, hashlib.sha256(data).hexdigest())


def _scp(data: bytes) -> Record:
    """SCP-ECG, recognised alone: its length, and the pointer table of section 0 (ISO 11073-91064 §5.2, §5.3)."""
    try:
        (length,) = struct.unpack_from("<I", data, 2)
        section, table = struct.unpack_from("<HI", data, 8)
        pointers = list(struct.iter_unpack("<HII", data[22 : 6 + table]))
    except struct.error as cause:
        raise NotARecord("the SCP-ECG file's section pointer table cannot be read") from cause
    inside = all(start >= 1 and start - 1 + size <= len(data) for _, size, start in pointers if size)
    if section != 0 or length != len(data) or not pointers or 6 + table > len(data) or not inside:
        raise NotARecord("the SCP-ECG file's section pointer table does not fit the file")
    return Record("scp", (), 0.0, 0, (), hashlib.sha256(data).hexdigest())
