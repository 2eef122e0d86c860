"""Where each key of a configuration was said: the line of a TOML file, or the environment."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Place = tuple[str | int, ...]
"""The way to a key: names of tables, positions in lists, the key itself."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said it: `where` is `bridge.toml:12` of a file, and the variable's name of the environment."""

    kind: Literal["file", "environment"]
    where: str


def lines_of(text: str) -> dict[Place, int]:
    """The line of every table and key of a TOML document, counted from 1. Raises tomllib.TOMLDecodeError.

    tomllib reads one statement after the other here, so that no grammar of our own can differ from it.
    """
    found: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    begun, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        statement += line + "\n"
        try:
            document = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if statement.lstrip().startswith("["):
            table = _entered(document, counts)
            document = {}
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], begun)
        for place in places(document):
            found.setdefault((*table, *place), begun)
        begun, statement = number + 1, ""
    if statement.strip():
        tomllib.loads(statement)
    return found


def places(value: Any) -> Iterator[Place]:
    """The way to everything in a document, tables before what is in them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inner:
        yield (key,)
        yield from ((key, *rest) for rest in places(held))


def _entered(document: Any, counts: dict[Place, int]) -> Place:
    """The table that a header leads to: through the last element of every list of tables on its way."""
    way: Place = ()
    while document:
        if isinstance(document, list):
            counts[way] = counts.get(way, -1) + 1
            return (*way, counts[way])
        ((key, document),) = document.items()
        way = (*way, key)
        if isinstance(document, dict) and way in counts:
            way = (*way, counts[way])
    return way
