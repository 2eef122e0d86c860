"""CNS 11643-1992, of which Python has no codec: planes 1 and 2 as EUC-TW, registered as the codec `bridge_euc_tw`.

Big5 was made from these planes, in their order: all its 13,051 ideographs are in them, and runs of one correspond to
runs of the other but for a few places. The table says which; Python's own Big5 does the rest. The C library's
converter was not taken: not every system has it, and it would be fed with what strangers send. Rare ideographs of
planes 3 to 7 cannot be read here; such a text is read by the fallback, with a note.
"""

import codecs
import re
from functools import lru_cache
from typing import Any

CODEC = "bridge_euc_tw"

# First code in Big5, plane, first code in it, how many follow each other in both.
_RUNS = (
    (0xA140, 1, 0x2121, 5),
    (0xA146, 1, 0x2127, 8),
    (0xA14F, 1, 0x2130, 6),
    (0xA155, 1, 0x225E, 1),
    (0xA156, 1, 0x2139, 1),
    (0xA157, 1, 0x2136, 2),
    (0xA15D, 1, 0x213E, 44),
    (0xA1AB, 1, 0x216B, 1),
    (0xA1AC, 1, 0x216A, 1),
    (0xA1AD, 1, 0x216C, 22),
    (0xA1C4, 1, 0x2225, 1),
    (0xA1C6, 1, 0x2227, 27),
    (0xA1E1, 1, 0x2243, 1),
    (0xA1E2, 1, 0x2242, 1),
    (0xA1E3, 1, 0x2244, 19),
    (0xA1F6, 1, 0x2258, 1),
    (0xA1F7, 1, 0x2257, 1),
    (0xA1F8, 1, 0x2259, 4),
    (0xA1FE, 1, 0x225F, 2),
    (0xA241, 1, 0x225F, 2),
    (0xA243, 1, 0x2263, 1),
    (0xA245, 1, 0x2265, 1),
    (0xA248, 1, 0x2268, 69),
    (0xA2AF, 1, 0x2421, 29),
    (0xA2CC, 1, 0x4432, 1),
    (0xA2CD, 1, 0x243F, 1),
    (0xA2CE, 1, 0x452B, 1),
    (0xA2CF, 1, 0x2441, 142),
    (0xA440, 1, 0x4421, 1412),
    (0xACFE, 1, 0x5753, 1),
    (0xAD40, 1, 0x5323, 424),
    (0xAFD0, 1, 0x5754, 1876),
    (0xBBC8, 1, 0x6B51, 387),
    (0xBE52, 1, 0x6B50, 1),
    (0xBE53, 1, 0x6F5C, 525),
    (0xC1AB, 1, 0x7536, 105),
    (0xC255, 3, 0x5764, 1),
    (0xC256, 1, 0x7642, 83),
    (0xC2CB, 1, 0x7535, 1),
    (0xC2CC, 1, 0x7737, 84),
    (0xC361, 1, 0x782E, 54),
    (0xC3B9, 1, 0x7865, 1),
    (0xC3BA, 1, 0x7864, 1),
    (0xC3BB, 1, 0x7866, 90),
    (0xC456, 1, 0x782D, 1),
    (0xC457, 1, 0x7962, 354),
    (0xC7E9, 1, 0x2621, 20),
    (0xC940, 2, 0x2121, 10),
    (0xC94B, 2, 0x212B, 33),
    (0xC96C, 2, 0x214D, 48),
    (0xC9BE, 2, 0x214C, 1),
    (0xC9BF, 2, 0x217D, 46),
    (0xC9ED, 2, 0x224E, 167),
    (0xCAF7, 2, 0x224D, 1),
    (0xCAF8, 2, 0x2439, 1840),
    (0xD6CC, 2, 0x3E63, 1),
    (0xD6CD, 2, 0x3770, 108),
    (0xD77A, 2, 0x3F6A, 1),
    (0xD77B, 2, 0x387E, 537),
    (0xDADF, 2, 0x376F, 1),
    (0xDAE0, 2, 0x3E64, 100),
    (0xDBA7, 2, 0x3F6B, 399),
    (0xDDFD, 2, 0x4424, 1637),
    (0xE8A3, 2, 0x554C, 146),
    (0xE976, 2, 0x5723, 287),
    (0xEB5B, 2, 0x5A29, 116),
    (0xEBF1, 2, 0x554B, 1),
    (0xEBF2, 2, 0x5B3F, 137),
    (0xECDE, 2, 0x5722, 1),
    (0xECDF, 2, 0x5C6A, 104),
    (0xEDAA, 2, 0x5D75, 222),
    (0xEEEB, 2, 0x642F, 1),
    (0xEEEC, 2, 0x6039, 198),
    (0xF056, 2, 0x5D74, 1),
    (0xF057, 2, 0x6243, 82),
    (0xF0CB, 2, 0x5A28, 1),
    (0xF0CC, 2, 0x6337, 86),
    (0xF163, 2, 0x6430, 8),
    (0xF16B, 2, 0x6761, 1),
    (0xF16C, 2, 0x6438, 153),
    (0xF268, 2, 0x6934, 1),
    (0xF269, 2, 0x6573, 56),
    (0xF2C3, 2, 0x664E, 113),
    (0xF375, 2, 0x6762, 142),
    (0xF466, 2, 0x6935, 45),
    (0xF4B5, 2, 0x664D, 1),
    (0xF4B6, 2, 0x6962, 71),
    (0xF4FD, 2, 0x6A4C, 194),
    (0xF663, 2, 0x6A4B, 1),
    (0xF664, 2, 0x6C52, 490),
    (0xF977, 2, 0x7167, 43),
    (0xF9C4, 2, 0x7166, 1),
    (0xF9C5, 2, 0x7234, 1),
    (0xF9C6, 2, 0x7240, 1),
    (0xF9C7, 2, 0x7235, 11),
    (0xF9D2, 2, 0x7241, 4),
)
_SINGLE_SHIFT = 0x8E
_TOKEN = re.compile(rb"[\x00-\x7f]+|\x8e[\xa1-\xb0][\xa1-\xfe]{2}|[\xa1-\xfe]{2}|[\x80-\xff]", re.DOTALL)


