"""The page and its made parts: each stands between two marks, and everything else is written by hand."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "deploy" / "hl7-interface.md"
COMMAND = ".venv/bin/python -m tests.interface"

_PART = re.compile(r"<!-- made: ([a-z-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


def names_in(text: str) -> list[str]:
    """The names of the made parts, in order."""
    return [found[1] for found in _PART.finditer(text)]


def filled(text: str, parts: Mapping[str, str]) -> str:
    """The page with each part made anew. Raises KeyError for a mark that nothing is made for."""
    return _PART.sub(lambda found: f"<!-- made: {found[1]} -->\n{parts[found[1]]}<!-- end -->", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown. What stands between backquotes keeps its bars."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') or ' ' for cell in line)} |\n" for line in lines)


def code(text: str) -> str:
    """One value as code; empty stays empty."""
    return f"`{text}`" if text else ""


def block(text: str) -> str:
    """A message, a segment a line."""
    return "```\n" + text.replace("\r", "\n").strip("\n") + "\n```\n"
