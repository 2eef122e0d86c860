"""What every engine of the store promises of pruning: what is unfinished stays as it is, the rest is emptied."""

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.domain.order import Standing
from bridge.domain.patient import Identifier, PatientUpdate
from bridge.domain.states import State
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.formats.hl7.bare import bare
from bridge.retention_settings import RetentionSettings
from bridge.store import (
    alarms,
    anomalies,
    audit,
    book,
    commitments,
    going,
    inbox,
    line,
    listing,
    marks,
    outbound,
    outdated,
    patients,
    people,
    prune,
    search,
    tasks,
    terms,
    watched,
)
from bridge.store.port import Store, Transaction
from bridge.store.schema import anomaly, clinical_order, commitment, event, message, millis, notice, number, task, term
from bridge.store.schema import outbound as outbound_table

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)
EDGES = prune.upto(RetentionSettings(), NOW)
CANARY = "Zebrafink"
ANSWER = f"MSH|^~\\&|B|B|HIS|TEST|2026||ORR^O02|CB1|P|2.3.1\rMSA|AA|C1|task=4711\rPID|||||{CANARY}\r".encode()
_ids = itertools.count(1)


def arrival(kind: str = "hl7", uid: str = "", at: datetime = LONG_AGO) -> inbox.Arrival:
    own = next(_ids)
    return inbox.Arrival(
        kind=kind,
        type="ORM^O01" if kind == "hl7" else "12-lead ECG",
        received_at=at,
        listener=kind,
        peer="10.0.0.1",
        sender="HIS|TEST",
        identity=f"sop:{uid}:{own}" if kind == "dicom" else f"id-{own}",
        digest=f"digest-{own}",
        control_id=f"C{own}" if kind == "hl7" else "",
        sop_instance_uid=(uid or f"1.2.{own}") if kind == "dicom" else "",
        raw=f"MSH|{CANARY}".encode() if kind == "hl7" else None,
        payload=f"aa/{own}.dcm" if kind == "dicom" else None,
        size=100,
    )


def mapped(number: str = "") -> Mapped:
    numbers = (OrderNumber(number, NumberKind.PLACER, "HIS"),) if number else ()
    return Mapped({"patient_id": "4711", "patient_last_name": CANARY}, numbers=numbers)


def put(tx: Transaction, state: State, one: inbox.Arrival | None = None, *, at: datetime = LONG_AGO) -> int:
    """A message that came to this state, with everything that a message may have of a patient's."""
    one = one or arrival(at=at)
    kept = inbox.keep(tx, one, answer=ANSWER if one.kind == "hl7" else b"", answer_code="AA")
    said = {"orders": [], "recording": book.mapped_to_json(mapped()), "warnings": [CANARY], "doubts": []}
    columns = {"understood": json.dumps(said), "order_key": CANARY, "order_number": f"PL-{kept.id}"}
    if state is not State.RECEIVED:
        inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=at, detail={"warnings": [CANARY]}, **columns)
    between = {State.RETRY: (), State.UPLOADING: (), State.IN_DOUBT: (State.INTENT,), State.INTENT: ()}
    steps = between.get(state, ())
    before = State.READY
    for after in (*steps, *(() if state in {State.RECEIVED, State.READY} else (state,))):
        if after is State.FILTERED:
            tx.conn.execute(message.update().where(message.c.id == kept.id), {"state": State.FILTERED})
            inbox.record(tx, kept.id, after, at=at)
        else:
            assert inbox.move(tx, kept.id, before, after, at=at)
        before = after
    terms.note(tx, kept.id, [*terms.of_patient([CANARY], [CANARY]), *terms.of_tasks([4711])])
    return kept.id


def intend(
    tx: Transaction, message_id: int, state: State, *, purpose: str = "recording", order: int | None = None,
    at: datetime = LONG_AGO,
) -> int:  # fmt: skip
    """A task row in a state, which is not watched any more."""
    row = tasks.intend(
        tx, message_id=message_id, position=0, order_id=order, purpose=purpose, key=f"key-{next(_ids)}", generation=1,
        body=json.dumps({"patient_last_name": CANARY}).encode(), traces=(), at=at,
    )  # fmt: skip
    if state is not State.INTENT:
        tasks.settle(tx, row, state, at=at, task_ids=[next(_ids)] if state is State.CREATED else (), api_text=CANARY)
    tx.conn.execute(task.update().where(task.c.id == row), {"watch_at": None})
    return row


