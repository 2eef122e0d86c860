"""Twelve deliberate faults, each with the suite that must go red for it.

What is planted is code that a hurried hand could have written. `BRIDGE_SEEDED_BUG=name` plants one: as a plugin of
pytest (`-p tests.seeded.bugs`), and in each service of a campaign's stage.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bridge.dispatch import booking, deciding, policy
from bridge.dispatch.cardio.exchange import Exchange
from bridge.dispatch.cardio.response import Response
from bridge.domain.outcome import Unknown
from bridge.domain.states import State
from bridge.domain.verdict import AckCode, Verdict
from bridge.mapping import matching
from bridge.receive import intake
from bridge.store import inbox, line, tasks
from bridge.store.schema import message, task
from tests.campaign import powercut_sabotage

SWITCH = "BRIDGE_SEEDED_BUG"


def answer_before_commit() -> None:
    async def keep(self: Any, arrived: Any) -> Any:
        arrival = self._arrival(arrived.envelope, arrived.header)
        ticket = self._replies.ticket()
        writing = self._store.submit(lambda tx: self._custody(tx, arrival, ticket, None, arrived.message, None))
        writing.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return intake.Answer(self._build(arrived, Verdict(AckCode.AA)))

    intake.Hl7Intake._keep = keep


def intent_after_post() -> None:
    """What is durable while the POST is under way says that nothing is under way."""
    intending, again = tasks.intend, line.recover

    def intend(tx: Any, **values: Any) -> int:
        row = intending(tx, **values)
        tx.conn.execute(task.update().where(task.c.id == row), {"state": State.RETRY, "sent": False})
        return row

    def recover(tx: Any, *, at: Any, keep_waiting: Any = ()) -> Any:
        tx.conn.execute(message.update().where(message.c.state == State.INTENT), {"state": State.READY, "owner": None})
        return again(tx, at=at, keep_waiting=keep_waiting)

    tasks.intend, line.recover = intend, recover


def expired_back_to_ready() -> None:
    again = line.recover

    def recover(tx: Any, *, at: Any, keep_waiting: Any = ()) -> Any:
        tx.conn.execute(task.update().where(task.c.state == State.INTENT), {"state": State.RETRY, "sent": False})
        tx.conn.execute(message.update().where(message.c.state == State.INTENT), {"state": State.READY, "owner": None})
        return again(tx, at=at, keep_waiting=keep_waiting)

    line.recover = recover


def redirects_followed() -> None:
    once = Exchange.post

    async def post(self: Any, target: bytes, headers: Any, body: bytes) -> Any:
        came = await once(self, target, headers, body)
        if isinstance(came, Response) and came.status in {301, 302, 303, 307, 308}:
            return await once(self, target, headers, body)
        return came

    Exchange.post = post


def keep_alive_retry() -> None:
    once = Exchange.post

    async def post(self: Any, target: bytes, headers: Any, body: bytes) -> Any:
        came = await once(self, target, headers, body)
        return await once(self, target, headers, body) if isinstance(came, Unknown) else came

    Exchange.post = post


def no_dedupe() -> None:
    whole = inbox.keep
    inbox.keep = lambda tx, arrival, **more: whole(tx, replace(arrival, identity=None), **more)


def dedupe_by_control_id_alone() -> None:
    intake._content_digest = lambda body, header: "-"


def match_by_id_alone() -> None:
    def match(recording: Any, orders: Any, *, site_authority: str = "") -> Any:
        for order in orders:
            if recording.identifier.agrees(order.identifier, site_authority=site_authority):
                return matching.Matched(order.order_id, ("patient_id",))
        return matching.NoOrder("no order of this patient")

    matching.match = deciding.match = match


def merge_ignored() -> None:
    def canonical(tx: Any, identifier: Any, site_authority: str) -> Any:
        return identifier

    booking.canonical = deciding.canonical = canonical


def retry_after_ignored() -> None:
    whole = policy._asked
    policy._asked = lambda retry_after, attempt, jitter: whole(None, attempt, jitter)


@dataclass(frozen=True)
class Bug:
    """How it is planted, and the tests that must find it."""

    plant: Callable[[], None]
    suite: tuple[str, ...]


POWER_CUT = ("tests/acceptance/test_a1_power_cut.py", "-k", "cuts_lose_nothing")
BUGS = {
    "synchronous=NORMAL": Bug(powercut_sabotage.normal, POWER_CUT),
    "answer before commit": Bug(answer_before_commit, ("tests/acceptance/test_at_once.py", "-k", "f26")),
    "no folder fsync": Bug(powercut_sabotage.no_folder_fsync, POWER_CUT),
    "INTENT after POST": Bug(
        intent_after_post, ("tests/acceptance/test_groups.py", "-k", "f10_ended and kept and settle")
    ),
    "lease expiry back to READY": Bug(
        expired_back_to_ready, ("tests/acceptance/test_groups.py", "-k", "f10_ended and kept and settle")
    ),
    "redirects followed": Bug(redirects_followed, ("tests/protocol/test_cardio_client.py", "-k", "redirect")),
    "keep-alive retry": Bug(keep_alive_retry, ("tests/protocol/test_cardio_client.py", "-k", "f12")),
    "no dedupe": Bug(no_dedupe, ("tests/acceptance/test_order_to_task.py", "-k", "f30")),
    "dedupe by MSH-10 alone": Bug(dedupe_by_control_id_alone, ("tests/acceptance/test_order_to_task.py", "-k", "f31")),
    "match by id alone": Bug(match_by_id_alone, ("tests/unit/mapping/test_mapping_matching.py", "-k", "f35")),
    "merge ignored": Bug(merge_ignored, ("tests/acceptance/test_hl7_cases_orders.py", "-k", "f34_an_order_under")),
    "Retry-After ignored": Bug(
        retry_after_ignored, ("tests/acceptance/test_custody_faults_orders.py", "-k", "f14_retry_after")
    ),
}


def plant_asked_for() -> None:
    """Plant what the environment asks for. Raises KeyError for a bug that there is not."""
    if name := os.environ.get(SWITCH):
        BUGS[name].plant()


def pytest_configure() -> None:
    """As a plugin of pytest."""
    plant_asked_for()
