"""What every engine of the store promises for storage commitment."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.domain.states import State
from bridge.store import commitments, inbox
from bridge.store.commitments import HELD, SENT, WAITING, Asked, Due
from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONE, TWO = ("1.2.3", "2.25.1"), ("1.2.3", "2.25.2")


async def asked(
    store: GroupedStore, transaction: str = "2.25.9", *, who: str = "CART", instances: Any = (ONE, TWO), at: Any = NOW
) -> Asked:
    def work(tx: Any) -> Asked:
        return commitments.ask(
            tx,
            transaction_uid=transaction,
            requester=who,
            called="BRIDGE",
            peer="127.0.0.1",
            instances=instances,
            at=at,
            due_at=at + timedelta(seconds=1),
        )

    return await store.write(work)


async def due(store: GroupedStore, who: str = "CART", after: float = 1) -> Due | None:
    return await store.read(lambda conn: commitments.next_due(conn, who, at=NOW + timedelta(seconds=after)))


async def counts(store: GroupedStore) -> dict[str, int]:
    return await store.read(commitments.counts)


async def test_a_request_is_due_when_its_association_has_ended(store: GroupedStore, heard: list[Notice]) -> None:
    assert await asked(store) is Asked.NEW
    assert [n.topic for n in heard] == ["commitment"]
    assert await due(store, after=0.5) is None
    found = await due(store)
    assert found is not None
    assert (found.transaction_uid, found.called, found.instances) == ("2.25.9", "BRIDGE", (ONE, TWO))
    first = int((NOW + timedelta(seconds=1)).timestamp() * 1000)
    assert await store.read(commitments.earliest) == {"CART": (first, first)}


async def test_f30_the_same_request_again_is_one_row(store: GroupedStore) -> None:
    await asked(store)
    assert await asked(store, instances=(TWO, ONE)) is Asked.AGAIN  # in whatever order
    assert await counts(store) == {WAITING: 1}


async def test_a_transaction_uid_is_its_peers_own(store: GroupedStore) -> None:
    await asked(store)
    assert await asked(store, who="OTHER", instances=(ONE,)) is Asked.NEW
    assert await counts(store) == {WAITING: 2}


async def test_ps3_4_j_3_3_1_2_a_transaction_uid_with_other_instances_changes_nothing(store: GroupedStore) -> None:
    await asked(store)
    assert await asked(store, instances=(ONE,)) is Asked.OTHER
    found = await due(store)
    assert found is not None
    assert found.instances == (ONE, TWO)


async def test_what_was_told_is_told_once_more_where_it_is_asked_for_again(store: GroupedStore) -> None:
    for state in (SENT, HELD):
        await asked(store)
        found = await due(store)
        assert found is not None
        assert await store.write(
            lambda tx, f=found, s=state: commitments.settle(tx, f, s, at=NOW, reason="", told=[0, 0x0112])  # type: ignore[misc]
        )
        assert await due(store) is None
        assert await counts(store) == {state: 1}
    assert await asked(store) is Asked.AGAIN
    found = await due(store)
    assert found is not None
    assert found.attempts == 0


async def test_a_report_that_was_under_way_does_not_answer_what_was_asked_since(store: GroupedStore) -> None:
    await asked(store)
    before = await due(store)
    assert before is not None
    await asked(store, at=NOW + timedelta(milliseconds=10))
    told = await store.write(lambda tx: commitments.settle(tx, before, SENT, at=NOW, reason=""))
    assert not told
    assert await counts(store) == {WAITING: 1}


async def test_f13_a_peer_that_cannot_be_reached_keeps_all_of_its_reports_waiting(store: GroupedStore) -> None:
    await asked(store, "2.25.1")
    await asked(store, "2.25.2")
    await asked(store, "2.25.3", who="OTHER")
    found = await due(store)
    assert found is not None
    await store.write(lambda tx: commitments.put_back(tx, found, reason="away", refused=False, seconds=60, at=NOW))
    assert await due(store, after=59) is None
    assert await due(store, who="OTHER") is not None
    again = await due(store, after=60)
    assert again is not None
    assert (again.id, again.attempts, again.refusals) == (found.id, 1, 0)


async def test_f44_a_report_that_was_refused_lets_the_next_one_by(store: GroupedStore) -> None:
    await asked(store, "2.25.1")
    await asked(store, "2.25.2")
    found = await due(store)
    assert found is not None
    await store.write(lambda tx: commitments.put_back(tx, found, reason="0110", refused=True, seconds=60, at=NOW))
    other = await due(store)
    assert other is not None
    assert other.transaction_uid == "2.25.2"
    again = await due(store, after=61)
    assert again is not None
    assert again.refusals == 1


async def test_f25_a_time_that_a_clock_set_too_far_away_is_due(store: GroupedStore) -> None:
    await asked(store, at=NOW + timedelta(hours=1))
    assert await due(store, after=0) is not None


async def test_in_custody_is_what_was_accepted_and_kept(store: GroupedStore) -> None:
    def keep(identity: str, state: State, payload: str | None) -> Any:
        arrival = inbox.Arrival(
            kind="dicom",
            type="12-lead ECG Waveform Storage",
            received_at=NOW,
            listener="dicom",
            peer="127.0.0.1",
            sender="CART",
            identity=identity,
            digest=identity,
            sop_instance_uid="2.25.1",
            payload=payload,
        )
        return lambda tx: inbox.keep(tx, arrival, state=state)

    await store.write(keep("refused:2.25.1:a", State.REJECTED, "aa/a.dcm"))
    await store.write(keep("document:2.25.1", State.FILTERED, None))
    await store.write(keep("sop:2.25.1:noted", State.FILTERED, None))
    find = commitments.kept_objects
    assert await store.read(lambda conn: find(conn, ["2.25.1", "2.25.2"])) == {"2.25.1": (), "2.25.2": ()}
    await store.write(keep("sop:2.25.1:b", State.RECEIVED, "bb/b.dcm"))
    await store.write(keep("sop:2.25.1:c", State.HELD, "cc/c.dcm"))
    found = await store.read(lambda conn: find(conn, ["2.25.1"]))
    assert [k.payload for k in found["2.25.1"]] == ["bb/b.dcm", "cc/c.dcm"]


async def test_what_a_peer_was_told_stands_with_each_instance(store: GroupedStore) -> None:
    await asked(store, "2.25.1")
    await asked(store, "2.25.2", instances=(TWO, ONE))
    for who in ("2.25.1", "2.25.2"):
        found = await due(store)
        assert found is not None
        assert found.transaction_uid == who
        await store.write(lambda tx, f=found: commitments.settle(tx, f, SENT, at=NOW, reason="", told=[0, 0x0112]))  # type: ignore[misc]
    table = commitments.commitment_instance

    def read(conn: Any) -> list[tuple[str, int]]:
        return [(row.sop_instance_uid, row.failure) for row in conn.execute(table.select().order_by(table.c.id))]

    assert await store.read(read) == [("2.25.1", 0), ("2.25.2", 0x0112), ("2.25.2", 0), ("2.25.1", 0x0112)]
