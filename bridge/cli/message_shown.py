"""One message as text: what was received, what was made of it, what it waits for, and its history."""

import json
from collections.abc import Iterator
from typing import Any

from bridge.formats.hl7.charset import readable

Shown = dict[str, Any]


def shown(found: Shown) -> Iterator[str]:
    """The lines. `found` is what `listing.whole` and `outlook` say of it."""
    yield f"message {found['id']}  {found['state']}  {found['reason']}".rstrip()
    yield f"{found['type']} from {found['sender']} at {found['peer']}, {found['received_at']}, {found['size']} B"
    yield from _waiting(found)
    if found["raw"]:
        yield from _section("received", _text(found["raw"]))
    elif any(e["reason"] == "pruned" for e in found["history"]):
        yield from _section("pruned", "what it said is kept no longer; its numbers and the ids of its tasks are")
    else:
        yield from _section("received", f"payload {found['payload']}, SOP instance {found['sop_instance_uid']}")
    for task in found["tasks"]:
        ids = ",".join(task["task_ids"]) or "-"
        title = f"task {ids}  {task['state']} {task['reason']} ({task['purpose']}, generation {task['generation']})"
        yield from _section(title, "\n".join(trace_line(t) for t in task["traces"]))
        if task["api_text"]:
            yield f"  the API said: {task['api_status']} {task['api_text']}"
    yield from _what_came_of(found)


def _waiting(found: Shown) -> Iterator[str]:
    """Why a person must look, what he needs to know for it, and what he can do."""
    if found["held"]:
        yield from _section("held", found["held"])
    if found["sides"]:
        yield from _section("both sides", "\n".join(_both_sides(found["sides"])))
    for doubt in found["doubts"]:
        between = " and ".join(doubt["created_between"])
        yield from _section(
            "in doubt",
            f"search this tag in Cardio.AI: {doubt['tag']}\n"
            f"a task of {doubt['patient'] or 'nobody named'}, created between {between}, if it was\n"
            f'"not found" counts from {doubt["quiet_until"]} on, since the first request may still be running',
        )
    if found["commands"]:
        longest = max(len(command) for command, _ in found["commands"])
        lines = (f"{command:<{longest}}  {does}" for command, does in found["commands"])
        yield from _section("what can be done", "\n".join(lines))


_FIELDS = ("numbers", "identifier", "last_name", "first_name", "birth_date", "sex")


def _both_sides(sides: Shown) -> Iterator[str]:
    """The recording, then each candidate beside it, the likeliest first."""
    columns = [("recording", sides["recording"]), ("patient record", sides["record"])]
    columns += [(f"order id:{c['order_id']}", c["side"]) for c in sides["candidates"]]
    for title, side in columns:
        if side is None:
            continue
        said = [", ".join(side[f]) if f == "numbers" else side[f] for f in _FIELDS]
        if side["authority"]:
            said[1] = f"{said[1]} ({side['authority']})"
        if side["said"] != side["identifier"]:
            said[1] = f"{said[1]}, sent as {side['said']}"
        yield f"{title:<16} " + " | ".join(part or "-" for part in said)
        candidate = next((c for c in sides["candidates"] if c["side"] is side), None)
        if candidate is not None:
            yield f"{'':<16} {_judged(candidate)}"
        elif title == "patient record":
            yield f"{'':<16} agrees: {_list(sides['record_agrees'])}; contradicts: {_list(sides['record_contradicts'])}"
    if not sides["candidates"]:
        yield "no order has one of its numbers, or its patient"


def _judged(candidate: Shown) -> str:
    said = [f"agrees: {_list(candidate['agree'])}", f"contradicts: {_list(candidate['contradict'])}"]
    if candidate["recorded"]:
        said.append("has a recording already")
    if candidate["standing"] != "active":
        said.append(candidate["standing"].replace("_", " "))
    if candidate["hours_apart"] is not None:
        hours = candidate["hours_apart"]
        said.append(f"recorded {abs(hours):g} h {'after' if hours >= 0 else 'before'} the order came")
    return "; ".join(said)


def _list(names: Any) -> str:
    return ", ".join(names).replace("_", " ") or "nothing"


def _what_came_of(found: Shown) -> Iterator[str]:
    """What was said about it, then and later, and its history."""
    if found["answer"]:
        yield from _section("answered", _text(found["answer"]))
    elif found["answer_code"]:
        yield from _section("answered", found["answer_code"])
    for told in found["told_later"]:
        title = (
            f"told to {told['address']}: {told['kind']}  {told['state']} {told['reason']}, {told['attempts']} failed"
        )
        yield from _section(title, _text(told["body"]))
        if told["state"] == "HELD":
            yield f"  bridge messages release outbound:{told['id']}, or discard outbound:{told['id']} --reason TEXT"
    for anomaly in found["anomalies"]:
        settled = "settled" if anomaly["settled"] else "for a person"
        text = f"message {anomaly['message']} came after task {','.join(anomaly['task_ids']) or '-'}"
        yield from _section(f"anomaly {anomaly['reason']}, {settled}", f"{text} of message {anomaly['task_message']}")
        if not anomaly["settled"]:
            yield f"  bridge messages resolve {found['id']} --anomaly {anomaly['id']} --reason TEXT"
    lines = []
    for e in found["history"]:
        detail = json.dumps(e["detail"], ensure_ascii=False) if e["detail"] else ""
        actor = f"by {e['actor']}: " if e["actor"] != "bridge" else ""
        lines.append(f"{e['at'][:23]}  {e['state']:<10} {actor}{e['reason']} {detail}".rstrip())
    yield from _section("history", "\n".join(lines))


def _section(title: str, text: str) -> Iterator[str]:
    yield ""
    yield title
    for line in text.splitlines():
        yield f"  {line}"


def trace_line(trace: Shown) -> str:
    """*field ← value ← source ← rule*, in one line."""
    note = f"  ({trace['note']})" if trace["note"] else ""
    value = json.dumps(trace["value"], ensure_ascii=False)
    return f"{trace['field']} ← {value} ← {trace['where']} ← {trace['rule']}{note}"


def _text(received: str) -> str:
    """Bytes that stand as one character each, as text, whatever their header says of their character set."""
    return readable(received.encode("latin-1")).replace("\r", "\n").rstrip()
