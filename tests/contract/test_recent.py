"""What every engine of the store promises of the figures of the last hour, and of words that are written later."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from bridge.clock import SystemClock
from bridge.domain.states import State
from bridge.errors import StoreFull
from bridge.store import earlier, inbox, line, listing, marks, migrate, recent, terms
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.recent import Flow, Lately, Queue
from bridge.store.schema import message, patient, term
from bridge.store.search import find

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
ARRIVAL = inbox.Arrival("hl7", "ORM^O01", NOW, "hl7", "10.0.0.1", "HIS|TEST", None, "d", control_id="C1", raw=b"MSH")


def put(tx: Transaction, minutes: float = 0, *, state: State = State.DONE, **columns: Any) -> int:
    """A message that came so many minutes ago."""
    arrival = {name: columns.pop(name) for name in ("sender", "listener") if name in columns}
    kept = inbox.keep(
        tx, replace(ARRIVAL, received_at=NOW - timedelta(minutes=minutes), **arrival), state=State.RECEIVED
    )
    if state is not State.RECEIVED:
        inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW)
    if state not in {State.RECEIVED, State.READY}:
        inbox.move(tx, kept.id, State.READY, state, at=NOW, **columns)
    return kept.id


def flows(found: tuple[Flow, ...]) -> dict[str, tuple[Any, int, dict[int, int]]]:
    """By name: minutes since the last message, those of five minutes, and how many came how many minutes ago."""
    return {
        flow.name: (
            (NOW - flow.last_at) / timedelta(minutes=1) if flow.last_at else None,
            flow.five_minutes,
            {59 - ago: many for ago, many in enumerate(flow.minutes) if many},
        )
        for flow in found
    }


async def test_the_hour_is_counted_by_listener_sender_and_destination(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        put(tx, 90, sender="OLD|LAB", listener="lab")
        put(tx, 58, destination="cardio")
        put(tx, 4)
        put(tx, 4, sender="CART1", listener="dicom", destination="cardio")
        put(tx, 0, destination="cardio")

    await store.write(work)
    found = await store.read(lambda conn: recent.recent(conn, NOW))
    assert flows(found.listeners) == {
        "lab": (90, 0, {}),
        "hl7": (0, 2, {58: 1, 4: 1, 0: 1}),
        "dicom": (4, 1, {4: 1}),
    }
    assert flows(found.senders) == {
        "OLD|LAB": (90, 0, {}),
        "HIS|TEST": (0, 2, {58: 1, 4: 1, 0: 1}),
        "CART1": (4, 1, {4: 1}),
    }
    assert flows(found.destinations) == {"cardio": (0, 2, {58: 1, 4: 1, 0: 1})}
    assert all(len(flow.minutes) == 60 for flow in found.listeners)
    assert (found.since, found.at) == (None, NOW)


async def test_an_empty_store_has_no_figures(store: GroupedStore) -> None:
    found = await store.read(lambda conn: recent.recent(conn, NOW))
    assert (found.listeners, found.senders, found.destinations, found.queues, found.states) == ((), (), (), (), {})


async def test_what_is_open_is_counted_by_destination_and_state_with_its_age(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        put(tx, 50, state=State.RETRY, reason=line.AWAITING_ORDER, destination="cardio")
        put(tx, 40, state=State.RETRY, reason="unreachable", destination="cardio")
        put(tx, 30, state=State.RETRY, reason="unreachable", destination="cardio")
        put(tx, 20, state=State.RETRY, reason=line.ON_HOLD, destination="other")
        put(tx, 10, state=State.RECEIVED)
        put(tx, 5, state=State.INTENT, destination="cardio")
        put(tx, 99, state=State.DONE, destination="cardio")

    await store.write(work)
    found = await store.read(lambda conn: recent.recent(conn, NOW))

    def ago(minutes: int) -> datetime:
        return NOW - timedelta(minutes=minutes)

    assert set(found.queues) == {
        Queue("cardio", State.RETRY, 3, ago(40), waits=1),
        Queue("other", State.RETRY, 1, None, waits=1),
        Queue("", State.RECEIVED, 1, ago(10)),
        Queue("cardio", State.INTENT, 1, ago(5)),
    }
    assert found.states == {State.RETRY: 4, State.RECEIVED: 1, State.INTENT: 1, State.DONE: 1}


async def test_an_hour_of_too_many_messages_says_since_when_they_are_counted(
    store: GroupedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MOST", 3)
    await store.write(lambda tx: [put(tx, minutes) for minutes in (40, 30, 20, 10, 5)])
    found = await store.read(lambda conn: recent.recent(conn, NOW))
    assert flows(found.listeners) == {"hl7": (5, 1, {20: 1, 10: 1, 5: 1})}
    assert found.since == NOW - timedelta(minutes=30)


async def test_a_sender_of_very_many_names_takes_no_more_than_its_place(
    store: GroupedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "SENDERS", 3)
    await store.write(lambda tx: [put(tx, 90, sender=f"S{n}") for n in range(9)])
    found = await store.read(lambda conn: recent.recent(conn, NOW))
    assert [flow.name for flow in found.senders] == ["S0", "S1", "S2"]


async def test_figures_are_remembered_as_long_as_looking_was_dear(
    store: GroupedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lately, looks = Lately(store, SystemClock()), 0
    real, seconds = recent.recent, [0.0]

    def slow(conn: sa.Connection, now: datetime) -> recent.Recent:
        nonlocal looks
        looks += 1
        seconds[0] += 2
        return real(conn, now)

    monkeypatch.setattr(recent, "recent", slow)
    monkeypatch.setattr(recent.time, "monotonic", lambda: seconds[0])
    first = await lately.figures()
    seconds[0] += 39
    assert await lately.figures() is first
    seconds[0] += 1
    assert await lately.figures() is not first
    assert looks == 2


# --- words of messages that were kept before there were any ----------------------------------------------------


def _order(identifier: str, last_name: str, number: str) -> str:
    numbers = f'[{{"value": "ACC{number}"}}]'
    mapped = f'{{"fields": {{"patient_id": "{identifier}", "patient_last_name": "{last_name}"}}, "numbers": {numbers}}}'
    return f'{{"orders": [{{"mapped": {mapped}, "own_number": ["{number}", "placer", ""]}}], "recording": null}}'


def _set(tx: Transaction, message_id: int, **columns: Any) -> None:
    tx.conn.execute(message.update().where(message.c.id == message_id), columns)


async def _without_words(store: GroupedStore, many: int) -> None:
    """As an earlier version left it: messages, no words, and the mark of the migration."""

    def work(tx: Transaction) -> None:
        for n in range(1, many + 1):
            one = put(tx, n)
            tx.conn.execute(
                message.update().where(message.c.id == one), {"understood": _order(f"47{n}", "Muster", f"PL-{n}")}
            )
        tx.conn.execute(term.delete())
        marks.put(tx.conn, earlier.MARK, str(many))

    await store.write(work)


async def _found(store: GroupedStore, text: str) -> list[str]:
    return [row.id for row in (await store.read(lambda conn: find(conn, text))).rows]


async def test_each_step_makes_the_newest_findable_and_a_stop_costs_nothing(
    store: GroupedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "STEP", 2)
    await _without_words(store, 5)
    assert await _found(store, "muster") == []
    left = [await store.write(earlier.step) for _ in range(2)]
    assert left == [3, 1]
    assert await _found(store, "muster") == ["5", "4", "3", "2"]
    with pytest.raises(RuntimeError):
        await store.write(_stopped)
    assert await store.read(earlier.upto) == 1
    assert await store.write(earlier.step) == 0
    assert await store.read(earlier.upto) == 0
    assert await _found(store, "471 muster acc pl-1 his c1") == ["1"]
    assert await store.write(earlier.step) == 0


def _stopped(tx: Transaction) -> None:
    earlier.step(tx)
    raise RuntimeError("on purpose")


async def test_an_admission_of_before_is_found_by_the_record_s_names(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        one = put(tx)
        tx.conn.execute(
            message.update().where(message.c.id == one), {"order_key": "4711", "understood": '{"orders": []}'}
        )
        tx.conn.execute(
            patient.insert(), {"value": "4711", "last_name": "Muster", "first_name": "Max", "message_id": one}
        )
        marks.put(tx.conn, earlier.MARK, str(one))

    await store.write(work)
    await store.write(earlier.step)
    assert await _found(store, "muster 4711") == ["1"]


async def test_what_cannot_be_read_any_more_stops_nothing(store: GroupedStore) -> None:
    await _without_words(store, 2)
    await store.write(
        lambda tx: tx.conn.execute(message.update().where(message.c.id == 2), {"understood": '{"orders": 7}'})
    )
    assert await store.write(earlier.step) == 0
    assert await _found(store, "c1") == ["2", "1"]
    assert await _found(store, "muster") == ["1"]


async def test_a_full_disk_is_waited_out(store: GroupedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await _without_words(store, 3)
    slept: list[float] = []

    class Clock(SystemClock):
        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)

    real = earlier.step

    def full_at_first(tx: Transaction) -> int:
        if not slept:
            raise StoreFull("the store's disk is full")
        return real(tx)

    monkeypatch.setattr(earlier, "step", full_at_first)
    await earlier.catch_up(store, Clock())
    assert slept == [earlier.AGAIN, earlier.PAUSE]
    assert await _found(store, "muster") == ["3", "2", "1"]


async def test_until_every_message_has_its_words_numbers_are_looked_for_as_before(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        one = put(tx)
        _set(tx, one, order_number="PL-7")
        tx.conn.execute(term.delete())
        marks.put(tx.conn, earlier.MARK, str(one))

    await store.write(work)
    rows = await store.read(lambda conn: listing.rows(conn, order="PL-7") + listing.rows(conn, control_id="C1"))
    assert [row.id for row in rows] == ["1", "1"]


def test_the_migration_marks_what_has_no_words(tmp_path: Path) -> None:
    """A store of the version before, with messages, is brought up; a new one has none."""
    for many in (0, 3):
        engine = sa.create_engine(f"sqlite:///{tmp_path}/{many}.db")
        with engine.begin() as conn:
            config = migrate._config()
            config.attributes["connection"] = conn
            command.upgrade(config, "0005")
            values = {"kind": "hl7", "state": "DONE", "received_at": 0}
            for _ in range(many):
                conn.execute(message.insert(), values)
        migrate.upgrade(engine)
        with engine.connect() as conn:
            assert earlier.upto(conn) == many
        engine.dispose()


def test_words_of_a_kind_are_told_by_one_letter() -> None:
    kinds = [value for name, value in vars(terms.Kind).items() if name.isupper()]
    assert len(set(kinds)) == len(kinds)
    assert {len(kind) for kind in kinds} == {1}
