"""What a person can do with a message, as forms: what `acting` would do is offered, and else it is said why not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.dispatch.acts.ways import Action, Case, Way, why_not
from bridge.domain.states import State
from bridge.store.quarantine import REASON as QUARANTINE

_RELEASES: dict[Way, tuple[str, str]] = {
    Way.CHOOSE: ("Release", "It goes on as you say here, and as no rule would have it."),
    Way.AS_SAID: ("Release as the message says", "A task as the message says, with nothing from the patient record."),
    Way.CARRY_OUT: ("Carry it out", "The move is carried out, and what waited for it goes on."),
    Way.AGAIN: ("Try again", "Its task is tried again, with every attempt ahead of it."),
    Way.ANEW: ("Release", "It is understood anew, by the settings in force now."),
}
REPLAY = "It is understood anew by the mapping in force now, and matched anew."


@dataclass(frozen=True, slots=True)
class Release:
    """How a release is asked for. `choose`: an order of the candidates, or `without_order` where that may be."""

    label: str
    does: str
    choose: bool = False
    without_order: bool = False
    needs_reason: bool = False


@dataclass(frozen=True, slots=True)
class Offers:
    """The forms of a page. `nothing` says why there is none."""

    release: Release | None = None
    replay: bool = False
    discard: bool = False
    resend: bool = False
    nothing: str = ""


_NOTHING: dict[State, str] = {
    State.RECEIVED: "It waits to be understood; this page follows it.",
    State.CREATED: "Its task is made. The API can neither change nor delete one; that is done in Cardio.AI.",
    State.DONE: "It is done, and no task is due.",
    State.FILTERED: "It was passed over on purpose: what is ours is a matter of the settings.",
    State.CANCELLED: "It is over, by a person's word or by a cancel of its order.",
}


def offers(case: Case) -> Offers:
    """By where it stands and why."""
    if case.state is State.IN_DOUBT:
        return Offers(resend=not case.told_no)
    release = None
    if not why_not(Action.RELEASE, case):
        held = case.held()
        label, does = _RELEASES[held.way]
        choose = held.way is Way.CHOOSE
        release = Release(
            label,
            does,
            choose=choose,
            without_order=choose and case.reason != "no_patient_id",
            needs_reason=case.reason == QUARANTINE,
        )
    replay = not why_not(Action.REPLAY, case)
    discard = not why_not(Action.DISCARD, case)
    nothing = ""
    if release is None and not replay:
        first = case.state in {State.HELD, State.REJECTED}
        said = why_not(Action.RELEASE if case.state is State.HELD else Action.REPLAY, case)
        nothing = (
            f"{said[:1].upper()}{said[1:]}."
            if first
            else _NOTHING.get(
                case.state, "The bridge is at work on it, or waits for its destination; this page follows it."
            )
        )
    return Offers(release, replay=replay, discard=discard, nothing=nothing)


_WORDS: Mapping[str, str] = {
    "say so: --resend --reason TEXT --confirm ": "give the tag again: ",
    "say so: --give-up --reason TEXT --confirm ": "give the tag again: ",
    ": --resend --reason TEXT": "",
    ": --give-up --reason TEXT": "",
    ": --reason TEXT": "",
    ": --give-up ends the doubt": ": giving it up ends the doubt",
    ", --order ORDER, or --without-order": ", or without order",
}
"""The longest first: one may stand in another."""


def for_page(refused: str) -> str:
    """A refusal in the words of a page: those of the command line mean nothing here."""
    said = re.sub(r"bridge messages show(?: \d+)? lists (those that are|them)", r"this page lists \1", refused)
    said = re.sub(r"; see bridge messages list( --untold)?", "", said)
    for words, instead in _WORDS.items():
        said = said.replace(words, instead)
    return said
