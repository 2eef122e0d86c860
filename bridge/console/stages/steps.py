"""Where a message is, in five steps: received, mapped, matched, sent, answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.dispatch.acts.ways import Case, Way
from bridge.domain.states import UNDER_WAY, State


@dataclass(frozen=True, slots=True)
class Step:
    """One of them. `mark` is done, now (the bridge is at it), stop (a person must look), doubt, or none."""

    name: str
    mark: str
    text: str


_MAPPING_FAILED = frozenset({
    "unreadable", "poison", "cannot_scale", "several_groups", "groups_differ", "uid_conflict", "identity_update",
})  # fmt: skip
_MATCHED = frozenset({Way.CHOOSE, Way.AS_SAID, Way.CARRY_OUT})


def steps(found: Mapping[str, Any], case: Case) -> tuple[Step, ...]:
    """The five of them, from what `listing.whole` tells and where it stands."""
    mapped, matched, sent = _inside(found, case)
    code = found["answer_code"]
    later = [told for told in found["told_later"] if told["state"] != "SENT"]
    stuck = any(told["state"] == "HELD" for told in later)
    answered = Step("Answered", "stop" if stuck else "now" if later else "done" if code else "none", _answer(found))
    return (Step("Received", "done", found["type"] or "not read"), mapped, matched, sent, answered)


def _answer(found: Mapping[str, Any]) -> str:
    code = found["answer_code"] or "not yet"
    held = sum(told["state"] == "HELD" for told in found["told_later"])
    waiting = sum(told["state"] == "WAITING" for told in found["told_later"])
    more = [f"{held} not taken"] if held else []
    more += [f"{waiting} to be told"] if waiting else []
    return ", ".join([code, *more])


def _inside(found: Mapping[str, Any], case: Case) -> tuple[Step, Step, Step]:
    state, tasks = case.state, found["tasks"]
    nothing = Step("Matched", "none", "–"), Step("Sent", "none", "–")
    made = len(found["task_ids"])
    if state is State.RECEIVED:
        return Step("Mapped", "now", "waits to be understood"), *nothing
    if state is State.HELD and case.reason in _MAPPING_FAILED and not tasks:
        return Step("Mapped", "stop", _words(case.reason)), *nothing
    if state is State.REJECTED and not tasks:
        return Step("Mapped", "stop", _words(case.reason) or "refused"), *nothing
    mapped = Step("Mapped", "done", "understood")
    if state is State.HELD and case.held().way in _MATCHED:
        return mapped, Step("Matched", "stop", _words(case.reason)), Step("Sent", "none", "–")
    matched = Step("Matched", "done" if tasks else "none", _matched(found, case) if tasks else "–")
    if state is State.IN_DOUBT:
        return mapped, matched, Step("Sent", "doubt", "a task may exist")
    if state in {State.HELD, State.REJECTED}:
        return mapped, matched, Step("Sent", "stop", _words(case.reason) or "refused")
    if state in UNDER_WAY:
        return mapped, matched, Step("Sent", "now", _words(case.reason) or _words(state.value))
    if made:
        return mapped, matched, Step("Sent", "done", f"task {', '.join(found['task_ids'][:3])}")
    return mapped, matched, Step("Sent", "none", "no task is due" if not tasks else _words(state.value))


def _matched(found: Mapping[str, Any], case: Case) -> str:
    if case.kind != "dicom":
        return "an order"
    return "to its order" if any(t.get("order_id") for t in found["tasks"]) else "without an order"


def _words(code: str) -> str:
    return code.replace("_", " ").lower()