def decode(data: Any, errors: str = "strict") -> tuple[str, int]:
    """EUC-TW, of any bytes-like: two bytes are of plane 1, four of the plane that the second names."""
    raw = bytes(data)
    _, characters = _tables()
    parts: list[str] = []
    at = 0
    while at < len(raw):
        found = _TOKEN.match(raw, at)
        token = found[0] if found else raw[at : at + 1]
        if token[0] < 0x80:
            parts.append(token.decode("ascii"))
            at += len(token)
        elif (character := characters.get(token)) is not None:
            parts.append(character)
            at += len(token)
        else:
            problem = UnicodeDecodeError(CODEC, raw, at, at + len(token), "not in planes 1 and 2")
            instead, at = codecs.lookup_error(errors)(problem)
            parts.append(str(instead))
    return "".join(parts), len(raw)


def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    """The inverse of `decode`."""
    codes, _ = _tables()
    parts: list[bytes] = []
    for at, character in enumerate(text):
        if character.isascii():
            parts.append(character.encode("ascii"))
        elif (code := codes.get(character)) is not None:
            parts.append(code)
        else:
            problem = UnicodeEncodeError(CODEC, text, at, at + 1, "not in planes 1 and 2")
            instead, _ = codecs.lookup_error(errors)(problem)
            parts.append(instead if isinstance(instead, bytes) else encode(instead)[0])
    return b"".join(parts), len(text)


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, bytes], dict[bytes, str]]:
    codes: dict[str, bytes] = {}
    characters: dict[bytes, str] = {}
    for big5, plane, code, size in _RUNS:
        row = (big5 >> 8) * 157 + _column(big5 & 0xFF)
        cell = (code >> 8) * 94 + (code & 0xFF) - 0x21
        for step in range(size):
            high, low = divmod(row + step, 157)
            character = bytes([high, low + (0x40 if low < 63 else 0x62)]).decode("big5")
            high, low = divmod(cell + step, 94)
            pair = bytes([high | 0x80, low + 0xA1])
            sequence = pair if plane == 1 else bytes([_SINGLE_SHIFT, 0xA0 + plane]) + pair
            codes.setdefault(character, sequence)
            characters[sequence] = character
    return codes, characters


def _column(low: int) -> int:
    return low - 0x40 if low < 0x7F else low - 0x62


def _found(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(encode, decode, name=CODEC) if name == CODEC else None


codecs.register(_found)
