"""Every action in every state: allowed or refused with the way out, and nothing changed where it is refused."""

import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.acts.audited import Acted
from bridge.dispatch.acts.ways import HELD, Action, Case, Way, commands, why_not
from bridge.dispatch.answers import Answers
from bridge.dispatch.cardio.response import TaskStatus
from bridge.domain.order import Standing
from bridge.domain.states import MOVES, State
from bridge.errors import ActionRefused
from bridge.mapping.in_force import rules_in_force
from bridge.settings import Settings
from bridge.store import audit, listing
from bridge.store.line import GONE
from bridge.store.port import Transaction
from bridge.store.schema import clinical_order, event, message, metadata, millis, number, task
from bridge.store.sqlite import SqliteStore
from bridge.store.untold import Queue

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BEGUN = NOW - timedelta(hours=1)
MAPPED = {
    "fields": {"patient_id": "4711", "patient_last_name": "Muster", "patient_first_name": "Max"},
    "traces": [],
    "warnings": [],
    "patient_authority": "",
    "numbers": [{"value": "PL-1", "kind": "placer", "authority": ""}],
}
NEVER_ANSWERED_NO = {"hl7": "AA", "dicom": "0000"}


class StandingClock(SystemClock):
    """Noon."""

    def now(self) -> datetime:
        return NOW


async def created_in_time(_: str, __: int) -> TaskStatus:
    return TaskStatus(BEGUN + timedelta(seconds=2), processed=False, report_available=False)


def acting(store: SqliteStore, **settings: Any) -> Acting:
    made = Settings.model_validate(settings)
    clock = StandingClock()
    return Acting(store, Answers(made.hl7, clock), rules_in_force(made), made, clock, created_in_time)


def insert(
    tx: Transaction, state: State, *, reason: str = "", kind: str = "dicom", answer: str = "", understood: Any = None
) -> int:
    """A message in this state; a recording is understood, and an order in the book has its number."""
    made = tx.conn.execute(
        message.insert().returning(message.c.id),
        {
            "kind": kind,
            "type": "ORM^O01" if kind == "hl7" else "12-lead ECG",
            "state": state,
            "reason": reason,
            "received_at": millis(BEGUN),
            "listener": "hl7",
            "sender": "HIS|TEST",
            "raw": b"MSH|^~\\&|HIS|TEST|||20260301||ORM^O01|C1|P|2.5.1\r" if kind == "hl7" else None,
            "order_key": "4711",
            "answer_code": answer or NEVER_ANSWERED_NO[kind],
            "understood": json.dumps(understood if understood is not None else {"orders": [], "recording": MAPPED}),
        },
    ).scalar_one()
    tx.conn.execute(event.insert(), {"message_id": made, "at": millis(BEGUN), "actor": "bridge", "state": state})
    return int(made)


def with_order(tx: Transaction, message_id: int) -> int:
    """An order of the recording's patient, with its number."""
    tx.conn.execute(
        number.insert(),
        {"role": "order", "message_id": message_id, "position": 1, "value": "PL-1", "kind": "placer"},
    )
    made = clinical_order.insert().returning(clinical_order.c.id)
    row = {
        "number": "PL-1",
        "message_id": message_id,
        "position": 1,
        "patient_value": "4711",
        "mapped": json.dumps(MAPPED),
        "digest": "d",
        "standing": Standing.ACTIVE,
    }
    return int(tx.conn.execute(made, row).scalar_one())


def with_task(tx: Transaction, message_id: int, state: State, **columns: Any) -> int:
    row = {
        "message_id": message_id,
        "position": 1,
        "purpose": "recording",
        "key": "br1-a",
        "state": state,
        "body": b"{}",
        "sent": True,
        "intent_at": millis(BEGUN),
        "settled_at": millis(BEGUN + timedelta(seconds=60)),
        **columns,
    }
    return int(tx.conn.execute(task.insert().returning(task.c.id), row).scalar_one())


