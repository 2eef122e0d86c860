"""What a person can do with a message, by where it stands and why: one table, for the actions and for what is shown.

Pure: whoever shows a message offers what `acting` would do, and a refusal names the way out.
"""

from dataclasses import dataclass
from enum import StrEnum

from bridge.dispatch.decisions import CHANGED_SINCE
from bridge.dispatch.identities import MOVE, REUSED
from bridge.dispatch.routing import NO_ROUTE, ROUTES_DIFFER
from bridge.domain.states import UNDER_WAY, State
from bridge.mapping.matching import HoldReason
from bridge.store.line import GONE
from bridge.store.quarantine import REASON as QUARANTINE


class Action(StrEnum):
    """What can be asked for."""

    RELEASE = "release"
    REPLAY = "replay"
    DISCARD = "discard"
    RESOLVE = "resolve"


class Way(StrEnum):
    """How a release goes."""

    CHOOSE = "choose"  # the person says which order, or none
    AS_SAID = "as_said"  # the message counts as it reads
    CARRY_OUT = "carry_out"  # what it asks for is done now
    AGAIN = "again"  # its task is tried again
    ANEW = "anew"  # it is understood anew
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Held:
    """Why a message is held, in words, and how its release goes."""

    way: Way
    words: str


HELD: dict[str, Held] = {
    HoldReason.CONTRADICTION.value: Held(Way.CHOOSE, "an order has its number, and contradicts it"),
    HoldReason.TOO_LITTLE.value: Held(Way.CHOOSE, "an order has its number, and neither name nor birth date agrees"),
    HoldReason.AMBIGUOUS.value: Held(Way.CHOOSE, "several orders have its number and agree with it"),
    "no_order": Held(Way.CHOOSE, "no order has its number, and recordings without an order are held here"),
    "contradicts_patient_record": Held(Way.CHOOSE, "the patient record of its identifier is another person's"),
    "no_patient_id": Held(Way.CHOOSE, "it has no patient identifier: only with an order can it be told whose it is"),
    CHANGED_SINCE: Held(Way.CHOOSE, "the order that was chosen for it was changed or withdrawn before it was sent"),
    REUSED: Held(Way.ANEW, "its identifier was merged into another one, whose record is another person's"),
    MOVE: Held(Way.CARRY_OUT, "it moves an identifier, an account or a visit; later work of the patients waits for it"),
    "same_recording": Held(Way.NEVER, "its samples have a task row already, under another message"),
    "uid_conflict": Held(Way.ANEW, "another object came under its UID with other samples: released, it is one more"),
    "identity_update": Held(Way.ANEW, "another object came under its UID with the same samples and another identity"),
    "cannot_scale": Held(Way.ANEW, "its samples cannot be given a physical value"),
    "several_groups": Held(Way.ANEW, "it has several original groups, or some that do not say whether they are"),
    "groups_differ": Held(Way.ANEW, "its original groups have unlike leads: they may be parts of one recording"),
    "unreadable": Held(Way.ANEW, "it could not be read"),
    "poison": Held(Way.ANEW, "the bridge failed on it; the log names the error"),
    NO_ROUTE: Held(Way.ANEW, "no route of the settings says to which destination it goes"),
    ROUTES_DIFFER: Held(Way.ANEW, "its orders go to several destinations"),
    "order_elsewhere": Held(Way.CHOOSE, "its order has its draft at another destination: one of two routes is wrong"),
    "cannot_convert": Held(Way.AGAIN, "no upload file can be made of it"),
    "upload_failed": Held(Way.AGAIN, "its upload failed again and again"),
    "destination_gone": Held(Way.AGAIN, "its destination is not in the settings any more"),
    QUARANTINE: Held(Way.AGAIN, "the store was restored from a copy: look in Cardio.AI for its task, made since then"),
}
"""By reason. What is not here is tried again where it was understood, and else understood anew."""


