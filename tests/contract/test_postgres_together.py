"""Several processes on one PostgreSQL: each sees what the others committed, hears of it once, and in its order."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from psycopg import sql

from bridge.domain.states import State
from bridge.store import destinations, inbox, line, postgres_turn, workers
from bridge.store.port import Notice, Transaction
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import writer_engine
from bridge.store.schema import event, message
from tests.contract.conftest import Join
from tests.contract.heard import Ears
from tests.contract.test_store_contract import NOW, arrival

EACH = 40


async def test_a_work_sees_what_another_process_committed(join: Join) -> None:
    first, second = join(), join()
    kept = await first.write(lambda tx: inbox.keep(tx, arrival("a")))
    await first.write(lambda tx: inbox.answer_once(tx, kept.id, b"ANSWER", "AA"))
    again = await second.write(lambda tx: inbox.keep(tx, arrival("a")))
    assert (again.id, again.known, again.answer) == (kept.id, True, b"ANSWER")


def _seen(address: sa.URL, ended: "asyncio.Event") -> list[int]:
    """The ids of events as a look behind the newest one finds them, again and again."""
    seen: list[int] = []
    engine = writer_engine(address)
    with engine.connect() as conn:
        while True:
            last = ended.is_set()
            query = sa.select(event.c.id).where(event.c.id > (seen[-1] if seen else 0)).order_by(event.c.id)
            seen.extend(conn.execute(query).scalars())
            conn.rollback()
            if last:
                break
    engine.dispose()
    return seen


async def test_events_are_committed_in_the_order_of_their_ids(join: Join, emptied: sa.URL) -> None:
    """Whoever looks behind the newest that he has seen misses none: eight writers of two processes."""
    stores = [join(), join()]
    ended = asyncio.Event()
    looking = asyncio.create_task(asyncio.to_thread(_seen, emptied, ended))

    def write(who: int) -> None:
        for number in range(EACH):
            one = arrival(f"{who}-{number}")
            stores[who % 2].write_from_thread(lambda tx, one=one: inbox.keep(tx, one))  # type: ignore[misc]

    with ThreadPoolExecutor(8) as pool:
        await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(pool, write, who) for who in range(8)))
    ended.set()
    seen = await looking
    rows = await stores[0].read(lambda conn: conn.execute(sa.select(event.c.id).order_by(event.c.id)).scalars().all())
    assert len(rows) == 8 * EACH
    assert seen == rows


@pytest.mark.parametrize("spoken", [True, False], ids=["by-notify", "by-poll-alone"])
async def test_each_hears_what_the_others_did_once_and_in_order(
    join: Join, monkeypatch: pytest.MonkeyPatch, spoken: bool
) -> None:
    if not spoken:
        monkeypatch.setattr(postgres_turn, "_WORD", sql.SQL("SELECT {word}"))
    pair = [join(poll=60.0 if spoken else 0.05) for _ in range(2)]
    ears = [Ears(store) for store in pair]
    made: list[list[int]] = [[], []]

    async def one_message(who: int, number: int) -> None:
        kept = await pair[who].write(lambda tx: inbox.keep(tx, arrival(f"{who}-{number}")))
        await pair[who].write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW))
        await pair[who].write(lambda tx: inbox.move(tx, kept.id, State.READY, State.HELD, at=NOW))
        made[who].append(kept.id)

    async def work(who: int) -> None:
        for number in range(EACH):
            await one_message(who, number)

    await asyncio.gather(work(0), work(1))
    for topic in ("received", "ready", "settled"):
        for one in ears:
            await one.until(lambda one=one, topic=topic: len(one.of(topic)) >= 2 * EACH)  # type: ignore[misc]
            assert sorted(one.of(topic)) == sorted(made[0] + made[1])
            for numbers in made:
                assert [number for number in one.of(topic) if number in numbers] == numbers


@pytest.mark.parametrize("spoken", [True, False], ids=["by-notify", "by-poll-alone"])
async def test_an_answer_is_handed_to_the_process_that_waits_for_it(
    join: Join, monkeypatch: pytest.MonkeyPatch, spoken: bool
) -> None:
    if not spoken:
        monkeypatch.setattr(postgres_turn, "_WORD", sql.SQL("SELECT {word}"))
    poll = 60.0 if spoken else 0.05
    receiver, dispatcher = join(poll=poll), join(poll=poll)
    ears = Ears(receiver)
    kept = await receiver.write(lambda tx: inbox.keep(tx, arrival("a")))

    def settle(tx: Transaction) -> None:
        inbox.answer_once(tx, kept.id, b"ANSWER", "AA")
        inbox.move(tx, kept.id, State.RECEIVED, State.DONE, at=NOW)

    await dispatcher.write(settle)
    await ears.until(lambda: ears.of("settled"))
    (found,) = [one for one in ears.notices if one.topic == "settled"]
    assert (found.message_id, bytes(found.value)) == (kept.id, b"ANSWER")


async def test_what_was_committed_while_nobody_listened_is_heard_afterwards(join: Join) -> None:
    first, second = join(poll=60.0), join(poll=60.0)
    ears = Ears(second)
    await ears.until(lambda: ears.notices)  # it listens
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(query, 'SELECT name, down')"
    (ended,) = await first.read(lambda conn: {*conn.exec_driver_sql(cut).scalars()})
    assert ended
    kept = await first.write(lambda tx: inbox.keep(tx, arrival("a")))
    await ears.until(lambda: ears.of("received"))
    assert ears.of("received") == [kept.id]


async def test_a_destination_that_another_process_found_down_is_told(join: Join) -> None:
    first, second = join(poll=60.0), join(poll=60.0)
    ears = Ears(second)
    await first.write(lambda tx: destinations.begin(tx, ["a"], at=NOW))
    await first.write(lambda tx: destinations.note(tx, "a", down=True, at=NOW, reason="unreachable"))
    await ears.until(lambda: ("a", True) in [one.value for one in ears.notices if one.topic == "destination"])


async def test_what_is_said_of_a_destination_back_and_forth_is_told_each_time(join: Join) -> None:
    """Whoever does not look at its own word knows but the one before it, to which another's is no change."""
    first, second = join(poll=60.0), join(poll=60.0)
    ears = {first: Ears(first), second: Ears(second)}
    await first.write(lambda tx: destinations.begin(tx, ["a"], at=NOW))
    for speaker, hearer, down in ((first, second, True), (second, first, False), (first, second, True)):
        ears[hearer].notices.clear()
        note = functools.partial(destinations.note, down=down, at=NOW, reason="unreachable" if down else "")
        await speaker.write(lambda tx, note=note: note(tx, "a"))  # type: ignore[misc]
        wanted = ("destination", ("a", down))
        await ears[hearer].until(lambda: wanted in [(one.topic, one.value) for one in ears[hearer].notices])  # noqa: B023