def book_one(tx: Transaction, message_id: int, number: str, *, standing: Standing = Standing.ACTIVE) -> int:
    booked = book.book_order(
        tx, message_id=message_id, position=1, own_number=OrderNumber(number, NumberKind.PLACER, "HIS"),
        patient_id=Identifier(CANARY), mapped=mapped(number), digest="d", standing=standing, visit=CANARY,
        due_at=LONG_AGO,
    )  # fmt: skip
    assert booked is not None
    return booked.id


def can_go(conn: sa.Connection, edges: prune.Upto = EDGES) -> list[int]:
    found: list[int] = []
    window = prune.Window((), 0)
    while window.last is not None:
        window = prune.window(conn, window.last, edges)
        found += window.ids
    return found


def empty(tx: Transaction, edges: prune.Upto = EDGES) -> prune.Emptied:
    done = prune.Emptied()
    ids = can_go(tx.conn, edges)
    for at in range(0, len(ids), prune.STEP):
        more = prune.empty(tx, ids[at : at + prune.STEP], edges, at=NOW, by="me", bare=bare)
        done = prune.Emptied(done.messages + more.messages, done.size + more.size, (*done.going, *more.going))
    return done


async def prune_all(store: Store, edges: prune.Upto = EDGES) -> prune.Emptied:
    """Everything that can go; and a message behind it, so that nothing of it is the newest of its table."""

    def work(tx: Transaction) -> prune.Emptied:
        newest = put(tx, State.HELD, at=NOW)
        outbound.add(tx, message_id=newest, kind="task_ids", listener="hl7", address="h:1", order_key=None,
                     control_id=f"CB{next(_ids)}", body=b"MSH", at=NOW)  # fmt: skip
        return empty(tx, edges)

    return await store.write(work)


def everything(conn: sa.Connection, message_id: int) -> dict[str, list[Any]]:
    """Every row of every table that has to do with a message, but what its patient is known by."""
    found: dict[str, list[Any]] = {}
    for table, column in (
        (message, message.c.id), (event, event.c.message_id), (task, task.c.message_id), (term, term.c.message_id),
        (number, number.c.message_id), (clinical_order, clinical_order.c.message_id),
        (outbound_table, outbound_table.c.message_id), (anomaly, anomaly.c.task_message_id),
    ):  # fmt: skip
        rows = conn.execute(sa.select(table).where(column == message_id)).all()
        found[table.name] = sorted([tuple(row) for row in rows], key=repr)
    return found


# --- what stays ---------------------------------------------------------------------------------------------


def _nothing(_: Transaction, __: int) -> None:
    return None


def _task(state: State) -> Callable[[Transaction, int], object]:
    return lambda tx, own: intend(tx, own, state)


def _outbound(state: str) -> Callable[[Transaction, int], object]:
    def add(tx: Transaction, own: int) -> None:
        control_id = f"CB{next(_ids)}"
        outbound.add(tx, message_id=own, kind="task_ids", listener="hl7", address="h:1", order_key=CANARY,
                     control_id=control_id, body=CANARY.encode(), at=LONG_AGO)  # fmt: skip
        table = outbound_table
        settled = None if state == "WAITING" else millis(LONG_AGO)
        tx.conn.execute(table.update().where(table.c.control_id == control_id), {"state": state, "settled_at": settled})

    return add


def _anomaly(*, settled: bool, other: bool) -> Callable[[Transaction, int], object]:
    def add(tx: Transaction, own: int) -> None:
        second = put(tx, State.HELD, at=NOW)
        first, task_message = (second, own) if other else (own, second)
        reason = "settled" if settled else "to settle"
        anomalies.note(tx, message_id=first, task_message_id=task_message, reason=reason, task_ids=[1], at=LONG_AGO)
        if settled:
            anomalies.settle(tx, int(tx.conn.execute(sa.select(sa.func.max(anomaly.c.id))).scalar_one()), at=LONG_AGO)

    return add


def _order(standing: Standing, recorded: State | None = None, **more: Any) -> Callable[[Transaction, int], object]:
    def add(tx: Transaction, own: int) -> None:
        order = book_one(tx, own, f"PL-{own}", standing=standing)
        tx.conn.execute(clinical_order.update().where(clinical_order.c.id == order), {"standing": standing, **more})
        if recorded is not None:
            intend(tx, put(tx, State.HELD, arrival("dicom"), at=NOW), recorded, order=order)

    return add


