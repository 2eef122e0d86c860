"""What every engine of the store promises of ids and reports that their receivers would not take (F44)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.domain.states import State
from bridge.store import commitments, inbox, outbound, untold
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.schema import millis
from bridge.store.untold import Queue

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def tell(tx: Transaction, control_id: str, order_key: str | None, *, address: str = "127.0.0.1:1") -> int:
    """One more message of ours that waits; its id."""
    arrival = inbox.Arrival("hl7", "ORM^O01", NOW, "hl7", "127.0.0.1", "HIS|TEST", None, f"d{control_id}")
    told: dict[str, Any] = {"kind": "task_ids", "listener": "hl7", "order_key": order_key, "body": b"MSH"}
    kept = inbox.keep(tx, arrival, state=State.DONE)
    outbound.add(tx, message_id=kept.id, address=address, control_id=control_id, at=NOW, **told)
    return kept.id


def refuse(tx: Transaction, address: str, seconds: float) -> None:
    """The next one that is due there is answered AE."""
    due = outbound.next_due(tx.conn, address, at=NOW)
    assert due is not None
    outbound.put_back(tx, due, reason="AE", refused=True, seconds=seconds, at=NOW)


async def test_f44_what_stands_behind_a_refused_one_of_its_patient_is_not_due(store: GroupedStore) -> None:
    """Else whoever tells looks again and again, and finds nothing to tell."""
    here, there = "127.0.0.1:1", "127.0.0.1:2"

    def work(tx: Transaction) -> None:
        tell(tx, "A", "4711")
        tell(tx, "B", "4711")
        refuse(tx, here, 60)

    await store.write(work)
    after = millis(NOW + timedelta(seconds=60))
    assert await store.read(outbound.addresses) == {here: after}
    assert await store.read(lambda conn: outbound.next_due(conn, here, at=NOW)) is None

    def elsewhere(tx: Transaction) -> None:
        tell(tx, "C", "4711", address=there)

    await store.write(elsewhere)  # the same patient at another receiver waits for nobody
    assert await store.read(outbound.addresses) == {here: after, there: millis(NOW)}
    await store.write(lambda tx: tell(tx, "D", "4712"))
    assert await store.read(outbound.addresses) == {here: millis(NOW), there: millis(NOW)}


async def test_f44_without_a_patient_they_do_not_wait_for_each_other(store: GroupedStore) -> None:
    address = "127.0.0.1:1"

    def work(tx: Transaction) -> int:
        tell(tx, "A", None)
        behind = tell(tx, "B", None)
        refuse(tx, address, 60)
        return behind

    behind = await store.write(work)
    assert await store.read(outbound.addresses) == {address: millis(NOW)}
    due = await store.read(lambda conn: outbound.next_due(conn, address, at=NOW))
    assert due is not None
    assert due.message_id == behind


async def held(store: GroupedStore) -> None:
    """An id that was refused three times, and a report that was."""

    def work(tx: Transaction) -> None:
        arrival = inbox.Arrival("hl7", "ORM^O01", NOW, "hl7", "127.0.0.1", "HIS|TEST", None, "d")
        kept = inbox.keep(tx, arrival, state=State.DONE)
        told: dict[str, Any] = {"kind": "task_ids", "listener": "hl7", "order_key": None, "body": b"MSH"}
        outbound.add(tx, message_id=kept.id, address="127.0.0.1:1", control_id="CB1", at=NOW, **told)
        due = outbound.next_due(tx.conn, "127.0.0.1:1", at=NOW)
        assert due is not None
        outbound.put_back(tx, due, reason="AE", refused=True, seconds=1, at=NOW)
        outbound.settle(tx, due.id, outbound.HELD, at=NOW, reason="AE", answer=b"MSA")
        commitments.ask(
            tx,
            transaction_uid="2.25.9",
            requester="CART",
            called="BRIDGE",
            peer="127.0.0.1",
            instances=[("1.2.3", "2.25.1")],
            at=NOW,
            due_at=NOW,
        )
        report = commitments.next_due(tx.conn, "CART", at=NOW)
        assert report is not None
        commitments.settle(tx, report, commitments.HELD, at=NOW, reason="0110")

    await store.write(work)


async def test_what_was_refused_is_listed_with_its_receiver(store: GroupedStore) -> None:
    await held(store)
    found = await store.read(untold.held)
    assert [(u.queue, u.id, u.message, u.to, u.reason) for u in found] == [
        ("outbound", "1", "1", "127.0.0.1:1", "AE"),
        ("commitment", "1", "", "CART", "0110"),
    ]


@pytest.mark.parametrize("queue", Queue)
async def test_released_it_is_due_now_and_its_sender_wakes(store: GroupedStore, queue: Queue) -> None:
    await held(store)
    heard: list[str] = []
    store.subscribe(lambda notices: heard.extend(n.topic for n in notices))
    later = NOW + timedelta(hours=1)
    assert await store.write(lambda tx: untold.release(tx, queue, 1, at=later))
    assert heard == [queue.value]
    if queue is Queue.OUTBOUND:
        due: Any = await store.read(lambda conn: outbound.next_due(conn, "127.0.0.1:1", at=later))
    else:
        due = await store.read(lambda conn: commitments.next_due(conn, "CART", at=later))
    assert (due.id, due.attempts, due.refusals) == (1, 0, 0)
    assert not await store.write(lambda tx: untold.release(tx, queue, 1, at=later)), "once"


@pytest.mark.parametrize("queue", Queue)
async def test_dropped_it_is_never_due(store: GroupedStore, queue: Queue) -> None:
    await held(store)
    assert await store.write(lambda tx: untold.drop(tx, queue, 1, at=NOW))
    assert not await store.write(lambda tx: untold.release(tx, queue, 1, at=NOW))
    assert [u.queue for u in await store.read(untold.held)] == [q.value for q in Queue if q is not queue]
    found = await store.read(lambda conn: untold.one(conn, queue, 1))
    assert found is not None
    assert found.state == untold.DROPPED
