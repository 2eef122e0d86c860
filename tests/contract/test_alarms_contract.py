"""What every engine of the store promises of alarms and their notices: each edge once, each batch the same again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.domain.states import State
from bridge.store import alarm_facts, alarms, anomalies, destinations, inbox, line, outbound, quarantine
from bridge.store.alarms import DROPPED, ON, OVER, SENT, WAITING, Due
from bridge.store.grouped import GroupedStore
from bridge.store.port import Notice, Transaction

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BOTH = ("webhook", "mail")
LEASE = timedelta(seconds=120)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def begun(store: GroupedStore, subject: str = "cardio", channels: tuple[str, ...] = BOTH) -> int | None:
    return await store.write(
        lambda tx: alarms.begin(tx, "queue_old", subject, at=NOW, detail={"number": 1}, channels=channels)
    )


async def taken(store: GroupedStore, channel: str = "mail", seconds: float = 0, most: int = 200) -> list[Due]:
    at = later(seconds)
    return await store.write(lambda tx: alarms.take(tx, channel, at=at, again_at=at + LEASE, most=most))


async def states(store: GroupedStore, alarm_id: int) -> list[tuple[str, str, str, int, str]]:
    told = (await store.read(lambda conn: alarms.told(conn, [alarm_id])))[alarm_id]
    return [(t.edge, t.channel, t.state, t.attempts, t.reason) for t in told]


async def test_an_alarm_is_on_once_and_its_notices_are_written_with_it(store: GroupedStore) -> None:
    made = await begun(store)
    assert made is not None
    assert await begun(store) is None
    (on,) = await store.read(alarms.on_now)
    assert (on.id, on.rule, on.subject, on.since, on.over_at, on.detail) == (
        made, "queue_old", "cardio", NOW, None, {"number": 1},
    )  # fmt: skip
    assert await states(store, made) == [(ON, "webhook", WAITING, 0, ""), (ON, "mail", WAITING, 0, "")]
    assert await store.read(alarms.counts) == {"queue_old": 1}


async def test_where_the_transaction_fails_nobody_is_told(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        alarms.begin(tx, "queue_old", "cardio", at=NOW, detail={}, channels=BOTH)
        raise ValueError("invented")

    with pytest.raises(ValueError, match="invented"):
        await store.write(work)
    assert await store.read(alarms.on_now) == []
    assert await taken(store) == []


async def test_it_is_over_once_and_may_begin_anew(store: GroupedStore) -> None:
    first = await begun(store)
    assert first is not None
    over: Callable[[Transaction], bool] = lambda tx: alarms.end(tx, first, at=later(60), channels=BOTH)  # noqa: E731
    assert await store.write(over)
    assert not await store.write(over)
    assert len(await states(store, first)) == 4
    second = await begun(store)
    assert second not in {None, first}
    assert [a.id for a in await store.read(alarms.history)] == [second, first]


async def test_a_figure_is_refreshed_while_it_is_on_and_nobody_is_told(store: GroupedStore) -> None:
    made = await begun(store)
    assert made is not None
    await store.write(lambda tx: alarms.refresh(tx, made, {"number": 9}))
    assert [a.detail for a in await store.read(alarms.on_now)] == [{"number": 9}]
    assert len(await states(store, made)) == 2


async def test_those_that_wait_go_out_together_and_each_channel_by_itself(store: GroupedStore) -> None:
    for subject in ("a", "b", "c"):
        await begun(store, subject)
    assert [d.alarm.subject for d in await taken(store, most=2)] == ["a", "b"]
    assert [d.alarm.subject for d in await taken(store)] == ["c"]
    assert await taken(store) == []
    assert [d.alarm.subject for d in await taken(store, "webhook")] == ["a", "b", "c"]


async def test_a_batch_that_was_begun_goes_out_again_as_it_was(store: GroupedStore) -> None:
    """As after a restart: that it was sent stands nowhere, so it is sent again, and with nothing else in it."""
    await begun(store, "a")
    await begun(store, "b")
    first = await taken(store)
    await begun(store, "c")
    assert [d.alarm.subject for d in await taken(store, seconds=1)] == ["c"]
    assert await taken(store, seconds=119) == []
    again = await taken(store, seconds=121)
    assert [d.id for d in again] == [d.id for d in first]
    assert [d.attempts for d in again] == [2, 2]


async def test_what_was_not_taken_is_put_back_with_its_reason_and_then_settled(store: GroupedStore) -> None:
    made = await begun(store)
    assert made is not None
    (due,) = await taken(store)
    await store.write(lambda tx: alarms.put_back(tx, [due.id], at=later(30), reason="http_500"))
    assert await store.read(lambda conn: alarms.next_due(conn, "mail")) == round(later(30).timestamp() * 1000)
    assert await taken(store, seconds=29) == []
    assert len(await taken(store, seconds=30)) == 1
    await store.write(lambda tx: alarms.settle(tx, [due.id], SENT))
    assert (await states(store, made))[1] == (ON, "mail", SENT, 2, "")
    assert await store.read(lambda conn: alarms.next_due(conn, "mail")) is None


async def test_an_end_waits_until_its_beginning_is_told_or_dropped(store: GroupedStore) -> None:
    made = await begun(store)
    assert made is not None
    (first,) = await taken(store)
    await store.write(lambda tx: alarms.put_back(tx, [first.id], at=later(600), reason="refused"))
    await store.write(lambda tx: alarms.end(tx, made, at=later(60), channels=BOTH))
    assert await taken(store, seconds=61) == []
    assert await store.read(lambda conn: alarms.next_due(conn, "mail")) == round(later(600).timestamp() * 1000)
    await store.write(lambda tx: alarms.settle(tx, [first.id], DROPPED, reason="http_404"))
    assert [d.edge for d in await taken(store, seconds=61)] == [OVER]


async def test_f25_a_clock_that_was_set_back_keeps_no_notice(store: GroupedStore) -> None:
    await begun(store)
    assert len(await taken(store, seconds=-3600)) == 1


async def test_what_waits_for_a_channel_that_is_gone_is_dropped(store: GroupedStore) -> None:
    made = await begun(store)
    assert made is not None
    assert await store.write(lambda tx: alarms.drop_others(tx, ["mail"])) == 1
    assert await states(store, made) == [(ON, "webhook", DROPPED, 0, "channel_gone"), (ON, "mail", WAITING, 0, "")]


async def test_how_a_channel_does(store: GroupedStore) -> None:
    await begun(store, "a")
    await begun(store, "b")
    (a, _) = await taken(store)
    ask: Any = lambda conn: alarms.troubles(conn, BOTH, since=later(-3600))  # noqa: E731
    found = await store.read(ask)
    assert (found["mail"].oldest, found["webhook"].oldest) == (NOW, None)  # what was never tried is no trouble
    await store.write(lambda tx: alarms.settle(tx, [a.id], DROPPED, reason="http_404"))
    assert (await store.read(ask))["mail"].dropped == 1
    assert (await store.read(lambda conn: alarms.troubles(conn, BOTH, since=later(1))))["mail"].dropped == 0


async def test_each_commit_wakes_those_who_tell(store: GroupedStore, heard: list[Notice]) -> None:
    await begun(store)
    await begun(store)
    assert [n.topic for n in heard] == [alarms.TOPIC]


# --- facts ------------------------------------------------------------------------------------------------------


def kept(tx: Transaction, number: int, state: State, *, at: datetime = NOW, **more: str) -> int:
    values = {"listener": "hl7", "peer": "127.0.0.1", "sender": "HIS|TEST", **more}
    reason = values.pop("reason", "")
    arrival = inbox.Arrival("hl7", "ORM^O01", at, identity=f"{number}", digest="d", **values)
    return inbox.keep(tx, arrival, state=state, reason=reason).id


async def test_f13_what_stands_in_line_since_when(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        kept(tx, 1, State.READY, at=later(-1000))
        kept(tx, 2, State.RETRY, at=later(-950), reason="unreachable")
        kept(tx, 3, State.RETRY, at=later(-9999), reason=line.AWAITING_ORDER)
        kept(tx, 4, State.CREATED, at=later(-9999))
        kept(tx, 5, State.READY, at=later(-10))

    await store.write(work)
    (pile,) = await store.read(lambda conn: alarm_facts.waiting(conn, since=later(-900)))
    assert (pile.number, pile.oldest) == (2, later(-1000))
    assert await store.read(alarm_facts.queued) == {"": 3}


async def test_what_a_person_let_go_on_waits_since_then(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        released = kept(tx, 1, State.HELD, at=later(-100_000), reason="no_match")
        inbox.move(tx, released, State.HELD, State.READY, at=later(-100))
        inbox.move(tx, released, State.READY, State.RETRY, at=later(-50), reason="unreachable")
        matched = kept(tx, 2, State.READY, at=later(-7200))
        inbox.move(tx, matched, State.READY, State.RETRY, at=later(-7200), reason=line.AWAITING_ORDER)
        inbox.move(tx, matched, State.RETRY, State.UPLOADING, at=later(-950))

    await store.write(work)
    (pile,) = await store.read(lambda conn: alarm_facts.waiting(conn, since=later(-900)))
    assert (pile.number, pile.oldest) == (1, later(-950))


async def test_what_is_held_and_what_must_be_settled_by_reason(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        first = kept(tx, 1, State.HELD, at=later(-60), reason="no_match")
        kept(tx, 2, State.HELD, at=later(-90), reason="no_match")
        kept(tx, 3, State.HELD, reason="poison")
        kept(tx, 4, State.REJECTED, reason="no_match")
        for reason, ids in (("task_gone", [1]), ("not_processed", [2])):
            anomalies.note(tx, message_id=first, task_message_id=first, reason=reason, task_ids=ids, at=later(-5))
        anomalies.settle(tx, 1, at=NOW)

    await store.write(work)
    held = await store.read(alarm_facts.held)
    assert sorted((p.name, p.number, p.oldest) for p in held) == [
        ("no_match", 2, later(-90)),
        ("poison", 1, NOW),
    ]
    assert [(p.name, p.number) for p in await store.read(alarm_facts.anomalies)] == [("not_processed", 1)]


async def test_f44_what_receivers_do_not_take(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        message = kept(tx, 1, State.DONE)
        told: dict[str, Any] = {"kind": "task_ids", "listener": "hl7", "order_key": None, "body": b"MSH"}
        for number, at in ((1, later(-1000)), (2, later(-10))):
            outbound.add(tx, message_id=message, address="10.0.0.1:1", control_id=f"CB{number}", at=at, **told)
        outbound.add(tx, message_id=message, address="10.0.0.2:1", control_id="CB3", at=later(-5), **told)
        outbound.settle(tx, 3, outbound.HELD, at=NOW, reason="AE", answer=b"")

    await store.write(work)
    piles = await store.read(lambda conn: alarm_facts.untold(conn, since=later(-900)))
    assert sorted((p.name, p.number, p.oldest) for p in piles) == [
        ("outbound 10.0.0.1:1", 1, later(-1000)),
        ("outbound 10.0.0.2:1", 1, later(-5)),
    ]


async def test_which_destinations_are_down(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        destinations.note(tx, "cardio", down=True, at=later(-60), reason="unreachable")
        destinations.note(tx, "north", down=False, at=NOW)

    await store.write(work)
    assert await store.read(alarm_facts.down) == [alarm_facts.Down("cardio", "unreachable", later(-60))]


async def test_f17_f31_what_was_refused_and_what_came_under_a_used_number_is_read_once(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        kept(tx, 1, State.REJECTED, at=later(-7200), reason="api_refused")
        kept(tx, 2, State.REJECTED, at=later(-60), reason="missing_field", listener="hl7.north")
        twice = kept(tx, 3, State.RECEIVED, at=later(-30))
        inbox.record(tx, twice, State.RECEIVED, at=later(-30), reason=alarm_facts.REUSED)
        kept(tx, 4, State.CREATED, at=later(-20))
        inbox.record(tx, 2, State.REJECTED, at=later(-10), reason="anomaly_settled", actor="anna")
        inbox.record(tx, 2, State.REJECTED, at=later(-10), reason=quarantine.REASON)

    await store.write(work)
    after = await store.read(lambda conn: alarm_facts.before(conn, later(-3600)))
    newest, news = await store.read(lambda conn: alarm_facts.news(conn, after=after))
    assert [(n.reason, n.listener) for n in news] == [("missing_field", "hl7.north"), (alarm_facts.REUSED, "hl7")]
    assert await store.read(lambda conn: alarm_facts.news(conn, after=newest)) == (newest, [])


async def test_who_was_heard_last_is_read_once(store: GroupedStore) -> None:
    def work(tx: Transaction) -> None:
        kept(tx, 1, State.DONE, at=later(-60))
        kept(tx, 2, State.DONE, at=later(-30))
        kept(tx, 3, State.DONE, at=later(-10), listener="dicom", sender="CART1")

    await store.write(work)
    listeners, senders = ("hl7", "dicom", "hl7.never"), ("HIS|TEST", "CART1", "HIS|NEVER")
    found = await store.read(lambda conn: alarm_facts.last_heard(conn, listeners, senders))
    assert found == {"hl7": later(-30), "dicom": later(-10), "HIS|TEST": later(-30), "CART1": later(-10)}
    newest, heard = await store.read(lambda conn: alarm_facts.heard(conn, after=0))
    assert sorted((h.listener, h.sender, h.at) for h in heard) == [
        ("dicom", "CART1", later(-10)),
        ("hl7", "HIS|TEST", later(-30)),
    ]
    assert await store.read(lambda conn: alarm_facts.heard(conn, after=newest)) == (newest, [])