async def test_no_two_processes_have_one_patient_in_hand(join: Join) -> None:
    """Four at once, each for whatever is due: at most one of each patient, and always its oldest."""
    stores = [join() for _ in range(4)]
    patients = [f"P{number % 7}" for number in range(60)]

    def fill(tx: Transaction) -> list[int]:
        made = []
        for number, patient in enumerate(patients):
            kept = inbox.keep(tx, replace(arrival(f"n{number}"), received_at=NOW))
            inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW, order_key=patient)
            made.append(kept.id)
        return made

    made = await stores[0].write(fill)
    in_hand: set[str] = set()
    done: dict[str, list[int]] = {}

    def claim(tx: Transaction, who: str) -> list[line.Claimed]:
        """What is noted of it is noted within the transaction: futures of several stores wake up in any order."""
        found = line.claim(tx, who, 3, at=NOW)
        for one in found:
            assert one.order_key is not None
            assert one.order_key not in in_hand
            in_hand.add(one.order_key)
        return found

    def finish(tx: Transaction, one: line.Claimed) -> None:
        assert one.order_key is not None
        inbox.move(tx, one.id, State.READY, State.HELD, at=NOW)
        done.setdefault(one.order_key, []).append(one.id)
        in_hand.remove(one.order_key)

    async def dispatch(store: PostgresStore) -> None:
        while sum(map(len, done.values())) < len(patients):
            for one in await store.write(lambda tx: claim(tx, store.worker)):
                await store.write(functools.partial(finish, one=one))

    async with asyncio.timeout(60):
        await asyncio.gather(*(dispatch(store) for store in stores))
    assert sorted(number for numbers in done.values() for number in numbers) == made
    assert all(numbers == sorted(numbers) for numbers in done.values())


async def test_a_duty_is_one_process_s_and_another_s_when_it_ends(join: Join) -> None:
    first, second = join(), join()
    crews = [asyncio.create_task(one.crew.run()) for one in (first, second)]
    await asyncio.wait_for(first.on_duty("alarms"), 60)
    waiting = asyncio.create_task(second.on_duty("alarms"))
    await second.write(lambda tx: workers.take_duty(tx, "other", second.worker))
    assert await second.read(workers.duties) == {"alarms": first.worker, "other": second.worker}
    assert not waiting.done()
    crews[0].cancel()
    await asyncio.to_thread(first.close)
    await asyncio.wait_for(waiting, 60)
    assert (await second.read(workers.duties))["alarms"] == second.worker
    crews[1].cancel()


async def test_each_knows_how_many_send_as_they_come_and_go(join: Join) -> None:
    """What the API allows is shared by them; who only receives takes no part in it."""
    first = join(roles=["dispatch"])
    crew = asyncio.create_task(first.crew.run())

    async def until(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(first.lease / 8):  # by a word: the next look comes later
            while not done():  # noqa: ASYNC110  nobody says that it changed
                await asyncio.sleep(0.01)

    await until(lambda: first._commits == 1)  # its first look is over
    second, _ = join(roles=["dispatch", "console"]), join(roles=["receive"])
    assert second.dispatchers() == 2, "from the start"
    await until(lambda: first.dispatchers() == 2)
    await asyncio.to_thread(second.close)
    await until(lambda: first.dispatchers() == 1)
    crew.cancel()


async def test_a_process_that_ends_gives_back_what_it_has_in_hand(join: Join) -> None:
    first, second = join(), join()
    ears = Ears(second)
    kept = await first.write(lambda tx: inbox.keep(tx, arrival("a")))
    await first.write(lambda tx: inbox.move(tx, kept.id, State.RECEIVED, State.READY, at=NOW, order_key="A"))
    assert await first.write(lambda tx: line.claim_one(tx, first.worker, kept.id))
    assert await second.write(lambda tx: line.claim(tx, second.worker, 9, at=NOW)) == []
    await asyncio.to_thread(first.close)
    await ears.until(lambda: Notice("ready") in ears.notices)
    assert [one.id for one in await second.write(lambda tx: line.claim(tx, second.worker, 9, at=NOW))] == [kept.id]
    owners = await second.read(lambda conn: conn.execute(sa.select(message.c.owner)).scalars().all())
    assert owners == [second.worker]
