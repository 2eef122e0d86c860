"""What an expression of PromQL asks for: metrics, and the labels that it picks by."""

import re
from dataclasses import dataclass

_WORDS = {"by", "without", "on", "ignoring", "unless", "and", "or", "bool", "group_left", "group_right", "offset"}
_GROUPS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*(\(|\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@dataclass(frozen=True)
class Asked:
    """A metric, and the values that its labels are compared with."""

    metric: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()


def asked(expression: str) -> list[Asked]:
    """Every selector in it, in order."""
    text = re.sub(r"\[[^\]]*\]", "", _GROUPS.sub("", expression))
    text = re.sub(r',\s*"[^"]*"', "", text)  # what a function is given besides
    found = []
    for name, rest in _SELECTOR.findall(text):
        if rest == "(" or name in _WORDS:
            continue
        labels = tuple((key, tuple(value.split("|"))) for key, _, value in _MATCHER.findall(rest))
        found.append(Asked(name, labels))
    return found
