"""Messages understood one after the other, in order of arrival: an ADT counts for the order behind it.

One reader a store keeps that order; it is quick, since it neither waits for the API nor reads samples.
"""

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.entering import Entering
from bridge.dispatch.understand import Understood, understand_message, understand_recording
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Condition, Problem, Verdict
from bridge.errors import BadInput, BridgeError, CommitUnknown, StoreError
from bridge.formats.dicom.reader import read_object
from bridge.formats.hl7.reader import Message
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store import line
from bridge.store.payloads import Payloads
from bridge.store.port import Store, Transaction

log = structlog.get_logger()

BATCH = 64
ATTEMPTS = 3
"""A message that ends its reader this often is held (F28)."""


@dataclass(frozen=True, slots=True)
class _Read:
    claimed: line.Claimed
    understood: Understood
    message: Message | None = None


class Reading:
    """Turns RECEIVED into what it is: understood, refused, held, or ready for its task."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        rules: Mapping[str, Rules],
        settings: Settings,
        clock: Clock,
        answers: Answers,
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._answers = answers
        self._entering = Entering(settings, clock, answers)
        self.wake = asyncio.Event()

    def _rules_of(self, listener: str) -> Rules:
        return self._rules.get(listener) or self._rules["hl7"]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wake.clear()
            try:
                claimed = await self._store.write(lambda tx: line.next_received(tx, BATCH))
            except StoreError as problem:  # a full disk: nothing is lost, and it is tried again
                log.error("line.not_read", error=type(problem).__name__)
                await self._clock.sleep(1.0)
                continue
            done = [await self._read(one) for one in claimed]
            await asyncio.gather(*(self._keep_entering(one) for one in done))
            if len(claimed) < BATCH:
                await self.wake.wait()

    async def _keep_entering(self, one: _Read) -> None:
        """Enter one, alone: what fails in it leaves its neighbours as they are. A full disk is waited out."""
        while True:
            try:
                await self._store.write(functools.partial(self._entered, one=one))
            except StoreError:
                log.error("message.not_entered", message=one.claimed.id)
                await self._clock.sleep(1.0)
            except (CommitUnknown, asyncio.CancelledError):
                raise
            except Exception as problem:  # noqa: BLE001  edge of the loop: a poison message is held
                log.error("message.poison", message=one.claimed.id, error=type(problem).__name__)
                one = replace(one, understood=Understood(State.HELD, reason="poison"))
            else:
                return

    def _entered(self, tx: Transaction, one: _Read) -> None:
        self._entering.enter(tx, one.claimed, one.understood, one.message)

    async def _read(self, claimed: line.Claimed) -> _Read:
        if claimed.attempts > ATTEMPTS:
            return _Read(claimed, Understood(State.HELD, reason="poison"))
        try:
            if claimed.kind == "hl7":
                message, listener = self._answers.read(claimed)
                rules = self._rules_of(claimed.listener)
                now = self._clock.now()
                understood = understand_message(message, claimed.sender, rules, self._settings, now, listener)
                return _Read(claimed, understood, message)
            path = self._payloads.path(claimed.payload or "")
            found = await asyncio.to_thread(read_object, path)
            rules = self._rules_of(claimed.listener)
            return _Read(claimed, understand_recording(found, claimed.sender, rules, self._settings))
        except BadInput as problem:
            log.info("message.unreadable", message=claimed.id)
            return _Read(claimed, _unreadable(problem))
        except (BridgeError, OSError) as problem:
            log.error("message.held", message=claimed.id, error=type(problem).__name__)
            return _Read(claimed, Understood(State.HELD, reason="unreadable"))
        except Exception as problem:  # noqa: BLE001  edge of the loop: a poison message is held, its neighbours flow
            log.error("message.poison", message=claimed.id, error=type(problem).__name__)
            return _Read(claimed, Understood(State.HELD, reason="poison"))


def _unreadable(problem: BadInput) -> Understood:
    condition = Condition(problem.code) if problem.code in list(Condition) else Condition.SEGMENT_SEQUENCE
    told = Problem(condition, str(problem), problem.where)
    return Understood(
        State.REJECTED, reason=condition.name.lower(), verdict=Verdict(AckCode.AE, str(problem), (), (told,))
    )
