"""A multiplex group as a WFDB record in a ZIP archive: `<record>.dat` and `<record>.hea`, stored, proved.

The archive is written in one pass and read back in another; neither holds more than a block in memory. The same
group and name always give the same bytes: an upload that must start again declares the same hash.
"""

import hashlib
import re
import struct
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from bridge.domain.recording import MultiplexGroup
from bridge.errors import CannotScale
from bridge.formats.ecg.encoding import Encoding, Samples, channel_sums, encodings_for
from bridge.formats.ecg.proof import Form, Proof
from bridge.formats.ecg.samples import BLOCK, SamplesChanged, as_array, fill, sample_blocks, scaled
from bridge.formats.ecg.scaling import require_scalable
from bridge.formats.ecg.wfdb_header import Signal, baselines, header_text, read_header

_RECORD = re.compile(r"[A-Za-z0-9_]{1,40}", re.ASCII)  # header(5): letters, digits, underscore
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's own; a true time would change the archive's hash with every writing
_UNIX = 3
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def write_archive(group: MultiplexGroup, payload: BinaryIO, out: BinaryIO, *, record: str) -> Proof:
    """Writes the archive over `out`, which is read back, so it can be read and sought.

    Raises `CannotScale` where the samples have no voltage or WFDB has no exact form for them, and `SamplesChanged`
    where the archive as read back is not what the payload says. After an error `out` holds nothing of use.
    """
    if not _RECORD.fullmatch(record):
        raise ValueError("a record name is letters, digits and underscores")
    require_scalable(group)
    for encoding in encodings_for(group):
        zeros = baselines(group, encoding)  # refuses before anything is written
        out.seek(0)
        out.truncate()
        if _write(group, payload, out, record, encoding, zeros):
            return _prove(group, payload, out, record, encoding)
    raise CannotScale(
        "a sample is the value that WFDB reserves for a missing one, or needs more than 32 bits",
        where=f"WaveformSequence[{group.number}].WaveformData",
    )


def _write(
    group: MultiplexGroup,
    payload: BinaryIO,
    out: BinaryIO,
    record: str,
    encoding: Encoding,
    zeros: Sequence[int],
) -> bool:
    """The archive in this encoding; False, with `out` in no order, where a sample has no place in it."""
    size = group.samples * len(group.channels) * (encoding.format // 8)
    sums = np.zeros(len(group.channels), dtype=np.uint16)
    initials: list[int] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(_member(f"{record}.dat"), "w", force_zip64=size > zipfile.ZIP64_LIMIT) as member:
            for block in sample_blocks(group, payload):
                stored = encoding.encode(as_array(group, block))
                if stored is None:
                    return False
                initials = initials or [int(v) for v in stored[0]]
                sums += channel_sums(stored)
                member.write(stored.data)
        text = header_text(group, encoding, record, zeros=zeros, initials=initials, checksums=[int(s) for s in sums])
        archive.writestr(_member(f"{record}.hea"), text.encode("ascii"))
    return True


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = _UNIX
    info.external_attr = 0o600 << 16
    return info


def _prove(group: MultiplexGroup, payload: BinaryIO, out: BinaryIO, record: str, encoding: Encoding) -> Proof:
    """Reads the archive back and compares it with the payload, value by value."""
    with zipfile.ZipFile(out) as archive:
        dat = archive.getinfo(f"{record}.dat")
        signals = read_header(archive.read(f"{record}.hea").decode("ascii"), group, record)
    size = out.seek(0, 2)
    out.seek(dat.header_offset)
    mark, name_length, extra_length = _LOCAL_HEADER.unpack(out.read(_LOCAL_HEADER.size))
    begin = dat.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    expected = group.samples * len(group.channels) * (encoding.format // 8)
    if mark != b"PK\x03\x04" or dat.compress_type != zipfile.ZIP_STORED or dat.file_size != expected:
        raise SamplesChanged("the archive does not hold the signal file as it was written")

    whole = hashlib.sha256()
    out.seek(0)
    whole.update(out.read(begin))
    before, after = _compare(group, payload, out, encoding, signals, whole)
    while rest := out.read(BLOCK):
        whole.update(rest)
    return Proof(
        form=Form.WFDB,
        record=record,
        format=encoding.format,
        samples=group.samples,
        channels=len(group.channels),
        rate=group.rate,
        samples_sha256=before,
        dat_sha256=after,
        identical=encoding.is_copy,
        total_size=size,
        sha256=whole.hexdigest(),
    )


def _compare(
    group: MultiplexGroup,
    payload: BinaryIO,
    out: BinaryIO,
    encoding: Encoding,
    signals: Sequence[Signal],
    whole: "hashlib._Hash",
) -> tuple[str, str]:
    """SHA-256 of the samples in the payload and of the signal file at `out`'s position, which are equal in value."""
    before, after = hashlib.sha256(), hashlib.sha256()
    sums = np.zeros(len(group.channels), dtype=np.uint16)
    width = np.dtype(group.dtype).itemsize
    done = 0
    buffer = bytearray()
    for block in sample_blocks(group, payload):
        length = len(block) // width * encoding.format // 8
        if len(buffer) != length:
            buffer = bytearray(length)
        fill(out, memoryview(buffer))
        whole.update(buffer)
        before.update(block)
        samples = as_array(group, block)
        stored = np.frombuffer(buffer, dtype=encoding.stored_dtype).reshape(samples.shape)
        if encoding.is_copy:
            same = buffer == block
        else:
            after.update(buffer)
            same = np.array_equal(encoding.decode(stored), samples)
        if not same:
            raise SamplesChanged("a sample of the signal file differs from the object's")
        sums += channel_sums(stored)
        frames = len(samples)
        if done == 0 and [int(v) for v in stored[0]] != [s.initial for s in signals]:
            raise SamplesChanged("the header's initial values are not those of the signal file")
        if done == 0 or done + frames == group.samples:
            points = slice(None, None, max(frames // 8, 1))
            _compare_microvolts(group, samples[points], stored[points], encoding, signals)
        done += frames
    if [int(s) for s in sums] != [s.checksum for s in signals]:
        raise SamplesChanged("the header's checksums are not those of the signal file")
    digest = before.hexdigest()
    # Where the bytes were compared and are the same, a second hash over them could only say the same.
    return digest, digest if encoding.is_copy else after.hexdigest()


def _compare_microvolts(
    group: MultiplexGroup, samples: Samples, stored: Samples, encoding: Encoding, signals: Sequence[Signal]
) -> None:
    """What a reader of the header makes of some points, against DICOM's own formula."""
    if any(s.format != encoding.format for s in signals):
        raise SamplesChanged("the header names another format")
    zeros = np.array([s.baseline for s in signals], dtype=np.int64)
    steps = stored.astype(np.int64) - zeros
    read = steps / np.array([s.gain for s in signals]) * 1000
    if encoding.padding is not None:
        read[stored == encoding.missing] = np.nan
    # Both sides round: by the size of the two numbers that DICOM's formula adds, which may nearly cancel out
    size = np.abs(steps).max() + np.abs(zeros).max()
    tolerance = 1e-9 + 1e-12 * size * 1000 / min(s.gain for s in signals)
    expected = scaled(group, samples)
    close = np.abs(read - expected) <= tolerance
    if encoding.padding is not None:
        close |= np.isnan(read) & np.isnan(expected)
    if not close.all():
        raise SamplesChanged("the header's gain and baseline do not give the object's microvolts")
