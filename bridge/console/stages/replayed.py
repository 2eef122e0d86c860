"""Before and after: what differs between the generations of a task, and what a replay would make of a message now."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.console.access import masks
from bridge.console.desk import Desk
from bridge.dispatch.acts.audited import as_claimed
from bridge.dispatch.understand import Understood, understand_message, understand_recording
from bridge.errors import BadInput, BridgeError
from bridge.formats.dicom.reader import read_object
from bridge.store.book import mapped_to_json


@dataclass(frozen=True, slots=True)
class Difference:
    """A task field that is not what it was. Values may be masks; None where the field is not there."""

    field: str
    before: Any
    after: Any
    where: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions of one task, and what is to be said where no field differs."""

    title: str
    differences: tuple[Difference, ...]
    note: str = "Every field is the same."


def generations(tasks: Sequence[Mapping[str, Any]], *, revealed: bool) -> Iterator[Comparison]:
    """Each generation of a message's tasks beside the one before it."""
    last: dict[int, Mapping[str, Any]] = {}
    for one in tasks:
        before = last.get(one["position"])
        if before is not None:
            which = f"{one['purpose'].capitalize()} {one['position']}"
            title = f"{which}: from generation {before['generation']} to {one['generation']}"
            yield Comparison(title, _differences(_of_row(before), _of_row(one), revealed=revealed))
        last[one["position"]] = one


def _of_row(task: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"fields": task["body"], "traces": task["traces"]}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], *, revealed: bool) -> tuple[Difference, ...]:
    """Told by the values, and masked thereafter: that one differs is nobody's value."""
    old, new = before["fields"], after["fields"]
    shown_old = old if revealed else masks.fields(old, before["traces"])
    shown_new = new if revealed else masks.fields(new, after["traces"])
    places = {t["field"]: t["where"] for t in (*before["traces"], *after["traces"])}
    return tuple(
        Difference(name, shown_old.get(name), shown_new.get(name), places.get(name, ""))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    )


async def would_be_now(desk: Desk, row: Any, found: Mapping[str, Any], *, revealed: bool) -> list[Comparison]:
    """What the rules in force would make of it beside what was made of it. Nothing is written.

    Not for what the bridge once failed on: that is read in a process of its own (F28).
    """
    if masks.is_untried(found) or not found["understood"]:
        return []
    try:
        now = await asyncio.to_thread(_understood_now, desk, row)
    except (BridgeError, OSError) as problem:
        said = f"{problem.where}: {problem}" if isinstance(problem, BadInput) and problem.where else str(problem)
        return [Comparison("The mapping in force now", (), f"It cannot be read: {said}")]
    stored = found["understood"]
    made = [order["mapped"] for order in stored["orders"]] + ([stored["recording"]] if stored["recording"] else [])
    fresh = [order.mapped for order in now.orders] + ([now.recording] if now.recording is not None else [])
    compared: list[Comparison] = []
    for number, (before, after) in enumerate(zip(made, fresh, strict=False), 1):
        differences = _differences(before, mapped_to_json(after), revealed=revealed)
        title = "The mapping in force now" if len(fresh) == 1 else f"Order {number}, the mapping in force now"
        compared.append(Comparison(title, differences))
    state = f"{now.state.value} {now.reason}".strip()
    if len(made) != len(fresh):
        note = f"{len(made)} orders or recordings before, {len(fresh)} now; it would be {state}."
        compared.append(Comparison("The mapping in force now", (), note))
    return compared


def _understood_now(desk: Desk, row: Any) -> Understood:
    rules = desk.rules.get(row.listener) or desk.rules["hl7"]
    if row.kind == "dicom":
        with desk.payloads.at_hand(row.payload) as path:
            return understand_recording(read_object(path), row.sender, rules, desk.settings)
    message, listener = desk.answers.read(as_claimed(row))
    return understand_message(message, row.sender, rules, desk.settings, desk.clock.now(), listener)