def _named_by(state: State) -> Callable[[Transaction, int], object]:
    """The order is over, and a recording that names it is in this state."""

    def add(tx: Transaction, own: int) -> None:
        _order(Standing.CANCELLED)(tx, own)
        recording = put(tx, state, arrival("dicom"), at=NOW)
        book.add_numbers(tx, "recording", recording, 0, [OrderNumber(f"PL-{own}", NumberKind.PLACER, "HIS")])

    return add


def _chosen_for(state: State) -> Callable[[Transaction, int], object]:
    def add(tx: Transaction, own: int) -> None:
        order = book_one(tx, own, f"PL-{own}")
        intend(tx, put(tx, State.HELD, arrival("dicom"), at=NOW), State.CREATED, order=order)
        recording = put(tx, state, arrival("dicom"), at=NOW)
        word = json.dumps({"order": order, "seen": "x", "as_said": False})
        tx.conn.execute(message.update().where(message.c.id == recording), {"decision": word})

    return add


def _event(at: datetime) -> Callable[[Transaction, int], object]:
    return lambda tx, own: inbox.record(tx, own, State.DONE, at=at, reason="looked_at")


def _watched(tx: Transaction, own: int) -> None:
    row = intend(tx, own, State.CREATED)
    tx.conn.execute(task.update().where(task.c.id == row), {"watch_at": watched.first_look(NOW)})


DEPENDANTS: dict[str, tuple[Callable[[Transaction, int], object], bool]] = {
    "nothing": (_nothing, True),
    "a task that is made": (_task(State.CREATED), True),
    "a task that was refused": (_task(State.REJECTED), True),
    "a task that was given up": (_task(State.CANCELLED), True),
    "a task that is being sent": (_task(State.INTENT), False),
    "a task that waits": (_task(State.RETRY), False),
    "a task in doubt": (_task(State.IN_DOUBT), False),
    "a task that is watched": (_watched, False),
    "a task of yesterday": (lambda tx, own: intend(tx, own, State.CREATED, at=NOW - timedelta(days=1)), False),
    "an answer to tell": (_outbound("WAITING"), False),
    "an answer that nobody took": (_outbound("HELD"), False),
    "an answer that was told": (_outbound("SENT"), True),
    "an answer that was dropped": (_outbound("DROPPED"), True),
    "a change to settle": (_anomaly(settled=False, other=False), False),
    "a change after its task to settle": (_anomaly(settled=False, other=True), False),
    "a change that was settled": (_anomaly(settled=True, other=False), True),
    "a change after its task that was settled": (_anomaly(settled=True, other=True), True),
    "a line of patients that waits": (lambda tx, own: line.bar(tx, own, ["4711"]), False),
    "an order that stands": (_order(Standing.ACTIVE), False),
    "an order with its recording": (_order(Standing.ACTIVE, State.CREATED), True),
    "an order with its recording in doubt": (_order(Standing.ACTIVE, State.IN_DOUBT), False),
    "an order whose recording was refused": (_order(Standing.ACTIVE, State.REJECTED), False),
    "an order that only a change spoke of": (_order(Standing.ACTIVE, State.CREATED, ordered=False), False),
    "an order on hold": (_order(Standing.ON_HOLD), False),
    "an order on hold with its recording": (_order(Standing.ON_HOLD, State.CREATED), False),
    "an order that was cancelled": (_order(Standing.CANCELLED), True),
    "an order that was replaced": (_order(Standing.REPLACED), True),
    "a cancel before its order": (_order(Standing.UNSEEN), False),
    **{f"an order that a recording names, {s}": (_named_by(s), s in prune.FINISHED) for s in State},
    "an order that a person chose": (_chosen_for(State.READY), False),
    "an order that a person chose, and it is done": (_chosen_for(State.CREATED), True),
    "something of yesterday": (_event(NOW - timedelta(days=1)), False),
    "something long ago": (_event(LONG_AGO), True),
}
"""What a message may have beside it, and whether it can go all the same."""