def dump(conn: sa.Connection) -> dict[str, list[Any]]:
    """Everything that the store holds but its audit trail."""
    tables = [t for t in metadata.sorted_tables if t.name != "audit"]
    return {t.name: [tuple(r) for r in conn.execute(sa.select(t).order_by(*t.primary_key)).all()] for t in tables}


Do = Callable[[Acting, int], Awaitable[Acted]]
ACTIONS: dict[str, Do] = {
    "release": lambda a, n: a.release(n, by="max"),
    "release to an order": lambda a, n: a.release(n, by="max", order="PL-1"),
    "release without order": lambda a, n: a.release(n, by="max", without_order=True),
    "replay": lambda a, n: a.replay(n, by="max"),
    "discard": lambda a, n: a.discard(n, by="max", reason="seen"),
    "resolve found": lambda a, n: a.resolve_found(n, "4711", by="max"),
    "resolve resend": lambda a, n: a.resolve_resend(n, by="max", reason="searched", confirm="br1-a"),
    "resolve give up": lambda a, n: a.resolve_give_up(n, by="max", reason="searched", confirm="br1-a"),
}
ALLOWED: dict[tuple[State, str], State] = {
    (State.HELD, "release to an order"): State.READY,
    (State.HELD, "release without order"): State.READY,
    (State.HELD, "replay"): State.RECEIVED,
    (State.HELD, "discard"): State.CANCELLED,
    (State.REJECTED, "replay"): State.RECEIVED,
    (State.REJECTED, "discard"): State.CANCELLED,
    (State.IN_DOUBT, "resolve found"): State.CREATED,
    (State.IN_DOUBT, "resolve resend"): State.READY,
    (State.IN_DOUBT, "resolve give up"): State.CANCELLED,
}
"""Of a recording that the match held; everything else is refused."""


@pytest.mark.parametrize(("state", "name"), list(itertools.product(State, ACTIONS)))
async def test_every_action_in_every_state(store: SqliteStore, state: State, name: str) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, state, reason="contradicts_order" if state is State.HELD else "")
        with_order(tx, made)
        if state in {State.IN_DOUBT, State.REJECTED, State.CREATED, State.INTENT}:
            with_task(tx, made, state)
        return made

    number_of = await store.write(set_up)
    before = await store.read(dump)
    wanted = ALLOWED.get((state, name))
    if wanted is None:
        with pytest.raises(ActionRefused, match=f"^message {number_of} is {state}"):
            await ACTIONS[name](acting(store), number_of)
        assert await store.read(dump) == before
    else:
        acted = await ACTIONS[name](acting(store), number_of)
        assert acted.state == wanted
    (act,) = await store.read(lambda conn: list(audit.acts(conn)))
    assert (act.actor, act.outcome) == ("max", "refused" if wanted is None else "done")
    assert await store.read(audit.verify) is None


@pytest.mark.parametrize(("kind", "answer"), [("hl7", c) for c in ("AE", "AR", "CE", "CR")] + [("dicom", "C000")])
@pytest.mark.parametrize("state", [State.HELD, State.REJECTED, State.IN_DOUBT])
async def test_what_was_answered_no_never_becomes_a_task(
    store: SqliteStore, state: State, kind: str, answer: str
) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, state, reason="poison", kind=kind, answer=answer)
        if state is State.IN_DOUBT:
            with_task(tx, made, state)
        return made

    number_of = await store.write(set_up)
    before = await store.read(dump)
    for name in ("release", "release without order", "replay", "resolve resend"):
        with pytest.raises(ActionRefused, match=f"message {number_of} is {state}"):
            await ACTIONS[name](acting(store), number_of)
    assert await store.read(dump) == before
    out = "resolve give up" if state is State.IN_DOUBT else "discard"
    await ACTIONS[out](acting(store), number_of)


