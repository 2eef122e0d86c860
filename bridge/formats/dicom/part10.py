"""A DICOM file: preamble, file meta information, transfer syntax, data set (PS3.10 §7).

Files come with the preamble, without it, and without any meta information (dicom_ecg.md §3.3): that matters where
files are dropped, not on the wire.
"""

import os
from dataclasses import dataclass
from typing import BinaryIO

from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.walk import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    EXPLICIT_VRS,
    IMPLICIT_LITTLE,
    Encoding,
    Walker,
    refuse,
)

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

ENCODINGS: dict[str, Encoding] = {
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BIG,
}
"""What is read. Deflated is refused: half a megabyte of it may unpack to a gigabyte (dicom_ecg.md §2)."""

_PREAMBLE = 128
_TRANSFER_SYNTAX_UID = 0x00020010


@dataclass(frozen=True, slots=True)
class Part10:
    """A file, walked."""

    data_set: DataSet
    transfer_syntax_uid: str
    warnings: tuple[str, ...]


def read_part10(file: BinaryIO, *, only: frozenset[int] | None = None) -> Part10:
    """The data set of a file and how it was written. Raises `BadInput` (C000); an `OSError` is the disk's.

    `only` names the sequences that are wanted, as in `Walker`.
    """
    size = os.fstat(file.fileno()).st_size
    walker = Walker(file, size, only=only)
    start = walker.take(0, min(size, _PREAMBLE + 4))
    at = _PREAMBLE + 4 if start[_PREAMBLE:] == b"DICM" else 0
    warnings: list[str] = []
    if at == 0 and start[:2] not in {b"\x02\x00", b"\x08\x00", b"\x00\x08"}:
        raise refuse("this is no DICOM file")
    uid = ""
    if at or start[:2] == b"\x02\x00":
        meta, at = walker.group(at, 0x0002)
        stated = meta.get(_TRANSFER_SYNTAX_UID)
        uid = (stated.value or b"").decode("ascii", "replace").strip("\0 ") if stated else ""
    if not uid:
        uid = _guessed(walker.take(at, 8))
        warnings.append("the file does not name its transfer syntax: it was told from the first element")
    encoding = ENCODINGS.get(uid)
    if encoding is None:
        raise refuse("the transfer syntax is not one of those we read", "TransferSyntaxUID")
    return Part10(DataSet(walker.data_set(at, encoding)), uid, tuple(warnings))


def _guessed(header: bytes) -> str:
    """The transfer syntax that the first element's header looks like."""
    if header[4:6] not in EXPLICIT_VRS:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_LITTLE_ENDIAN if header[1] == 0 else EXPLICIT_VR_BIG_ENDIAN