@pytest.mark.parametrize("state", State)
async def test_nothing_unfinished_is_pruned(store: Store, state: State) -> None:
    """Every state with every dependant, and with every two of them: what stays is as it was to the last byte."""

    def work(tx: Transaction) -> dict[int, tuple[str, bool]]:
        put_there = {}
        pairs = itertools.combinations(DEPENDANTS, 2) if state is State.CREATED else ()
        several = itertools.chain(((name,) for name in DEPENDANTS), pairs)
        for names in several:
            if sum("order" in name for name in names) > 1:
                continue  # one number, one order
            own = put(tx, state)
            for name in names:
                DEPENDANTS[name][0](tx, own)
            goes = state in prune.FINISHED and all(DEPENDANTS[name][1] for name in names)
            put_there[own] = (" and ".join(names), goes)
        return put_there

    there = await store.write(work)
    await store.write(lambda tx: _outbound("WAITING")(tx, put(tx, State.HELD, at=NOW)))
    before = await store.read(lambda conn: {own: everything(conn, own) for own in there})
    await prune_all(store)
    after = await store.read(lambda conn: {own: everything(conn, own) for own in there})
    for own, (names, goes) in there.items():
        if goes:
            assert CANARY not in repr(after[own]), names
            assert after[own]["message"] != before[own]["message"], names
        else:
            assert after[own] == before[own], names
    assert (await prune_all(store)).messages == 0, "what is empty is not emptied again"


async def test_what_was_refused_stays_unless_the_site_sets_a_time(store: Store) -> None:
    own = await store.write(lambda tx: put(tx, State.REJECTED))
    assert (await prune_all(store)).messages == 0
    later = replace(EDGES, refused=millis(LONG_AGO) - 1)
    assert (await prune_all(store, later)).messages == 0
    assert (await prune_all(store, replace(EDGES, refused=millis(LONG_AGO)))).messages == 1
    found = await store.read(lambda conn: listing.whole(conn, own))
    assert found is not None
    assert (found["state"], found["reason"], found["raw"]) == ("CANCELLED", prune.REASON, None)


@pytest.mark.parametrize("kind", ["hl7", "dicom"])
async def test_each_kind_has_its_time(store: Store, kind: str) -> None:
    await store.write(lambda tx: put(tx, State.DONE, arrival(kind)))
    edges = replace(EDGES, messages=0) if kind == "hl7" else replace(EDGES, recordings=0)
    assert (await prune_all(store, edges)).messages == 0
    assert (await prune_all(store)).messages == 1


@pytest.mark.parametrize("state", State)
async def test_f29_an_object_stays_while_another_of_its_uid_waits_for_a_person(store: Store, state: State) -> None:
    def work(tx: Transaction) -> None:
        put(tx, State.CREATED, arrival("dicom", uid="1.2.3"))
        put(tx, state, arrival("dicom", uid="1.2.3", at=NOW), at=NOW)

    await store.write(work)
    waits = state not in prune.FINISHED and state is not State.REJECTED
    assert (await prune_all(store)).messages == (0 if waits else 1)


@pytest.mark.parametrize("state", ["WAITING", "SENT", "HELD"])
@pytest.mark.parametrize("at", [LONG_AGO, NOW])
async def test_an_object_stays_while_its_storage_commitment_may_be_asked_for(
    store: Store, state: str, at: datetime
) -> None:
    def work(tx: Transaction) -> None:
        put(tx, State.CREATED, arrival("dicom", uid="1.2.3"))
        commitments.ask(tx, transaction_uid="9.9", requester="CART", called="B", peer="", at=at, due_at=at,
                        instances=[("1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3")])  # fmt: skip
        tx.conn.execute(commitment.update(), {"state": state})

    await store.write(work)
    assert (await prune_all(store)).messages == int(state == "SENT" and at == LONG_AGO)


# --- what is left -------------------------------------------------------------------------------------------


async def _one_of_each(store: Store) -> tuple[int, int]:
    def work(tx: Transaction) -> tuple[int, int]:
        own = put(tx, State.CREATED)
        order = book_one(tx, own, f"PL-{own}")
        recording = put(tx, State.CREATED, arrival("dicom"))
        book.add_numbers(tx, "recording", recording, 0, [OrderNumber(f"PL-{own}", NumberKind.PLACER, "HIS")])
        intend(tx, own, State.CREATED, purpose="draft", order=order)
        intend(tx, recording, State.CREATED, order=order)
        _outbound("SENT")(tx, own)
        return own, recording

    return await store.write(work)