@dataclass(frozen=True, slots=True)
class Case:
    """What decides: where a message stands. `told_no`: its sender sends it again, as he was told. `in_hand`: a process
    is at work on it.
    """

    message_id: int
    kind: str
    state: State
    reason: str
    told_no: bool
    with_task_fields: bool  # an order or a recording was understood of it
    in_doubt: bool  # one of its tasks may exist
    in_hand: bool = False

    def is_stranded(self) -> bool:
        """Whether it waits for a destination that the settings do not name: nothing but a person ends that (F42)."""
        return self.state is State.RETRY and self.reason == GONE and not self.in_hand

    def held(self) -> Held:
        """Why it is held."""
        known = HELD.get(self.reason)
        if known is None:
            return Held(Way.AGAIN if self.with_task_fields else Way.ANEW, self.reason.replace("_", " "))
        if self.reason == REUSED and self.with_task_fields:
            return Held(Way.CHOOSE if self.kind == "dicom" else Way.AS_SAID, known.words)
        if self.reason == "poison" and self.with_task_fields:
            return Held(Way.AGAIN, known.words)
        if known.way is Way.AGAIN and not self.with_task_fields:
            return Held(Way.ANEW, known.words)
        return known


_ELSEWHERE: dict[State, str] = {
    State.RECEIVED: "it waits to be understood; look again in a moment",
    State.CREATED: "its task is made, and the API can neither change nor delete one",
    State.DONE: "it is done, and no task is due",
    State.FILTERED: "it was passed over on purpose; what is ours is a matter of the settings",
    State.CANCELLED: "it is over, by a person's word or by a cancel of its order",
    State.IN_DOUBT: "its task may exist: resolve --task ID if it does, resolve --resend or --give-up if not",
    State.HELD: "it is held: release it, replay it, or discard it",
    State.REJECTED: "it was refused: replay it once the cause is mended, or discard it",
    **dict.fromkeys(UNDER_WAY, "the bridge is at work on it, or waits for the destination; look again"),
}
_STRANDED = "its destination is not in the settings any more: name it again and start anew, or discard the message"
_TOLD_NO = "its sender was told no, and to send it again: it can be looked at and discarded"
_STATES: dict[Action, frozenset[State]] = {
    Action.RELEASE: frozenset({State.HELD}),
    Action.REPLAY: frozenset({State.HELD, State.REJECTED}),
    Action.DISCARD: frozenset({State.HELD, State.REJECTED}),
    Action.RESOLVE: frozenset({State.IN_DOUBT}),
}


def why_not(action: Action, case: Case) -> str:
    """Why this cannot be done with it, and what can; empty where it can be tried."""
    if case.is_stranded():
        if action is not Action.DISCARD:
            return _STRANDED
        return "one of its tasks may exist: name its destination again, and start anew" if case.in_doubt else ""
    if case.state not in _STATES[action]:
        if case.told_no and case.state is State.REJECTED:
            return _TOLD_NO
        return _ELSEWHERE[case.state]
    if action in {Action.RELEASE, Action.REPLAY}:
        if case.told_no:
            return f"{_TOLD_NO}, never {action}d" if action is Action.RELEASE else f"{_TOLD_NO}, never replayed"
        if case.state is State.HELD and case.held().way is Way.NEVER:
            return f"{case.held().words}: that one counts, and this one can be discarded"
    if action is Action.REPLAY and case.state is State.HELD and case.held().way is Way.CARRY_OUT:
        return "release carries it out, and discard lets the patients' work go on without it"
    if action is Action.DISCARD and case.in_doubt:
        return "one of its tasks may exist: release it, and then resolve what is in doubt"
    return ""


def commands(case: Case) -> list[tuple[str, str]]:
    """What can be done, each as a command with what it does. Those of a doubt are told with the doubt itself."""
    made: list[tuple[str, str]] = []
    begin, number = "bridge messages", case.message_id
    if not why_not(Action.RELEASE, case):
        match case.held().way:
            case Way.CHOOSE:
                made.append((f"{begin} release {number} --order ORDER", "it belongs to this order, a listed candidate"))
                if case.reason != "no_patient_id":
                    made.append((f"{begin} release {number} --without-order", "a task from its own data alone"))
            case Way.AS_SAID:
                made.append((f"{begin} release {number}", "a task as the message says, with nothing from the record"))
            case Way.CARRY_OUT:
                made.append((f"{begin} release {number}", "the move is carried out, and what waited goes on"))
            case Way.AGAIN:
                why = " --reason TEXT" if case.reason == QUARANTINE else ""
                made.append((f"{begin} release {number}{why}", "its task is tried again"))
            case _:
                made.append((f"{begin} release {number}", "it is understood anew, by the settings in force now"))
    if not why_not(Action.REPLAY, case):
        made.append((f"{begin} replay {number}", "understood anew, by the mapping in force now, and matched anew"))
    if not why_not(Action.DISCARD, case):
        made.append((f"{begin} discard {number} --reason TEXT", "it never becomes a task"))
    return made
