"""What is asked of a message, in one form for the pages, the JSON API and the control socket."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.acts.audited import Acted, Still
from bridge.errors import ActionRefused
from bridge.store.untold import Queue


def _storable(text: str) -> str:
    """JSON can hold half of a character (RFC 8259 §8.2), and the store cannot. Raises ValueError."""
    if any("\ud800" <= one <= "\udfff" for one in text):
        raise ValueError("no text")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class Wanted(BaseModel):
    """What is asked for besides the verb; what a verb does not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: Text = ""
    order: Text | None = None
    without_order: bool = False
    task: Text | None = None
    resend: bool = False
    give_up: bool = False
    anomaly: int | None = None
    tag: Text = ""
    confirm: Text = ""


_OF_VERB: dict[str, set[str]] = {
    "release": {"reason", "order", "without_order"},
    "replay": {"reason"},
    "show": set(),
    "discard": {"reason"},
    "resolve": {"reason", "task", "resend", "give_up", "anomaly", "tag", "confirm"},
}


VERBS = tuple(_OF_VERB)


async def perform(
    acting: Acting, by: str, target: str, verb: str, wanted: Wanted, *, still: Still | None = None
) -> Acted:
    """Do what is asked of a message, by its id, or of what could not be told (`outbound:ID`, `commitment:ID`).

    `still` counts for a release, a replay and a discard: a doubt is named by its tag, and the rest by its id. Raises
    ActionRefused, also where it makes no sense.
    """
    strange = wanted.model_fields_set - _OF_VERB.get(verb, set())
    if verb not in _OF_VERB or strange:
        raise ActionRefused(f"{verb} {target}: {', '.join(sorted(strange)) or verb} is not known here")
    queue, _, number = target.rpartition(":")
    if not number.isascii() or not number.isdigit() or len(number) > 18 or queue not in {"", *Queue}:
        raise ActionRefused(f"{verb}: no message id, outbound:ID or commitment:ID")
    if queue:
        return await _untold(acting, by, Queue(queue), int(number), verb, wanted)
    return await _of_message(acting, by, int(number), verb, wanted, still)


async def _untold(acting: Acting, by: str, queue: Queue, number: int, verb: str, wanted: Wanted) -> Acted:
    if verb == "release" and wanted.model_fields_set <= {"reason"}:
        return await acting.release_untold(queue, number, by=by, reason=wanted.reason)
    if verb == "discard":
        return await acting.discard_untold(queue, number, by=by, reason=wanted.reason)
    raise ActionRefused(f"{queue}:{number} can be released or discarded")


async def _of_message(acting: Acting, by: str, number: int, verb: str, wanted: Wanted, still: Still | None) -> Acted:
    reason = wanted.reason
    match verb:
        case "release":
            return await acting.release(
                number, by=by, reason=reason, order=wanted.order, without_order=wanted.without_order, still=still
            )
        case "replay":
            return await acting.replay(number, by=by, reason=reason, still=still)
        case "discard":
            return await acting.discard(number, by=by, reason=reason, still=still)
        case "show":
            return await acting.shown(number, by=by)
    ways = [wanted.task is not None, wanted.resend, wanted.give_up, wanted.anomaly is not None]
    if sum(ways) != 1:
        raise ActionRefused(f"message {number}: resolve by one of --task ID, --resend, --give-up or --anomaly ID")
    if wanted.task is not None:
        return await acting.resolve_found(number, wanted.task, by=by, reason=reason, tag=wanted.tag)
    if wanted.anomaly is not None:
        return await acting.settle_anomaly(number, wanted.anomaly, by=by, reason=reason)
    resolve = acting.resolve_resend if wanted.resend else acting.resolve_give_up
    return await resolve(number, by=by, reason=reason, confirm=wanted.confirm)
