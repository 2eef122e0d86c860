"""What each fault makes of an answer. Faults that end a call without any answer are played in `cardio_api`."""

from bridge.sandbox.cardio_faults import Fault
from bridge.sandbox.cardio_wire import Answer, Wire, answer

_REFUSED = {
    "400": "fault played: missing or invalid parameters",
    "401": "fault played: token missing, expired or invalid",
    "403": "fault played: token not allowed here",
    "415": "fault played: not JSON",
    "429": "fault played: rate limit",
}


def refused(fault: Fault) -> Answer | None:
    """What the fault answers before the call is looked at; None where the call goes on."""
    text = _REFUSED.get(fault.kind)
    if text is not None:
        return _with_headers(fault, int(fault.kind), text)
    if fault.kind == "5xx_before" or (fault.kind == "status" and not fault.applied):
        return _with_headers(fault, fault.status, "fault played: nothing was done")
    return None


def does_nothing(fault: Fault) -> bool:
    """Whether the call is given up unread, and without an answer."""
    return fault.kind == "drop_before" or (fault.kind == "silent" and not fault.applied)


def altered(fault: Fault, given: Answer) -> Answer:
    """What the fault makes of an answer that is ready. A spoiled 2xx needs one: a refusal stays as it is."""
    if fault.kind in {"5xx_after", "status"}:
        return _with_headers(fault, fault.status, "fault played: what could be done was done")
    if given.status >= 300:
        return given
    match fault.kind:
        case "broken_body":
            return Answer(given.status, fault.body.encode())
        case "long_body":
            return Answer(given.status, given.content.ljust(fault.size))
        case "wrong_ids":
            return answer(given.status, {"created_task_ids": fault.ids})
    return given


async def deliver(wire: Wire, fault: Fault, given: Answer) -> None:
    """The answer on the wire: whole, cut, or byte by byte."""
    if fault.kind == "cut_body" and given.status < 300:
        await wire.cut(given, reset=fault.reset)
    elif fault.kind == "drip":
        await wire.drip(given, fault.seconds)
    else:
        await wire.give(given)


def _with_headers(fault: Fault, status: int, text: str) -> Answer:
    headers = {"retry_after": fault.retry_after, "location": fault.location}
    return answer(status, text, **{k: str(v) for k, v in headers.items() if v is not None})
