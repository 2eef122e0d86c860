"""Everything that a message's page shows, read at once and masked where it is not revealed."""

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.console.access import masks
from bridge.console.access.refusals import NotThere
from bridge.console.desk import Desk
from bridge.console.stages.header_shown import HeaderShown, header_shown
from bridge.console.stages.hl7_shown import Shown, anchor_of, hl7_shown, plain_shown, used_places
from bridge.console.stages.offers import Offers, offers
from bridge.console.stages.replayed import Comparison, generations, would_be_now
from bridge.console.stages.standing import standing
from bridge.console.stages.steps import Step, steps
from bridge.dispatch.acts.audited import look
from bridge.dispatch.acts.outlook import outlook
from bridge.dispatch.acts.sides import sides
from bridge.dispatch.acts.ways import Case
from bridge.domain.states import State
from bridge.errors import StoreError
from bridge.formats.hl7 import address
from bridge.store import beside, listing
from bridge.store.port import Connection

_BEFORE_AND_AFTER = frozenset({State.HELD, State.REJECTED})


@dataclass(frozen=True, slots=True)
class Trace:
    """One task field: value ← source ← rule. `link` leads to where the value stands."""

    field: str
    value: Any
    where: str
    link: str
    rule: str
    note: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """One order, recording or task, as the rules made it."""

    title: str
    traces: tuple[Trace, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """What was told about it later, and the answer to that."""

    row: Mapping[str, Any]
    body: Shown
    answer: Shown | None


@dataclass(frozen=True, slots=True)
class Looked:
    """A message for its page. `found` is what `listing.whole` and `outlook` tell, and `beside` besides them.

    `version` changes with anything that is shown, `standing` with what can be done: a page that was left open asks by
    them whether it is still right.
    """

    id: int
    revealed: bool
    found: Mapping[str, Any]
    beside: Mapping[str, Any]
    case: Case
    offers: Offers
    steps: Sequence[Step]
    received: Shown | None
    header: HeaderShown | None
    mapped: Sequence[Mapped]
    bodies: Sequence[str]
    proofs: Sequence[Mapping[str, Any]]
    answer: Shown | None
    later: Sequence[Later]
    comparisons: Sequence[Comparison]
    version: str
    standing: str


async def looked(desk: Desk, message_id: int, *, revealed: bool, initials: bool) -> Looked:
    """The message. Raises NotThere. `initials`: whose task a doubt is of may be told as far as `resolving` masks it."""

    def read(conn: Connection) -> tuple[dict[str, Any], dict[str, Any], Case, Any, str] | None:
        found = listing.whole(conn, message_id)
        if found is None:
            return None
        found |= {"raw": None, **outlook(conn, message_id, desk.settings, desk.answers)}  # shown from its row
        row, case = look(conn, desk.answers, message_id)
        besides = beside.of_message(conn, message_id)
        if found["sides"] is None and row.kind == "dicom":
            authority = desk.settings.site.assigning_authority
            own = [int(t["order_id"]) for t in besides["tasks"] if t["order_id"]]
            both = sides(conn, row.understood, site_authority=authority, attached=own)
            found["sides"] = both.as_json() if both is not None else None
        return found, besides, case, row, standing(conn, desk, row, case)

    got = await desk.store.read(read)
    if got is None:
        raise NotThere(f"there is no message {message_id}")
    found, besides, case, row, stands = got
    for task, more in zip(found["tasks"], besides["tasks"], strict=True):
        task.update(more)
    compared = list(generations(found["tasks"], revealed=revealed))
    if case.state in _BEFORE_AND_AFTER and not case.told_no:
        compared += await would_be_now(desk, row, found, revealed=revealed)

    def made() -> Looked:
        seen = _masked(found, initials=initials) if not revealed else found
        received, header = _received(desk, row, found, revealed)
        return Looked(
            id=message_id,
            revealed=revealed,
            found=seen,
            beside=besides,
            case=case,
            offers=offers(case),
            steps=steps(found, case),
            received=received,
            header=header,
            mapped=_mapped(seen, besides),
            bodies=[json.dumps(t["body"], ensure_ascii=False, indent=2) for t in seen["tasks"]],
            proofs=[e["detail"]["proof"] for e in found["history"] if e["detail"] and "proof" in e["detail"]],
            answer=_bytes_shown(row.answer, revealed=revealed),
            later=[_later(told, shown, revealed=revealed) for told, shown in _pairs(found, seen)],
            comparisons=compared,
            version=_digest(desk, found, besides),
            standing=stands,
        )

    return await asyncio.to_thread(made)  # of what a sender made long it takes its time


def _masked(found: Mapping[str, Any], *, initials: bool) -> dict[str, Any]:
    seen = masks.message(found)
    if initials:
        for shown, doubt in zip(seen["doubts"], found["doubts"], strict=True):
            shown["patient"] = doubt["patient"]
    return seen


def _pairs(found: Mapping[str, Any], seen: Mapping[str, Any]) -> Sequence[tuple[Any, Any]]:
    return list(zip(found["told_later"], seen["told_later"], strict=True))


def _digest(desk: Desk, found: Mapping[str, Any], besides: Mapping[str, Any]) -> str:
    """With the site's key: what is shown may be a patient's, and this stands in addresses."""
    said = json.dumps([found, besides], sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hmac.new(desk.key, said, hashlib.sha256).hexdigest()[:24]


def _received(
    desk: Desk, row: Any, found: Mapping[str, Any], revealed: bool
) -> tuple[Shown | None, HeaderShown | None]:
    traces = [trace for one in _sources(found) for trace in one["traces"]]
    if row.kind == "dicom":
        if not row.payload:
            return None, None
        try:
            with desk.payloads.at_hand(row.payload) as path:
                return None, header_shown(path, traces, revealed=revealed)
        except OSError as problem:
            return None, HeaderShown(problem=f"the payload cannot be read: {problem.strerror}")
        except StoreError as problem:
            return None, HeaderShown(problem=str(problem))
    if row.raw is None:
        return None, None
    if masks.is_untried(found):
        return plain_shown(row.raw, revealed=revealed), None
    rules = desk.answers.rules(row.listener, row.sender)
    used = used_places(traces)
    return hl7_shown(row.raw, revealed=revealed, used=used, fallback=rules.fallback_charset), None


def _sources(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What holds traces: the newest task row of each position, else what was understood."""
    newest = {t["position"]: t for t in found["tasks"]}
    understood = found["understood"] or {"orders": [], "recording": None}
    made = list(newest.values())
    made += [o["mapped"] for o in understood["orders"] if o["position"] not in newest]
    if understood["recording"] and not newest:
        made.append(understood["recording"])
    return made


def _mapped(seen: Mapping[str, Any], besides: Mapping[str, Any]) -> list[Mapped]:
    shown: list[Mapped] = []
    owners = {o["id"]: o["message_id"] for o in besides["orders"]}
    newest = {t["position"]: t for t in seen["tasks"]}
    for task in newest.values():
        ids = ", ".join(task["task_ids"]) or "without an id"
        home = owners.get(task["order_id"] or "", "")
        own = f"Task {ids}: {task['purpose']}" + (f" {task['position']}" if len(newest) > 1 else "")
        shown.append(Mapped(own, _traces(task["traces"], seen["kind"], home)))
    understood = seen["understood"] or {"orders": [], "recording": None}
    for order in understood["orders"]:
        if order["position"] not in newest:
            mapped = order["mapped"]
            traces = _traces(mapped["traces"], seen["kind"], "")
            shown.append(Mapped(f"Order {order['position']}", traces, tuple(mapped["warnings"])))
    recording = understood["recording"]
    if recording and not newest:
        traces = _traces(recording["traces"], seen["kind"], "")
        shown.append(Mapped("Recording", traces, tuple(recording["warnings"])))
    return shown


def _traces(found: Sequence[Mapping[str, Any]], kind: str, home: str) -> tuple[Trace, ...]:
    return tuple(
        Trace(t["field"], t["value"], t["where"], _link(t["where"], kind, home), t["rule"], t["note"]) for t in found
    )


def _link(where: str, kind: str, home: str) -> str:
    """To the value on this page, or on that of the order's message."""
    if not where or where.startswith("("):
        return ""
    is_hl7 = address.parse(re.split(r", | \+ ", where)[0]) is not None
    if is_hl7 and kind == "dicom":
        return f"/messages/{home}#{anchor_of(where)}" if home else ""
    return f"#{anchor_of(where)}"


def _bytes_shown(body: bytes | None, *, revealed: bool) -> Shown | None:
    return hl7_shown(body, revealed=revealed) if body else None


def _later(told: Mapping[str, Any], seen: Mapping[str, Any], *, revealed: bool) -> Later:
    answer = told["answer"]
    return Later(
        seen,
        hl7_shown(told["body"].encode("latin-1"), revealed=revealed),
        _bytes_shown(answer.encode("latin-1") if answer else None, revealed=revealed),
    )
