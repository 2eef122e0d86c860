"""Items as nearly all objects have them, passed over by a regular expression instead of element by element.

A header names the length of its value, which no regular expression can follow; but the lengths of short values are
few, and each can be spelled out. Whatever is not of this kind is left to the walk: longer values, VRs with four
bytes of length, big endian (whose marks are not these), a third level of sequences. Nothing here backtracks into what
it has passed (`*+`), so the time is linear in the bytes.
"""

import re

_LONGEST = 64
_ITEM_BEGINS = rb"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_ITEM_ENDS = rb"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
_SEQUENCE_ENDS = rb"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_TAG = rb"(?!\xfe\xff).{4}"
_VR = rb"(?:A[EST]|CS|D[AST]|F[DL]|IS|L[OT]|PN|S[HLST]|TM|U[ILS])"


def _values(after_length: bytes) -> bytes:
    """A length of two bytes, what stands after it, and a value of that length."""
    lengths = (2 * half for half in range(_LONGEST // 2 + 1))
    return b"(?:%s)" % b"|".join(rb"\x%02x\x00%s.{%d}" % (n, after_length, n) for n in lengths)


def _items(element: bytes, begins_sequence: bytes) -> re.Pattern[bytes]:
    """Items of undefined length that hold such elements, and sequences of such items."""
    sequence = rb"%s(?:%s(?:%s)*+%s)*+%s" % (begins_sequence, _ITEM_BEGINS, element, _ITEM_ENDS, _SEQUENCE_ENDS)
    return re.compile(rb"(?:%s(?:%s|%s)*+%s)*+" % (_ITEM_BEGINS, element, sequence, _ITEM_ENDS), re.DOTALL)


EXPLICIT = _items(_TAG + _VR + _values(b""), _TAG + rb"SQ\x00\x00\xff\xff\xff\xff")
IMPLICIT = _items(_TAG + _values(rb"\x00\x00"), _TAG + rb"\xff\xff\xff\xff")