async def test_no_value_of_a_patient_is_left_of_what_was_pruned(store: Store) -> None:
    own, recording = await _one_of_each(store)
    emptied = await prune_all(store)
    assert (emptied.messages, emptied.size, len(emptied.going)) == (2, 200, 1)
    for message_id in (own, recording):
        left = await store.read(lambda conn, m=message_id: everything(conn, m))  # type: ignore[misc]
        assert CANARY not in repr(left)
        assert "4711" not in repr([left["clinical_order"], left["number"], left["message"][0][10:]]).replace(
            "task=4711", ""
        )
        assert [row[5] for row in left["event"]] == [prune.REASON]


async def test_a_resend_is_known_and_gets_its_answer_with_the_ids(store: Store) -> None:
    one = arrival()
    own = await store.write(lambda tx: put(tx, State.CREATED, one))
    await prune_all(store)
    again = await store.write(lambda tx: inbox.keep(tx, replace(one, received_at=NOW)))
    assert (again.id, again.known, again.state) == (own, True, State.CREATED)
    assert again.answer == b"MSH|^~\\&|B|B|HIS|TEST|2026||ORR^O02|CB1|P|2.3.1\rMSA|AA|C1|task=4711\r"


async def test_a_task_has_no_twin_after_its_message_was_pruned(store: Store) -> None:
    own, recording = await _one_of_each(store)
    rows = await store.read(lambda conn: conn.execute(sa.select(task).order_by(task.c.id)).all())
    await prune_all(store)
    for row in rows:
        last = await store.read(lambda conn, key=row.key: tasks.last_generation(conn, key))  # type: ignore[misc]
        assert last is not None
        assert (last.message_id, last.state, last.task_ids) == (row.message_id, "CREATED", row.task_ids)
    placer = OrderNumber(f"PL-{own}", NumberKind.PLACER, "HIS")
    known = await store.read(lambda conn: book.order_by_number(conn, placer))
    assert known is not None
    assert (known.patient, known.mapped, known.standing) == (Identifier(""), Mapped({}), Standing.ACTIVE)
    assert await store.read(lambda conn: book.recordings_with(conn, [f"PL-{own}"])) == []
    assert (await store.read(lambda conn: listing.rows(conn, task_id=rows[1].task_ids)))[0].id == str(recording)


async def test_merges_and_patients_hold(store: Store) -> None:
    old, new = Identifier("OLD"), Identifier("NEW")

    def work(tx: Transaction) -> None:
        own = put(tx, State.DONE)
        patients.update_patient(tx, PatientUpdate(new, {"last_name": "Muster"}), own, site_authority="")
        patients.retire(tx, old, new, own, at=LONG_AGO)

    await store.write(work)
    assert (await prune_all(store)).messages == 1
    assert await store.read(lambda conn: patients.canonical(conn, old, site_authority="")) == new
    record = await store.read(lambda conn: patients.record_of(conn, new, site_authority=""))
    assert record is not None
    assert record.known.last_name == "Muster"
    await store.write(lambda tx: patients.retire(tx, new, Identifier("NEWER"), record.message_id, at=NOW))
    assert await store.read(lambda conn: patients.canonical(conn, old, site_authority="")) == Identifier("NEWER")
    assert await store.read(lambda conn: anomalies.tasks_made_for(conn, old, site_authority="")) == []


async def test_what_was_pruned_is_found_by_its_own_numbers_alone(store: Store) -> None:
    one = arrival()
    own = await store.write(lambda tx: put(tx, State.CREATED, one))
    await prune_all(store)
    for text, is_found in ((one.control_id, True), ("4711", True), (CANARY, False)):
        page = await store.read(lambda conn, t=text: search.find(conn, t))  # type: ignore[misc]
        assert (str(own) in [row.id for row in page.rows]) is is_found, text
    found = await store.read(lambda conn: listing.whole(conn, own))
    assert found is not None
    assert [(e["reason"], e["actor"]) for e in found["history"]] == [(prune.REASON, "me")]


async def test_f41_the_newest_event_is_never_behind_and_the_audit_trail_whole(store: Store) -> None:
    await store.write(lambda tx: audit.note(tx, at=LONG_AGO, actor="me", action="replay", detail={}))
    await store.write(lambda tx: put(tx, State.DONE))
    before = await store.read(marks.newest)
    emptied = await store.write(empty)
    assert emptied.messages == 1
    assert await store.read(marks.newest) > before
    assert await store.read(audit.verify) is None


