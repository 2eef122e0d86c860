"""The POST of a task: sent once, and what it came to is written with what is next of its message."""

import random
from collections.abc import Callable

import structlog

from bridge.clock import Clock
from bridge.dispatch.concluding import Told, refusal
from bridge.dispatch.deciding import Post
from bridge.dispatch.destination import Destination
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.in_hand import InHand, Moves
from bridge.dispatch.policy import Created, Decision, InDoubt, PauseDestination, Reason, Reject, Retry, Step, decide
from bridge.domain.outcome import NotSent
from bridge.domain.states import State
from bridge.domain.verdict import OrderReply
from bridge.errors import CommitUnknown
from bridge.store import tasks
from bridge.store.port import T, Transaction

log = structlog.get_logger()

Then = Callable[[Transaction, Told], T | None]
"""What is next of a message, in the transaction that writes what the POST came to."""


class Sending:
    """Makes the one call that must never be made twice."""

    def __init__(self, destinations: Destinations, moves: Moves, clock: Clock) -> None:
        self._destinations = destinations
        self._moves = moves
        self._clock = clock
        self._random = random.Random()  # noqa: S311  jitter, not a secret

    def jitter(self) -> float:
        """In [0, 1)."""
        return self._random.random()

    async def post(self, destination: Destination, work: InHand, post: Post, then: Then[T]) -> T | None:
        """Send an intention, write what it came to, and with it what `then` makes of it: what is sent next.

        None: nothing. An intention that meets a window in which nothing may be sent is put back as it is.
        """
        decision, sent = await self._outcome(destination, work, post)

        def settle(tx: Transaction) -> T | None:
            told = self._settle(tx, work, post, decision, sent=sent)
            return None if told is None else then(tx, told)

        try:
            return await self._moves.insist(work, settle)
        except CommitUnknown:
            raise
        except Exception as problem:  # noqa: BLE001  what the POST came to must not go with what follows it
            log.error("message.held", message=work.claimed.id, reason="poison", error=type(problem).__name__)
            await self._moves.insist(work, lambda tx: self._alone(tx, work, post, decision, sent=sent))
            return None

    async def _outcome(self, destination: Destination, work: InHand, post: Post) -> tuple[Decision, bool]:
        """What the policy makes of the POST, and whether anything of it left us."""
        stopped = destination.stopped()  # since it was taken in hand: the rate limit of another, a token refused (F14)
        if stopped is not None:
            return stopped, False
        if not self._moves.may_send():  # it stood still behind its intention, and another may have its work (F40)
            return Retry(0.0, Reason.STOOD_STILL), False
        outcome = await destination.client.create_tasks(post.body)
        decision = decide(
            Step.CREATE,
            outcome,
            attempt=work.claimed.attempts,
            jitter=self.jitter(),
            unavailable_is_not_applied=destination.settings.unavailable_is_not_applied,
        )
        await self._destinations.note(destination, decision)
        return decision, not isinstance(outcome, NotSent)

    def _alone(self, tx: Transaction, work: InHand, post: Post, decision: Decision, *, sent: bool) -> None:
        """What the POST came to, where nothing else of the message can be settled: a person looks at the rest."""
        self._settle(tx, work, post, decision, sent=sent)
        self._moves.move(tx, work, State.HELD, reason="poison")

    def _settle(self, tx: Transaction, work: InHand, post: Post, decision: Decision, *, sent: bool) -> Told | None:
        now, control = self._clock.now(), work.control
        match decision:
            case Created(task_ids):
                tasks.settle(tx, post.task_row, State.CREATED, at=now, task_ids=task_ids)
                return Told(OrderReply(control, tuple(task_ids)), State.CREATED)
            case Reject(reason=reason, api_text=text, status=status):
                tasks.settle(tx, post.task_row, State.REJECTED, at=now, reason=reason, api_status=status, api_text=text)
                reply = OrderReply("UA", reason="the Cardio API refused it")
                return Told(reply, State.REJECTED, refusal(text), reason)
            case InDoubt(reason=reason):
                tasks.settle(tx, post.task_row, State.IN_DOUBT, at=now, reason=reason)
                return Told(OrderReply(control), State.IN_DOUBT, reason=reason)
        why, after = waiting(decision)
        tasks.settle(tx, post.task_row, State.RETRY, at=now, reason=why, sent=sent)
        self._moves.put_back(tx, work, why, after)
        return None


def waiting(decision: Decision, otherwise: float = 5.0) -> tuple[str, float]:
    """Why a message waits, and for how many seconds."""
    match decision:
        case Retry(after=after, reason=reason):
            return reason, after
        case PauseDestination(reason=reason, probe_after=after):
            return reason, after
        case _:
            return "upload_failed", otherwise