@pytest.mark.parametrize("reason", [*HELD, "something new"])
async def test_every_reason_has_a_way_out_that_is_offered(store: SqliteStore, reason: str) -> None:
    """What is shown as possible is possible, word for word."""
    number_of = await store.write(lambda tx: insert(tx, State.HELD, reason=reason))
    await store.write(lambda tx: with_order(tx, number_of))
    case = Case(number_of, "dicom", State.HELD, reason, told_no=False, with_task_fields=True, in_doubt=False)
    offered = [words for words, _ in commands(case)]
    assert f"bridge messages discard {number_of} --reason TEXT" in offered
    release = [words for words in offered if " release " in words]
    assert bool(release) == (case.held().way is not Way.NEVER)
    acts = acting(store)
    if case.held().way is Way.CARRY_OUT:
        return  # needs the message itself: acceptance
    if release:
        choice = {"order": "PL-1"} if case.held().way is Way.CHOOSE else {}
        acted = await acts.release(number_of, by="max", reason="seen", **choice)
        assert acted.state in {State.READY, State.RECEIVED}
    else:
        with pytest.raises(ActionRefused, match="this one can be discarded"):
            await acts.release(number_of, by="max", reason="seen")


def test_a_person_leaves_held_rejected_and_in_doubt_and_nothing_else_by_these_moves() -> None:
    assert MOVES[State.HELD] == {State.READY, State.RECEIVED, State.DONE, State.CANCELLED}
    assert MOVES[State.IN_DOUBT] >= {State.CREATED, State.READY, State.CANCELLED}
    assert not MOVES[State.CREATED] | MOVES[State.CANCELLED]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", Action)
def test_a_refusal_always_says_why(state: State, action: Action) -> None:
    case = Case(1, "dicom", state, "contradicts_order", told_no=True, with_task_fields=True, in_doubt=True)
    if state is not State.IN_DOUBT or action is not Action.RESOLVE:
        assert why_not(action, case) or (action is Action.DISCARD and state is State.REJECTED)


async def test_f41_a_message_in_quarantine_is_released_with_a_reason(store: SqliteStore) -> None:
    number_of = await store.write(lambda tx: insert(tx, State.HELD, reason="quarantine"))
    with pytest.raises(ActionRefused, match="needs a reason"):
        await acting(store).release(number_of, by="max")
    await acting(store).release(number_of, by="max", reason="searched: no task")


async def test_a_message_with_a_doubt_in_it_is_not_discarded(store: SqliteStore) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, State.HELD, reason="poison")
        with_task(tx, made, State.IN_DOUBT)
        return made

    number_of = await store.write(set_up)
    with pytest.raises(ActionRefused, match="resolve what is in doubt"):
        await acting(store).discard(number_of, by="max", reason="seen")


@pytest.mark.parametrize(("state", "reason"), [(State.HELD, "poison"), (State.RETRY, GONE)])
async def test_f42_what_waits_for_a_destination_that_is_gone_is_discarded_as_what_is_held(
    store: SqliteStore, state: State, reason: str
) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, state, reason=reason)
        with_task(tx, made, State.CREATED, position=1, key="br1-a")
        with_task(tx, made, State.RETRY, position=2, key="br1-b", sent=False, settled_at=None, reason="unreachable")
        return made

    number_of = await store.write(set_up)
    acted = await acting(store).discard(number_of, by="max", reason="that ward is closed")
    assert acted.state == State.CANCELLED

    def ended(conn: sa.Connection) -> tuple[Any, ...]:
        row = conn.execute(sa.select(message.c.state, message.c.reason, message.c.owner, message.c.next_at)).one()
        rows = conn.execute(sa.select(task.c.state, task.c.reason, task.c.settled_at).order_by(task.c.position)).all()
        return tuple(row), [tuple(one) for one in rows]

    created = ("CREATED", "", millis(BEGUN + timedelta(seconds=60)))
    drafts = [created, ("CANCELLED", "discarded", millis(NOW))]
    assert await store.read(ended) == (("CANCELLED", "discarded", None, None), drafts)