async def test_payloads_to_remove_are_noted_until_they_are_gone(store: Store) -> None:
    def of(*names: str) -> Iterable[prune.Going]:
        return [prune.Going(name, "1.2") for name in names]

    await store.write(lambda tx: going.add(tx, of("a", "b")))
    await store.write(lambda tx: going.add(tx, of("b", "c")))
    assert [one.payload for one in await store.read(going.left)] == ["a", "b", "c"]
    await store.write(lambda tx: going.done(tx, of("a", "b")))
    assert [one.payload for one in await store.read(going.left)] == ["c"]
    await store.write(lambda tx: going.done(tx, of("c")))
    assert await store.read(going.left) == []


async def test_a_payload_that_another_message_rests_on_is_named(store: Store) -> None:
    one = arrival("dicom", uid="1.2.3")

    def work(tx: Transaction) -> None:
        put(tx, State.CREATED, one)
        put(tx, State.REJECTED, replace(one, identity="refused:1.2.3"))

    await store.write(work)
    emptied = await prune_all(store)
    assert emptied.messages == 1
    assert await store.read(lambda conn: prune.is_named(conn, emptied.going[0]))
    await prune_all(store, replace(EDGES, refused=EDGES.recordings))
    assert not await store.read(lambda conn: prune.is_named(conn, emptied.going[0]))


async def test_what_is_over_goes_and_what_is_not_stays(store: Store) -> None:
    def work(tx: Transaction) -> None:
        for rule, over_at, waits in (
            ("old", LONG_AGO, False), ("on", None, False), ("waits", LONG_AGO, True), ("young", NOW, False),
            ("old too, and the newest", LONG_AGO, False),
        ):  # fmt: skip
            number = alarms.begin(tx, rule, "s", at=LONG_AGO, detail={}, channels=["mail"])
            assert number is not None
            if over_at is not None:
                alarms.end(tx, number, at=over_at, channels=["mail"])
            if not waits:
                tx.conn.execute(notice.update().where(notice.c.alarm_id == number), {"state": alarms.SENT})
        who = people.make(tx, "max", "admin", at=LONG_AGO)
        for name, ended_at in (("a", LONG_AGO), ("b", None), ("c", NOW), ("d", LONG_AGO)):
            row = people.begin(tx, who, name, at=LONG_AGO, kind=people.TOKEN)
            if ended_at is not None:
                people.end(tx, row, at=ended_at)
        for uid, state in (("1", "SENT"), ("2", "WAITING"), ("3", "HELD"), ("4", "DROPPED"), ("5", "SENT")):
            commitments.ask(tx, transaction_uid=uid, requester="CART", called="B", peer="", at=LONG_AGO,
                            due_at=LONG_AGO, instances=[("1.2", f"9.{uid}")])  # fmt: skip
            tx.conn.execute(commitment.update().where(commitment.c.transaction_uid == uid), {"state": state})

    await store.write(work)
    for kind, many in (("alarms", 1), ("sessions", 1), ("commitments", 2)):
        assert await store.read(lambda conn, k=kind: outdated.count(conn, k, EDGES)) == many, kind  # type: ignore[misc]
        assert await store.write(lambda tx, k=kind: outdated.step(tx, k, EDGES)) == many, kind  # type: ignore[misc]
        assert await store.write(lambda tx, k=kind: outdated.step(tx, k, EDGES)) == 0, kind  # type: ignore[misc]
    left = await store.read(alarms.history)
    assert [one.rule for one in left] == ["old too, and the newest", "young", "waits", "on"]
    uids = sa.select(commitment.c.transaction_uid).order_by(commitment.c.id)
    assert await store.read(lambda conn: list(conn.execute(uids).scalars())) == ["2", "3", "5"]


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (b"MSH|^~\\&|B\rMSA|AA|C1|task=1,2\rPID|1||X\r", b"MSH|^~\\&|B\rMSA|AA|C1|task=1,2\r"),
        (b"MSH|^~\\&|B\rMSA|AE|C1|Muster is no date\rERR|x\r", b"MSH|^~\\&|B\rMSA|AE|C1\r"),
        (b"MSH|^~\\&|B\rMSA|AA|C1|task=1 Muster|5|6\r", b"MSH|^~\\&|B\rMSA|AA|C1\r"),
        (b"MSH#^~\\&#B\rSFT#x\rMSA#CA#C1\r", b"MSH#^~\\&#B\rMSA#CA#C1\r"),
        (b"MSH|^~\\&|B\r", b"MSH|^~\\&|B\r"),
    ],
)
def test_of_an_answer_stays_that_it_was_given_and_the_ids(answer: bytes, left: bytes) -> None:
    assert bare(answer) == left
