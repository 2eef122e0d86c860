"""From what became of each order to what the message is and what its sender is told (hl7.md §3.2, §3.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.domain.codes import judged
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, OrderReply, Problem, Verdict
from bridge.settings import AnswerCodes
from bridge.store import tasks

PENDING = "accepted, task pending"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one order, in the words of its answer, and the state that it is in.

    `reason` is the message's, for the operator; `note` says to the sender why nothing was done.
    """

    reply: OrderReply
    state: State
    problem: Problem | None = None
    reason: str = ""
    note: str = ""


def refuses(doubts: Sequence[Problem], codes: AnswerCodes) -> Verdict | None:
    """The refusal where the listener is strict about what others only warn of; None where nothing is refused."""
    code, told = judged(doubts, codes)
    errors = tuple(p for p in told if p.severity == "E")
    return Verdict(code, errors[0].text, (), errors) if errors else None


def concluded(told: Sequence[Told], doubts: Sequence[Problem], codes: AnswerCodes) -> tuple[State, str, Verdict]:
    """The state of a message, its reason, and its answer: one refused order makes it AE (hl7.md §3.5)."""
    code, problems = judged([t.problem for t in told if t.problem is not None], codes)
    states = [t.state for t in told]
    if code is AckCode.AA:
        states = [State.DONE if s is State.REJECTED else s for s in states]
    ranked = [s for s in (State.IN_DOUBT, State.REJECTED, State.CREATED) if s in states]
    after = ranked[0] if ranked else states[0] if len(set(states)) == 1 else State.DONE
    reason = next((t.reason for t, s in zip(told, states, strict=True) if t.reason and s is after), "")
    replies = tuple(t.reply for t in told)
    ids = any(r.task_ids for r in replies)
    text = ""
    if not ids and code is not AckCode.AA:
        text = problems[0].text
    elif not ids and State.IN_DOUBT in states:
        text = PENDING
    elif not ids and after in {State.FILTERED, State.CANCELLED}:
        text = f"not processed: {next((t.note for t in told if t.note), reason.replace('_', ' '))}"
    return after, reason, Verdict(code, text, replies, (*problems, *(d for d in doubts if d.severity == "W")))


def told_of(row: Any, control: str = "OK") -> Told:
    """What the sender of an order is told of a task row that has an outcome."""
    state = State(row.state)
    if state is State.CREATED:
        return Told(OrderReply(control, tasks.ids(row)), state)
    if state is State.REJECTED:
        problem = refusal(row.api_text)
        return Told(OrderReply("UA", reason=problem.text), state, problem, row.reason)
    if state is State.CANCELLED:  # a person gave it up
        return Told(OrderReply("OC", reason="not processed"), state, reason=row.reason, note="given up by a person")
    return Told(OrderReply(control), State.IN_DOUBT, reason=row.reason)  # pending, as far as the sender is told


def refusal(api_text: str) -> Problem:
    """The API said no (hl7.md §3.2): its words go to ERR-7."""
    return Problem(Condition.APPLICATION_INTERNAL_ERROR, "the Cardio API refused the order", diagnostic=api_text)


def told_to_json(told: Told | None) -> dict[str, Any] | None:
    """What the store keeps of an order that was settled when it came in, until its message is answered."""
    if told is None:
        return None
    problem = told.problem
    return {
        "reply": [told.reply.control, list(told.reply.task_ids), told.reply.reason, told.reply.status],
        "state": told.state.value,
        "problem": [problem.condition.value, problem.text, problem.where, problem.severity] if problem else None,
        "reason": told.reason,
        "note": told.note,
    }


def told_from_json(document: dict[str, Any] | None) -> Told | None:
    """The other way round."""
    if document is None:
        return None
    control, ids, reason, status = document["reply"]
    problem = document["problem"]
    return Told(
        OrderReply(control, tuple(ids), reason, status),
        State(document["state"]),
        Problem(Condition(problem[0]), *problem[1:]) if problem else None,
        document["reason"],
        document["note"],
    )
