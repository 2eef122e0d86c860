"""The settings in force as rows that people read: every key, its value, and who said it. No secret among them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from bridge.cardio_settings import OWN
from bridge.setting_origins import Origin, Place
from bridge.settings import SenderSettings, Settings, origins

MASK = "***"
_SECRET = re.compile(r"token|secret|passw|passphrase|credential", re.IGNORECASE)
_USER = re.compile(r"://\S*@")
_IN_QUERY = re.compile(r"([?&;][^=&;]*(?:token|secret|pass|pwd|key)[^=&;]*=)[^&;\s]*", re.IGNORECASE)
_SIZES = ((2**30, "GiB"), (2**20, "MiB"))


@dataclass(frozen=True, slots=True)
class Row:
    """One key. `origin` is `default`, a file's line, a variable of the environment, or what it was inherited from."""

    key: str
    value: str
    origin: str
    given: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A table of the configuration; each listener, destination, sender and peer is one of its own."""

    title: str
    about: str
    rows: tuple[Row, ...]


def groups(settings: Settings) -> list[Group]:
    """All of it, in the order of the sections."""
    author = _Author(origins(settings))
    return [group for name in Settings.model_fields for group in author.groups(getattr(settings, name), (name,), name)]


@dataclass(frozen=True, slots=True)
class _Author:
    said: Mapping[Place, Origin]

    def groups(self, section: BaseModel, place: Place, title: str) -> Iterator[Group]:
        """A table, and behind it those of its lists and dictionaries."""
        inner: list[tuple[BaseModel, Place, str]] = []
        rows = tuple(self._rows(section, place, "", inner))
        yield Group(f"[{title}]", (type(section).__doc__ or "").strip().split("\n\n", maxsplit=1)[0], rows)
        for held, where, name in inner:
            yield from self.groups(held, where, f"{title}.{name}")

    def _rows(self, section: BaseModel, place: Place, before: str, inner: list[Any]) -> Iterator[Row]:
        for name in type(section).model_fields:
            value, where, key = getattr(section, name), (*place, name), f"{before}{name}"
            if isinstance(value, BaseModel):
                yield from self._rows(value, where, f"{key}.", inner)
            elif isinstance(value, dict):
                yield from self._held(list(value.items()), where, key, inner)
            elif isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
                yield from self._held(list(enumerate(value)), where, key, inner)
            elif value is None and isinstance(section, SenderSettings):
                yield Row(key, "as its listener", "default", given=False)
            else:
                yield self._row(key, shown(name, value), where)

    def _held(self, held: list[tuple[Any, Any]], place: Place, key: str, inner: list[Any]) -> Iterator[Row]:
        """What a list or a dictionary holds: tables become groups, values rows."""
        yield Row(key, "each below", "", given=False) if held else self._row(key, "none", place)
        for at, value in held:
            where = (*place, at)
            name = f'"{at}"' if isinstance(at, str) else str(getattr(value, "name", at + 1))
            if isinstance(value, BaseModel):
                inner.append((value, where, f"{key}.{name}"))
            else:
                yield self._row(f"{key}.{name}", shown(key, value), where)

    def _row(self, key: str, value: str, place: Place) -> Row:
        origin = self._origin(place)
        return Row(key, value, origin or "default", given=bool(origin))

    def _origin(self, place: Place) -> str:
        if place in self.said:
            one = self.said[place]
            return one.where if one.kind == "file" else f"environment {one.where}"
        above = self._inherited(place)
        if above is None or above not in self.said:
            return ""
        return f"{self._origin(above)}, by [{above[0]}]"

    def _inherited(self, place: Place) -> Place | None:
        """Where a listener or a destination beside the first has a key from that it does not set itself."""
        if place[:2] not in {("hl7", "listeners"), ("cardio", "destinations")} or len(place) < 4:
            return None
        if place[:4] in self.said or place[3] in {*OWN, "listen", "listeners"}:
            return None  # a table of its own takes the place of the other one as a whole
        if (
            place[3] in {"token", "token_file"}
            and {(*place[:3], k) for k in ("token", "token_file")} & self.said.keys()
        ):
            return None
        return (place[0], *place[3:])


def without_defaults(group: Group) -> Group:
    """The keys of a table that somebody said."""
    return replace(group, rows=tuple(row for row in group.rows if row.given))


def shown(name: str, value: Any) -> str:
    """A value as text. What is a secret, or may hold one, is masked; of a file that holds one its path is told."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else "none"
    if value is None or value in {"", ()}:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        size = next((f" ({value / unit:g} {word})" for unit, word in _SIZES if value and value % unit == 0), "")
        return f"{value}{size}"
    if isinstance(value, tuple | list):
        return ", ".join(shown(name, one) for one in value)
    if _SECRET.search(name) and not name.endswith("_file") and not isinstance(value, Path):
        return MASK
    return without_secrets(f"{value}")


def without_secrets(text: str) -> str:
    """A text without what addresses in it may hold before their host and behind their path."""
    return _IN_QUERY.sub(rf"\g<1>{MASK}", _USER.sub(f"://{MASK}@", text))
