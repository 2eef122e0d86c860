"""What stands before a data set in a file, and does not travel in a C-STORE (PS3.10 §7.1)."""

import struct

IMPLEMENTATION_CLASS_UID = "2.25.307381941218873155205263415907282047437"
IMPLEMENTATION_VERSION_NAME = "CARDIOBRIDGE"
"""No release number: the same object sent twice gives the same file, also across an upgrade."""


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """128 zero bytes, `DICM`, and the file meta information of one object."""
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\0\1"),
            _element(0x0002, b"UI", sop_class_uid.encode("ascii", "replace")),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii", "replace")),
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii", "replace")),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    return bytes(128) + b"DICM" + _element(0x0000, b"UL", struct.pack("<L", len(elements))) + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """An element of group 2, explicit VR little endian, padded to an even length."""
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    size = struct.pack("<HL", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 0x0002, number) + vr + size + value
