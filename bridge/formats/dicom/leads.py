"""The name of a lead: by code, else by its meaning, else by its label, else by its place.

CodeMeaning differs from vendor to vendor ("I", "Lead I", "Lead I (Einthoven)") and may end in NUL: the code decides.
The schemes SCPECG (`5.6.3-9-N`) and MDC (`2:N`) share the numbers N (PS3.16 CID 3001).
"""

import re
from collections.abc import Iterable, Sequence

LEADS: dict[int, str] = {
    1: "I",
    2: "II",
    61: "III",
    62: "aVR",
    63: "aVL",
    64: "aVF",
    65: "-aVR",
    **{n: f"V{n - 2}" for n in range(3, 10)},  # V1 to V7
    66: "V8",
    67: "V9",
    **{n: f"V{n - 8}R" for n in range(10, 16)},  # V2R to V7R
    68: "V8R",
    69: "V9R",
    16: "X",
    17: "Y",
    18: "Z",
    19: "CC5",
    20: "CM5",
    21: "LA",
    22: "RA",
    23: "LL",
    147: "RL",
    **{n: f"F{name}" for n, name in enumerate("IECAMFH", 24)},  # Frank's electrodes
    31: "dI",
    32: "dII",
    **{n: f"dV{n - 32}" for n in range(33, 39)},
    111: "dIII",
    112: "daVR",
    113: "daVL",
    114: "daVF",
    70: "D",
    71: "A",
    72: "J",
    88: "VR",
    89: "VL",
    90: "VF",
    **{n: f"MCL{n - 91}" for n in range(92, 98)},
    131: "ES",
    132: "AS",
    133: "AI",
}
"""Names by number. Of the EASI and Nehb systems, Holter leads and derived leads those that have a short name."""

_CODE = {
    "SCPECG": re.compile(r"5\.6\.3-9-(\d{1,3})", re.ASCII),
    "MDC": re.compile(r"2:(\d{1,3})", re.ASCII),
}
_BY_WORD = {name.casefold(): name for name in LEADS.values()}
_PLAIN = re.compile(r"[A-Za-z0-9+-][A-Za-z0-9+ -]{0,15}", re.ASCII)


def lead_name(scheme: str, code: str, meaning: str, label: str) -> str:
    """The lead's name, or nothing where none of the four says one.

    A free word is taken only when it is short and plain: it becomes a line of the upload's header.
    """
    pattern = _CODE.get(scheme.strip("\0 ").upper())
    match = pattern.fullmatch(code.strip("\0 ")) if pattern else None
    known = LEADS.get(int(match[1])) if match else None
    words = [_normalised(meaning), _normalised(label)]
    return (
        known
        or next((_BY_WORD[w.casefold()] for w in words if w.casefold() in _BY_WORD), "")
        or next((w for w in words if _PLAIN.fullmatch(w)), "")
    )


def unique_names(names: Iterable[str]) -> Sequence[str]:
    """Each name once: `ch3` where there is none, and `II-2` for the second II."""
    taken: set[str] = set()
    result: list[str] = []
    for position, name in enumerate(names, 1):
        first = candidate = name or f"ch{position}"
        count = 1
        while candidate.casefold() in taken:
            count += 1
            candidate = f"{first}-{count}"
        taken.add(candidate.casefold())
        result.append(candidate)
    return result


def _normalised(word: str) -> str:
    """`Lead I (Einthoven)` is `I`; `aVR, augmented voltage, right` is `aVR`."""
    word = re.split(r"[(,]", word.strip("\0 "), maxsplit=1)[0].strip("\0 ")
    return re.sub(r"(?i)^(ecg[ _-]+)?(lead[ _-]+)?", "", word)
