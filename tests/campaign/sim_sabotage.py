"""Faults put into the bridge on purpose, inside a simulation: the verdict must be red for each (issue 5, Build 8)."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from bridge.dispatch import deciding, policy, sending
from bridge.dispatch.policy import Retry, Step
from bridge.domain.outcome import Outcome, Unknown
from bridge.domain.states import State
from bridge.mapping.matching import Matched
from bridge.receive import intake
from bridge.store import line
from bridge.store.schema import task
from tests.campaign.sim_api import SimClient
from tests.campaign.sim_store import SimStore


@contextlib.contextmanager
def blind_retry() -> Iterator[None]:
    """A POST whose answer was lost is sent again."""

    def spoiled(step: Step, outcome: Outcome, **more: Any) -> policy.Decision:
        if step is Step.CREATE and isinstance(outcome, Unknown):
            return Retry(1.0, policy.Reason.ANSWER_LOST)
        return policy.decide(step, outcome, **more)

    with mock.patch.object(sending, "decide", spoiled):
        yield


@contextlib.contextmanager
def intents_are_ready_again() -> Iterator[None]:
    """A start sends again what may have been sent."""
    honest = line.recover

    def spoiled(tx: Any, **more: Any) -> dict[str, int]:
        tx.conn.execute(task.update().where(task.c.state == State.INTENT), {"state": State.RETRY, "sent": False})
        return honest(tx, **more)

    with mock.patch.object(line, "recover", spoiled):
        yield


@contextlib.contextmanager
def the_transport_repeats() -> Iterator[None]:
    """A client that sends a request again over another connection, as some do for kept ones."""
    honest = SimClient.create_tasks

    async def spoiled(self: SimClient, body: bytes) -> Outcome:
        came = await honest(self, body)
        return await honest(self, body) if isinstance(came, Unknown) else came

    with mock.patch.object(SimClient, "create_tasks", spoiled):
        yield


@contextlib.contextmanager
def nothing_is_a_resend() -> Iterator[None]:
    """No message is told from another."""
    honest: Callable[..., Any] = intake.Hl7Intake._arrival

    def spoiled(self: Any, *given: Any) -> Any:
        return dataclasses.replace(honest(self, *given), identity=None)

    with mock.patch.object(intake.Hl7Intake, "_arrival", spoiled):
        yield


@contextlib.contextmanager
def the_number_is_enough() -> Iterator[None]:
    """A recording belongs to whichever order has its number."""
    honest = deciding.match

    def spoiled(recording: Any, orders: Any, **more: Any) -> Any:
        return Matched(orders[0].order_id, ()) if orders else honest(recording, orders, **more)

    with mock.patch.object(deciding, "match", spoiled):
        yield


@contextlib.contextmanager
def answers_come_first() -> Iterator[None]:
    """Senders are told before the commit."""
    honest = SimStore._written

    def spoiled(self: SimStore, group: Any) -> None:
        if self._mishaps.dice.random() < 0.1 and not self._mishaps.quiet:
            self._conn.begin()
            for job in group:
                self._run(self._conn, job, [], alone=True)
            self._conn.rollback()
            self._fate = ""
            self._tell(group, [])
            self._loop.call_later(0.5, self._die)
            return
        honest(self, group)

    with mock.patch.object(SimStore, "_written", spoiled):
        yield


FAULTS = (
    blind_retry,
    intents_are_ready_again,
    the_transport_repeats,
    nothing_is_a_resend,
    the_number_is_enough,
    answers_come_first,
)
