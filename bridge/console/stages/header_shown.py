"""The header of an object as its page shows it: attributes by name, those that were used marked."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.console.access import masks
from bridge.errors import BadInput
from bridge.formats.dicom.header import read_header
from bridge.formats.dicom.structure import GroupStructure, check_structure


@dataclass(frozen=True, slots=True)
class Row:
    """An attribute. `value` may be a mask; `used` names the task fields that were made of it."""

    place: str
    name: str
    tag: str
    value: str
    anchor: str
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeaderShown:
    """An object's header, and its groups. `problem` says why there is none, or no groups."""

    rows: tuple[Row, ...] = ()
    groups: tuple[GroupStructure, ...] = ()
    transfer_syntax_uid: str = ""
    more: bool = False
    problem: str = ""


def header_shown(path: Path, traces: Iterable[Mapping[str, Any]], *, revealed: bool) -> HeaderShown:
    """For a thread: it reads the payload's file."""
    used: dict[str, tuple[str, ...]] = {}
    for trace in traces:
        for place in re.split(r", | \+ ", trace["where"]):
            used[place] = (*used.get(place, ()), trace["field"])
    try:
        header = read_header(path)
    except BadInput as problem:
        return HeaderShown(problem=f"{problem.where}: {problem}" if problem.where else str(problem))
    except OSError as problem:
        return HeaderShown(problem=f"the payload cannot be read: {problem.strerror}")
    rows = tuple(
        Row(
            place=a.place,
            name=a.name,
            tag=a.tag,
            value=a.value if revealed else masks.attribute(a.place, a.value),
            anchor=re.sub(r"[^A-Za-z0-9.-]", "-", f"at-{a.place}"),
            used=used.get(a.place, ()),
        )
        for a in header.attributes
    )
    groups, broken = _groups(path)
    return HeaderShown(rows, groups, header.transfer_syntax_uid, header.more, broken)


def _groups(path: Path) -> tuple[tuple[GroupStructure, ...], str]:
    try:
        return check_structure(path).groups, ""
    except BadInput as problem:
        return (), f"{problem.where}: {problem}"