@pytest.mark.parametrize(("reason", "owner"), [(GONE, "somebody"), ("unreachable", None)])
async def test_f42_what_is_in_hand_or_waits_for_another_reason_is_not_discarded(
    store: SqliteStore, reason: str, owner: str | None
) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, State.RETRY, reason=reason)
        tx.conn.execute(message.update().values(owner=owner))
        return made

    number_of = await store.write(set_up)
    before = await store.read(dump)
    with pytest.raises(ActionRefused, match="the bridge is at work on it"):
        await acting(store).discard(number_of, by="max", reason="seen")
    assert await store.read(dump) == before


async def test_f42_every_other_act_on_a_message_without_its_destination_names_the_way_out(store: SqliteStore) -> None:
    number_of = await store.write(lambda tx: insert(tx, State.RETRY, reason=GONE))
    case = Case(number_of, "dicom", State.RETRY, GONE, told_no=False, with_task_fields=True, in_doubt=False)
    assert [words for words, _ in commands(case)] == [f"bridge messages discard {number_of} --reason TEXT"]
    for name in set(ACTIONS) - {"discard"}:
        with pytest.raises(ActionRefused, match="name it again and start anew, or discard the message"):
            await ACTIONS[name](acting(store), number_of)
    await store.write(lambda tx: with_task(tx, number_of, State.IN_DOUBT))
    with pytest.raises(ActionRefused, match="one of its tasks may exist: name its destination again"):
        await acting(store).discard(number_of, by="max", reason="seen")


async def test_f12_the_quiet_time_is_the_destinations_own(store: SqliteStore) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, State.IN_DOUBT)
        with_task(tx, made, State.IN_DOUBT, settled_at=millis(NOW - timedelta(seconds=100)))
        tx.conn.execute(message.update().values(destination="slow"))
        return made

    number_of = await store.write(set_up)
    slow = {"name": "slow", "organization_path": "b", "quiet_time": 120}
    cardio = {"quiet_time": 50, "organization_path": "a", "destinations": [slow]}
    with pytest.raises(ActionRefused, match="not before 2026-03-01T12:00:20"):
        await acting(store, cardio=cardio).resolve_resend(number_of, by="max", reason="searched", confirm="br1-a")
    cardio["destinations"] = [{**slow, "quiet_time": 99}]
    await acting(store, cardio=cardio).resolve_resend(number_of, by="max", reason="searched", confirm="br1-a")


async def test_f12_a_doubt_whose_end_nobody_wrote_down_ends_with_what_happened_last(store: SqliteStore) -> None:
    def set_up(tx: Transaction) -> int:
        made = insert(tx, State.IN_DOUBT)
        with_task(tx, made, State.IN_DOUBT, settled_at=None)
        at = millis(NOW - timedelta(seconds=100))
        tx.conn.execute(event.insert(), {"message_id": made, "at": at, "actor": "bridge", "state": State.IN_DOUBT})
        return made

    number_of = await store.write(set_up)
    with pytest.raises(ActionRefused, match="not before 2026-03-01T12:13:20"):
        await ACTIONS["resolve resend"](acting(store), number_of)


async def test_there_is_no_such_message(store: SqliteStore) -> None:
    for do in ACTIONS.values():
        with pytest.raises(ActionRefused, match="there is no message 99"):
            await do(acting(store), 99)
    with pytest.raises(ActionRefused, match="there is no outbound:99"):
        await acting(store).release_untold(Queue.OUTBOUND, 99, by="max")
    acts = await store.read(lambda conn: list(audit.acts(conn)))
    assert {a.outcome for a in acts} == {"refused"}
    assert all(a.message_id is None for a in acts)


async def test_doubts_are_counted_by_task_with_the_oldest(store: SqliteStore) -> None:
    assert await store.read(listing.in_doubt) == (0, None)

    def set_up(tx: Transaction) -> None:
        for n, state in enumerate((State.IN_DOUBT, State.CREATED, State.IN_DOUBT)):
            made = insert(tx, state)
            with_task(tx, made, state, key=f"br1-{n}", intent_at=millis(BEGUN) - n)

    await store.write(set_up)
    assert await store.read(listing.in_doubt) == (2, millis(BEGUN) - 2)
