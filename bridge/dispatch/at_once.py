"""A message that is entered in the transaction that keeps it: one commit where nothing stands before it.

What cannot be done this way is kept alone, and the reader takes it up as it always does: where an older HL7 message
waits to be read (it counts for those behind it), where the message is large, where reading or entering it fails.
Recordings that wait to be read are no reason: what is matched is matched when it is sent.

The price: such a message is read before it is kept, while the attempts at a kept one are counted first (F28). One that
ends the process is in nobody's custody then, and its sender brings it again. So `last_read` remembers who was in hand:
after the next start that message is kept first, its attempts are counted, and it is tried apart and held like any other
poison. Its sender waits for two starts more than before, and gets his answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.entering import Entering
from bridge.dispatch.in_hand import Taken
from bridge.dispatch.last_read import LastRead, Step
from bridge.dispatch.understand import Understood, understand_message
from bridge.domain.states import State
from bridge.formats.hl7.reader import Message
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store import inbox, line
from bridge.store.port import Transaction

log = structlog.get_logger()

LARGEST = 64 * 1024
"""Bytes: a longer message is on stable storage before anything is made of it (F28)."""


@dataclass(slots=True)
class Breath:
    """One message on its way in, understood and not yet kept. `reserved`: where a place to send it is kept for it."""

    understood: Understood
    message: Message
    reserved: str
    taken: Taken | None = None


class AtOnce:
    """Understands before it is kept, and enters as it is kept."""

    def __init__(
        self,
        rules: Mapping[str, Rules],
        settings: Settings,
        clock: Clock,
        answers: Answers,
        delivering: Delivering,
        last_read: LastRead,
    ) -> None:
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self._entering = Entering(settings, clock, answers)
        self._delivering = delivering
        self._last_read = last_read

    def begin(self, arrival: inbox.Arrival, message: Message) -> Breath | None:
        """What the message asks for; None where it is better kept first. Whoever gets one gives it to `end`."""
        if arrival.raw is None or len(arrival.raw) > LARGEST or self._last_read.suspects(arrival.digest):
            return None
        rules = self._rules.get(arrival.listener) or self._rules["hl7"]
        listener = self._answers.rules(arrival.listener, arrival.sender)
        self._last_read.note(Step.UNDERSTOOD, arrival.digest)
        try:
            understood = understand_message(message, arrival.sender, rules, self._settings, self._clock.now(), listener)
        except Exception as problem:  # noqa: BLE001  it is kept first then, and held by its reader
            log.error("message.not_understood_at_once", error=type(problem).__name__)
            return None
        goes_to = ""
        if understood.state is State.READY:
            goes_to = self._entering.goes_to(arrival.listener, arrival.sender, understood, message)
        return Breath(understood, message, goes_to if self._delivering.reserve(goes_to) else "")

    def enter(self, tx: Transaction, arrival: inbox.Arrival, kept: inbox.Kept, breath: Breath) -> inbox.Kept | None:
        """Enter a message that was kept in this transaction; None where older ones wait to be read before it.

        Raises what entering raises: then it is not kept either, and is to be kept alone.
        """
        if line.is_unread_before(tx.conn, kept.id):
            return None
        self._last_read.note(Step.ENTERED, arrival.digest)
        claimed = line.claimed_anew(kept.id, arrival, kept.answer, kept.answer_code)
        tx.known["said", kept.id] = kept.answer_code
        entered = self._entering.enter(tx, claimed, breath.understood, breath.message)
        if breath.reserved and entered.destination == breath.reserved:
            breath.taken = self._delivering.take(tx, claimed, entered, breath.message)
        answer, code = entered.answer or (kept.answer, kept.answer_code)
        return inbox.Kept(kept.id, known=False, state=entered.understood.state, answer=answer, answer_code=code)

    def end(self, breath: Breath, *, kept: bool) -> None:
        """After the commit, or instead of it: what is to be sent is sent, or the place for it is given back."""
        if breath.reserved:
            self._delivering.begin(breath.reserved, breath.taken if kept else None)
