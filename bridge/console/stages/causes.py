"""The causes that wait for a person, in words: what it is, and what to do."""

from dataclasses import dataclass

from bridge.dispatch.acts.ways import HELD, Way
from bridge.dispatch.policy import Reason
from bridge.domain.states import State

_TO_DO: dict[Way, str] = {
    Way.CHOOSE: "Open each, lay both sides beside one another, and say to which order it belongs.",
    Way.AS_SAID: "Open each: it is released as it reads, or discarded.",
    Way.CARRY_OUT: "Open each: the move is carried out, or discarded so that the patients' work goes on without it.",
    Way.AGAIN: "Mend the cause, then try each again, or replay them all.",
    Way.ANEW: "Mend the cause, then replay; what can never be used is discarded.",
    Way.NEVER: "Discard it: the other one counts.",
}
_OF_STATE: dict[str, tuple[str, str]] = {
    State.IN_DOUBT: (
        "A task POST was sent and its answer was lost: the task may exist, and is never sent again by itself",
        "Search its tag in Cardio.AI, then say what you found: its task id, or that there is none.",
    ),
    State.REJECTED: (
        "It cannot be used as it is, and its sender was told so: he sends it again",
        "Tell the sender what is wrong; here it can be looked at and discarded.",
    ),
    "anomaly": (
        "A task was made before a change that concerns it, and the API can neither change nor delete one",
        "Put it right in Cardio.AI, then note here that you did.",
    ),
    "outbound": (
        "A message of ours that its receiver would not take",
        "Look at the receiver's answer, mend the cause there, then tell it again.",
    ),
    "commitment": (
        "A storage commitment report that its receiver would not take",
        "Look at the receiver, then tell it again.",
    ),
}
_API_REFUSED = (
    "The Cardio API refused it, and nothing of it was applied",
    "Read its words, mend the mapping, then replay. Where the sender was told no meanwhile, he sends it again.",
)
_TITLES = {
    State.IN_DOUBT.value: "In doubt",
    State.REJECTED.value: "Refused",
    State.HELD.value: "Held",
    "anomaly": "To be put right",
    "outbound": "Not told",
    "commitment": "Not told",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One of them. `replayable`: a replay of all of them makes sense."""

    title: str
    why: str
    to_do: str
    replayable: bool


def cause_of(kind: str, reason: str) -> Cause:
    """By the kind of a group (`store.work`) and its reason."""
    title = _TITLES[kind]
    if reason:
        title = f"{title}: {reason.replace('_', ' ').lower()}"
    if kind == State.HELD:
        held = HELD.get(reason)
        why = held.words if held is not None else reason.replace("_", " ")
        way = held.way if held is not None else Way.ANEW
        return Cause(title, _sentence(why), _TO_DO[way], way not in {Way.NEVER, Way.CARRY_OUT})
    refused = kind == State.REJECTED and reason == Reason.API_REFUSED
    why, to_do = _API_REFUSED if refused else _OF_STATE[kind]
    return Cause(title, _sentence(why), to_do, refused)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}." if words else ""
