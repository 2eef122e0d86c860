"""What every engine of the store promises."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from bridge.domain.patient import Identifier, PatientUpdate
from bridge.domain.states import State
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.errors import StoreConflict, StoreError
from bridge.store import book, inbox, line, listing, patients, tasks
from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice
from bridge.store.schema import event, mark, message, metadata, millis

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def arrival(identity: str | None, *, control_id: str = "C1", raw: bytes = b"MSH|x") -> inbox.Arrival:
    return inbox.Arrival(
        kind="hl7",
        type="ORM^O01",
        received_at=NOW,
        listener="hl7",
        peer="127.0.0.1",
        sender="HIS|TEST",
        identity=identity,
        digest="d",
        control_id=control_id,
        raw=raw,
    )


async def ready(store: GroupedStore, identity: str, patient: str | None, *, kind: str = "hl7") -> int:
    """A message that is understood and waits for its task."""

    def work(tx: Any) -> int:
        kept = inbox.keep(tx, replace(arrival(identity), kind=kind))
        inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW, order_key=patient)
        return kept.id

    return await store.write(work)


async def test_f30_the_same_arrival_is_one_row_with_its_answer(store: GroupedStore) -> None:
    first = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    await store.write(lambda tx: inbox.answer_once(tx, first.id, b"ANSWER", "AA"))
    again = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    assert (again.id, again.known, again.answer) == (first.id, True, b"ANSWER")
    assert not first.known


async def test_arrivals_without_identity_are_never_the_same(store: GroupedStore) -> None:
    first = await store.write(lambda tx: inbox.keep(tx, arrival(None)))
    second = await store.write(lambda tx: inbox.keep(tx, arrival(None)))
    assert first.id != second.id
    assert not second.known


async def test_f9_eight_threads_with_the_same_bytes_make_one_row(store: GroupedStore) -> None:
    def send() -> int:
        return store.write_from_thread(lambda tx: inbox.keep(tx, arrival("same"))).id

    with ThreadPoolExecutor(8) as pool:
        ids = await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(pool, send) for _ in range(64)))
    assert len(set(ids)) == 1
    count = await store.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(message)).scalar())
    assert count == 1


async def test_an_answer_is_stored_once(store: GroupedStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    first = await store.write(lambda tx: inbox.answer_once(tx, kept.id, b"first", "AA"))
    second = await store.write(lambda tx: inbox.answer_once(tx, kept.id, b"second", "AE"))
    assert (first, second) == (b"first", b"first")


async def test_what_fails_leaves_its_neighbours_of_the_same_commit(store: GroupedStore) -> None:
    def broken(tx: Any) -> None:
        inbox.keep(tx, arrival("broken"))
        raise RuntimeError("on purpose")

    results = await asyncio.gather(
        *(
            store.write(broken if n == 5 else lambda tx, n=n: inbox.keep(tx, arrival(f"n{n}")))  # type: ignore[misc]
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert [isinstance(r, RuntimeError) for r in results] == [n == 5 for n in range(10)]
    rows = await store.read(lambda conn: conn.execute(sa.select(message.c.identity)).scalars().all())
    assert sorted(rows) == sorted(f"n{n}" for n in range(10) if n != 5)


async def test_notices_go_out_after_the_commit_and_not_for_what_failed(
    store: GroupedStore, heard: list[Notice]
) -> None:
    def failing(tx: Any) -> None:
        inbox.keep(tx, arrival("x"))
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        await store.write(failing)
    assert heard == []
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("y")))
    assert [(n.topic, n.message_id) for n in heard] == [("received", kept.id)]


async def test_every_move_has_its_event_and_a_forbidden_one_is_refused(store: GroupedStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    assert await store.write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW))
    assert not await store.write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW))
    with pytest.raises(ValueError, match="no move"):
        await store.write(lambda tx: inbox.move(tx, kept.id, State.CREATED, State.READY, at=NOW))
    states = await store.read(
        lambda conn: conn.execute(sa.select(event.c.state).where(event.c.message_id == kept.id)).scalars().all()
    )
    assert states == ["RECEIVED", "READY"]


async def test_claims_are_in_order_within_a_patient_and_side_by_side_between_patients(store: GroupedStore) -> None:
    a1 = await ready(store, "a1", "A")
    a2 = await ready(store, "a2", "A")
    b1 = await ready(store, "b1", "B")
    free = await ready(store, "free", None)
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [a1, b1, free]
    assert await store.write(lambda tx: line.claim(tx, "other", 10, at=NOW)) == []
    await store.write(lambda tx: inbox.move(tx, a1, State.READY, State.HELD, at=NOW, reason="no_order"))
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [a2]


async def test_a_message_that_waits_its_time_is_not_claimed_and_holds_its_patient_up(store: GroupedStore) -> None:
    first = await ready(store, "a1", "A")
    second = await ready(store, "a2", "A")
    await store.write(lambda tx: line.claim(tx, "me", 1, at=NOW))
    later = round((NOW + timedelta(seconds=60)).timestamp() * 1000)
    await store.write(
        lambda tx: inbox.move(
            tx, first, State.READY, State.RETRY, at=NOW, reason="rate_limited", next_at=later, owner=None
        )
    )
    assert await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW)) == []
    due = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW + timedelta(seconds=61)))
    assert [c.id for c in due] == [first]
    assert second not in {c.id for c in due}


async def test_a_recording_that_waits_for_its_order_holds_nobody_up(store: GroupedStore) -> None:
    first = await ready(store, "a1", "A")
    second = await ready(store, "a2", "A")
    later = round((NOW + timedelta(seconds=60)).timestamp() * 1000)
    await store.write(
        lambda tx: inbox.move(
            tx, first, State.READY, State.RETRY, at=NOW, reason=line.AWAITING_ORDER, next_at=later, owner=None
        )
    )
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    assert [c.id for c in claimed] == [second]
    await store.write(lambda tx: line.wake_waiting(tx, [first], at=NOW))
    await store.write(lambda tx: inbox.move(tx, second, State.READY, State.HELD, at=NOW))
    assert [c.id for c in await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))] == [first]


async def test_f28_the_attempt_is_counted_before_the_message_is_read(store: GroupedStore) -> None:
    assert not await store.read(line.has_received)
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    assert await store.read(line.has_received)
    first = await store.write(lambda tx: line.next_received(tx, 10))
    second = await store.write(lambda tx: line.next_received(tx, 10))
    assert [first[0].attempts, second[0].attempts] == [1, 2]
    await store.write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW))
    assert not await store.read(line.has_received)


async def _intend(store: GroupedStore, message_id: int, key: str, generation: int = 1) -> int:
    return await store.write(
        lambda tx: tasks.intend(
            tx,
            message_id=message_id,
            position=1,
            order_id=None,
            purpose="draft",
            key=key,
            generation=generation,
            body=b"{}",
            traces=(),
            at=NOW,
        )
    )


async def test_at_most_one_task_a_key_and_generation(store: GroupedStore) -> None:
    first = await ready(store, "a", "A")
    second = await ready(store, "b", "A")
    await _intend(store, first, "br1-k")
    with pytest.raises(StoreConflict):
        await _intend(store, second, "br1-k")
    assert await _intend(store, second, "br1-k", generation=2)


async def test_f11_an_intent_without_outcome_is_in_doubt_after_a_start(store: GroupedStore) -> None:
    posted = await ready(store, "a", "A")
    uploading = await ready(store, "b", "B")
    untouched = await ready(store, "c", "C")
    await store.write(lambda tx: line.claim(tx, "dead", 10, at=NOW))
    await _intend(store, posted, "br1-k")
    await store.write(lambda tx: inbox.move(tx, posted, State.READY, State.INTENT, at=NOW))
    await store.write(lambda tx: inbox.move(tx, uploading, State.READY, State.UPLOADING, at=NOW))
    found = await store.write(lambda tx: line.recover(tx, at=NOW))
    assert found == {"in_doubt": 1, "resumed": 1}
    claimed = await store.write(lambda tx: line.claim(tx, "new", 10, at=NOW))
    # A message of orders goes on: its order in doubt is never sent again, those behind it are.
    assert [c.id for c in claimed] == [posted, uploading, untouched]
    shown = await store.read(lambda conn: listing.whole(conn, posted))
    assert shown is not None
    assert (shown["reason"], shown["tasks"][0]["state"]) == ("interrupted", "IN_DOUBT")


async def test_f11_a_recording_whose_post_was_interrupted_is_in_doubt_itself(store: GroupedStore) -> None:
    posted = await ready(store, "a", "A", kind="dicom")
    await _intend(store, posted, "br1-k")
    await store.write(lambda tx: inbox.move(tx, posted, State.READY, State.INTENT, at=NOW))
    await store.write(lambda tx: line.recover(tx, at=NOW))
    assert await store.write(lambda tx: line.claim(tx, "new", 10, at=NOW)) == []
    shown = await store.read(lambda conn: listing.whole(conn, posted))
    assert shown is not None
    assert (shown["state"], shown["tasks"][0]["state"]) == ("IN_DOUBT", "IN_DOUBT")


async def test_hl7_v2_2_5_3_null_clears_and_silence_keeps(store: GroupedStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    who = Identifier("4711", "TEST")
    first = PatientUpdate(who, {"last_name": "Muster", "first_name": "Erika", "birth_date": "1970-01-31"})
    await store.write(lambda tx: patients.update_patient(tx, first, kept.id, site_authority=""))
    await store.write(
        lambda tx: patients.update_patient(tx, PatientUpdate(who, {"first_name": None}), kept.id, site_authority="")
    )
    found = await store.read(lambda conn: patients.find_patient(conn, who, site_authority=""))
    assert found is not None
    assert (found.last_name, found.first_name, found.birth_date) == ("Muster", "", "1970-01-31")


async def test_a_patient_that_two_authorities_know_is_not_guessed(store: GroupedStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    for authority in ("NORTH", "SOUTH"):
        update = PatientUpdate(Identifier("1", authority), {"last_name": authority})
        await store.write(lambda tx, u=update: patients.update_patient(tx, u, kept.id, site_authority=""))  # type: ignore[misc]
    find = patients.find_patient
    assert await store.read(lambda conn: find(conn, Identifier("1"), site_authority="")) is None
    south = await store.read(lambda conn: find(conn, Identifier("1"), site_authority="SOUTH"))
    assert south is not None
    assert south.last_name == "SOUTH"


async def test_f32_the_first_entry_of_an_order_number_stands(store: GroupedStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    own = OrderNumber("PL-1", NumberKind.PLACER, "HIS")
    mapped = Mapped({"patient_id": "1"}, numbers=(own, OrderNumber("ACC-1", NumberKind.ACCESSION)))
    for digest in ("first", "second"):
        await store.write(
            lambda tx, d=digest: book.book_order(  # type: ignore[misc]
                tx,
                message_id=kept.id,
                position=1,
                own_number=own,
                patient_id=Identifier("1"),
                mapped=mapped,
                digest=d,
            )
        )
    found = await store.read(lambda conn: book.orders_with(conn, ["ACC-1"]))
    assert [(o.digest, o.mapped) for o in found] == [("first", mapped)]


async def test_the_migrations_make_exactly_the_schema(store: GroupedStore) -> None:
    def differences(conn: sa.Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(conn), metadata))

    assert await store.read(differences) == []


async def test_readers_cannot_write(store: GroupedStore) -> None:
    with pytest.raises(StoreError, match=r"OperationalError|ReadOnlySqlTransaction"):
        await store.read(lambda conn: conn.execute(message.delete()))


async def test_f24_work_that_was_interrupted_is_given_back(store: GroupedStore) -> None:
    waiting = await ready(store, "a", "A")
    uploading = await ready(store, "b", "B")
    await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW))
    await store.write(lambda tx: inbox.move(tx, uploading, State.READY, State.UPLOADING, at=NOW))
    for message_id in (waiting, uploading):
        await store.write(lambda tx, i=message_id: line.release(tx, i, at=NOW))  # type: ignore[misc]
    assert await store.write(lambda tx: line.claim(tx, "me", 10, at=NOW)) == [], "not at once"
    assert await store.read(lambda conn: line.next_due(conn, "")) == millis(NOW) + line.AFTER_INTERRUPTION
    later = NOW + timedelta(milliseconds=line.AFTER_INTERRUPTION)
    claimed = await store.write(lambda tx: line.claim(tx, "me", 10, at=later))
    assert [c.id for c in claimed] == [waiting, uploading]


async def test_a_read_sees_one_moment_however_many_statements_it_has(store: GroupedStore) -> None:
    """A page that asks twice of a message must not have its tasks of before and its body of after."""

    def work(conn: sa.Connection) -> tuple[int, int]:
        before = conn.execute(sa.select(sa.func.count()).select_from(mark)).scalar_one()
        store.write_from_thread(lambda tx: tx.conn.execute(mark.insert(), {"name": "meanwhile", "value": ""}))
        return before, conn.execute(sa.select(sa.func.count()).select_from(mark)).scalar_one()

    before, after = await store.read(work)
    assert after == before
    assert await store.read(lambda conn: conn.execute(sa.select(mark.c.name)).scalars().all().count("meanwhile")) == 1


async def test_who_looks_does_not_wait_for_who_converts(store: GroupedStore) -> None:
    """Conversions take the loop's own threads for minutes, and a cart's question or a page takes none of them."""
    done = threading.Event()
    with ThreadPoolExecutor(1) as converting:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(converting)
        busy = loop.run_in_executor(None, done.wait, 60)
        try:
            assert await asyncio.wait_for(store.read(lambda conn: conn.execute(sa.text("SELECT 1")).scalar()), 30) == 1
        finally:
            done.set()
        assert await busy
