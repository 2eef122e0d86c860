"""What every engine of the store promises of searching: what is found is what was asked for, and all of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.domain.states import State
from bridge.store import dry, inbox, search, tasks, terms
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.schema import message, millis
from bridge.store.search import Filters, Page, find
from bridge.store.terms import Kind

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ARRIVAL = inbox.Arrival("hl7", "ORM^O01", NOW, "hl7", "10.0.0.1", "HIS|TEST", None, "d", control_id="C1", raw=b"MSH")


@dataclass(frozen=True, slots=True)
class Put:
    """A message to be found."""

    state: State = State.DONE
    arrival: inbox.Arrival = ARRIVAL
    words: tuple[terms.Word, ...] = ()


def put(tx: Transaction, one: Put) -> int:
    kept = inbox.keep(tx, one.arrival, state=one.state)
    terms.note(tx, kept.id, one.words)
    return kept.id


def of_patient(identifier: str, *names: str) -> tuple[terms.Word, ...]:
    return tuple(terms.of_patient([identifier], names))


async def ids(store: GroupedStore, text: str, filters: Filters | None = None, **more: Any) -> list[int]:
    page = await store.read(lambda conn: find(conn, text, filters or Filters(), **more))
    return [int(row.id) for row in page.rows]


# --- what is found ------------------------------------------------------------------------------------------


_TYPED = [
    ("", True),
    ("4711", True),
    ("47", True),
    ("711", False),
    ("must", True),
    ("MUSTER max", True),
    ("max muster", True),
    ("max meier", False),
    ("müller-lü", True),
    ("Muller", True),
    ("muster^max", True),
    ("strauß", False),
    ("山田", True),
    ("山田 太", True),
    ("pl-1", True),
    ("PL-1", True),
    ("pl1", False),
    ("acc", True),
    ("c1", True),
    ("2.25.7", True),
    ("9007199254740993", True),
    ("his", True),
    ("his|test", True),
    ("test", True),
    ("10.0.0", True),
    ("1", True),  # its id, and its peer's beginning
    ("two words", True),
    ("words", True),
    ("%", False),
    ("_711", False),
    ("*", False),
    ("4711 %", False),
    ("' OR 1=1 --", False),
    ("\x00", True),  # nothing that counts was typed
    ("4711\x00", True),
    ("\ud800", True),
    ("\U0010ffff", True),
    ("z" * 100_000, False),
    ("4 " * 1000, True),
]


async def test_each_word_is_the_beginning_of_one_of_its_own(store: GroupedStore) -> None:
    names = ("Muster", "Max", "Müller-Lüdenscheidt", "山田", "太郎")
    words = (*of_patient("4711", *names), *terms.of_orders(["PL-1", "ACC7", "Two Words"]))
    arrival = replace(ARRIVAL, sop_instance_uid="2.25.7")
    one = Put(arrival=arrival, words=(*words, *terms.of_tasks([9007199254740993])))
    number = await store.write(lambda tx: put(tx, one))
    found = [(text, await ids(store, text) == [number]) for text, _ in _TYPED]
    assert found == _TYPED


async def test_a_word_may_be_a_message_s_id(store: GroupedStore) -> None:
    elsewhere = replace(ARRIVAL, peer="::9")
    made = [await store.write(lambda tx: put(tx, Put(arrival=elsewhere, words=of_patient("x")))) for _ in range(12)]
    assert await ids(store, str(made[4])) == [made[4]]
    assert await ids(store, f"{made[4]} x") == [made[4]]
    assert await ids(store, str(made[0])) == [made[0]]  # no beginning of 10, 11 and 12: ids are exact


async def test_each_filter_narrows(store: GroupedStore) -> None:
    def work(tx: Transaction) -> list[int]:
        ecg = replace(ARRIVAL, kind="dicom", type="TwelveLeadECGWaveformStorage", sender="CART1", peer="10.0.0.9")
        late = replace(ARRIVAL, received_at=NOW + timedelta(days=1))
        return [put(tx, one) for one in (Put(State.HELD), Put(arrival=ecg), Put(State.READY, late))]

    held, ecg, ready = await store.write(work)
    assert await ids(store, "", Filters(states=["HELD"])) == [held]
    assert await ids(store, "", Filters(states=["HELD", "READY"])) == [ready, held]
    assert await ids(store, "", Filters(kinds=["dicom"])) == [ecg]
    assert await ids(store, "", Filters(types=["ORM^O01"])) == [ready, held]
    assert await ids(store, "", Filters(sender="cart1")) == [ecg]
    assert await ids(store, "", Filters(sender="his|TEST")) == [ready, held]
    assert await ids(store, "", Filters(sender="10.0.0.9")) == []
    assert await ids(store, "", Filters(peer="10.0.0.9")) == [ecg]
    assert await ids(store, "", Filters(since=NOW + timedelta(hours=1))) == [ready]
    assert await ids(store, "", Filters(until=NOW + timedelta(hours=1))) == [ecg, held]
    assert await ids(store, "his", Filters(states=["READY"], since=NOW, until=NOW + timedelta(days=2))) == [ready]
    assert await ids(store, "", Filters(since=NOW + timedelta(days=9))) == []


async def test_f25_a_clock_that_was_set_back_an_hour_hides_nothing(store: GroupedStore) -> None:
    hours = [0, 1, 2, 3, 2.1, 3.1, 4, 5, 6, 7, 8, 9]  # behind the fourth it was set back

    def work(tx: Transaction) -> list[int]:
        return [put(tx, Put(arrival=replace(ARRIVAL, received_at=NOW + timedelta(hours=h)))) for h in hours]

    made = await store.write(work)
    for since in range(10):
        span = Filters(since=NOW + timedelta(hours=since), until=NOW + timedelta(hours=since + 1))
        wanted = [i for i, h in zip(made, hours, strict=True) if since <= h < since + 1]
        assert await ids(store, "", span) == wanted[::-1]


# --- as a plain filter would --------------------------------------------------------------------------------

_ALPHABET = ["a", "ab", "abc", "b", "1", "12", "2", "é", "e", "x-y", "x-a", "x y", "x", "y", "z|a"]
_TYPED_WORDS = st.sampled_from([*_ALPHABET, "x-y", "y^x", "", "%", "_", "A", "É", "3", "7"])
_TEXT = st.lists(_TYPED_WORDS, max_size=3).map(" ".join)
_PUTS = st.builds(
    Put,
    state=st.sampled_from([State.HELD, State.DONE, State.READY, State.CREATED]),
    arrival=st.builds(
        lambda control, sender, kind, peer: replace(ARRIVAL, control_id=control, sender=sender, kind=kind, peer=peer),
        st.sampled_from(_ALPHABET),
        st.sampled_from(["a|b", "x", ""]),
        st.sampled_from(["hl7", "dicom"]),
        st.sampled_from(["1", "22"]),
    ),
    words=st.lists(st.sampled_from(_ALPHABET), max_size=4).map(
        lambda said: (*terms.of_patient(said[:1], said[1:3]), *terms.of_orders(said[3:]))
    ),
)
_FILTERS = st.builds(
    Filters,
    states=st.lists(st.sampled_from(["HELD", "DONE", "READY"]), max_size=2),
    kinds=st.lists(st.just("hl7"), max_size=1),
    sender=st.sampled_from(["", "", "a", "b", "x"]),
    peer=st.sampled_from(["", "", "2", "1"]),
    since=st.none() | st.integers(0, 40).map(lambda hours: NOW + timedelta(hours=hours)),
    until=st.none() | st.integers(0, 40).map(lambda hours: NOW + timedelta(hours=hours)),
)


@dataclass(frozen=True, slots=True)
class _Known:
    id: int
    one: Put
    words: frozenset[terms.Word]

    def has(self, text: str, filters: Filters) -> bool:
        a, at = self.one.arrival, self.one.arrival.received_at
        return (
            all(any(all(self._word(w) for w in way) for way in choice) for choice in terms.typed(text))
            and (not filters.states or self.one.state in filters.states)
            and (not filters.kinds or a.kind in filters.kinds)
            and (not filters.sender or self._word(filters.sender, Kind.SENDER))
            and (not filters.peer or self._word(filters.peer, Kind.PEER))
            and (filters.since is None or at >= filters.since)
            and (filters.until is None or at < filters.until)
        )

    def _word(self, word: str, of: Kind | None = None) -> bool:
        if of is None and word == str(self.id):
            return True
        return any(value.startswith(word) for kind, value in self.words if of in {None, kind})


def _pages(conn: sa.Connection, text: str, filters: Filters, limit: int) -> Iterator[Page]:
    before = None
    while True:
        page = find(conn, text, filters, before=before, limit=limit)
        yield page
        assert len(page.rows) <= limit
        if page.next is None:
            return
        assert before is None or page.next < before
        before = page.next


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what counts as few and as far, and how much is looked at."""

    def to(few: int, far: int, step: int, most: int = 4, words: int = 1) -> None:
        for name, value in (("FEW", few), ("FAR", far), ("STEP", step), ("MOST", most), ("WORDS", words)):
            monkeypatch.setattr(search, name, value)

    return to


@pytest.fixture(scope="module")
def books() -> Iterator[sa.Engine]:
    """A store in memory that every example leaves empty."""
    engine = dry.books()
    yield engine
    engine.dispose()


_A_STORE_AND_WHAT_IS_TYPED = given(
    st.lists(st.tuples(_PUTS, st.integers(0, 3), st.integers(-60, 60)), min_size=1, max_size=25),
    st.lists(st.tuples(_TEXT, _FILTERS), min_size=1, max_size=5),
    st.tuples(*(st.integers(least, 9) for least in (0, 1, 1, 1, 0))),
    st.integers(1, 5),
)


def _is_found(
    conn: sa.Connection, puts: Sequence[tuple[Put, int, int]], asked: Sequence[tuple[str, Filters]], limit: int
) -> None:
    known: list[_Known] = []
    hours = 0
    for one, later, minutes in puts:
        hours += later
        at = NOW + timedelta(hours=hours, minutes=minutes)  # a clock that is an hour wrong now and then
        a = replace(one.arrival, received_at=at)
        words = frozenset({*one.words, *terms.of_arrival(a.sender, a.peer, a.control_id, a.sop_instance_uid)})
        known.append(_Known(put(Transaction(conn), replace(one, arrival=a)), replace(one, arrival=a), words))
    for text, filters in asked:
        found = [int(row.id) for page in _pages(conn, text, filters, limit) for row in page.rows]
        assert found == [one.id for one in reversed(known) if one.has(text, filters)], (text, filters)
    conn.rollback()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@_A_STORE_AND_WHAT_IS_TYPED
def test_every_page_together_is_what_a_plain_filter_finds(
    books: sa.Engine,
    bounds: Any,
    puts: Sequence[tuple[Put, int, int]],
    asked: Sequence[tuple[str, Filters]],
    way: Any,
    limit: int,
) -> None:
    bounds(*way)
    with books.connect() as conn:
        _is_found(conn, puts, asked, limit)


@pytest.mark.usefixtures("emptied")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@_A_STORE_AND_WHAT_IS_TYPED
def test_every_page_together_is_what_a_plain_filter_finds_on_postgresql(
    shared_database: sa.Engine,
    bounds: Any,
    puts: Sequence[tuple[Put, int, int]],
    asked: Sequence[tuple[str, Filters]],
    way: Any,
    limit: int,
) -> None:
    bounds(*way)
    with shared_database.connect() as conn:
        _is_found(conn, puts, asked, limit)


async def test_a_rare_half_of_a_name_leaves_its_other_half_to_be_asked(store: GroupedStore, bounds: Any) -> None:
    bounds(few=2, far=9, step=1)
    both = await store.write(lambda tx: put(tx, Put(words=of_patient("1", "Rare-Common"))))
    await store.write(lambda tx: put(tx, Put(words=of_patient("2", "Rare"))))
    for _ in range(5):
        await store.write(lambda tx: put(tx, Put(words=of_patient("3", "Common"))))
    assert await ids(store, "rare-common") == [both]


async def test_a_word_of_two_kinds_counts_once_for_its_message(store: GroupedStore, bounds: Any) -> None:
    bounds(few=1, far=1, step=1, most=3)
    words = (*terms.of_orders(["X1"]), *terms.of_patient(["X1"], ()))
    made = [await store.write(lambda tx: put(tx, Put(words=words))) for _ in range(9)]
    assert await ids(store, "x1", limit=9) == made[::-1]
    twice = replace(ARRIVAL, control_id="HIS|TEST")
    made += [await store.write(lambda tx: put(tx, Put(arrival=twice))) for _ in range(9)]
    assert await ids(store, "", Filters(sender="his|test"), limit=18) == made[::-1]


async def test_pages_hold_each_message_once_while_more_come_in(store: GroupedStore, bounds: Any) -> None:
    bounds(few=5, far=7, step=3)
    first = [await store.write(lambda tx: put(tx, Put(words=of_patient("4711")))) for _ in range(40)]
    for text in ("", "4711", "his 47"):
        seen: list[int] = []
        before: int | None = None
        while True:
            page = await store.read(lambda conn, t=text, b=before: find(conn, t, before=b, limit=6))  # type: ignore[misc]
            seen += [int(row.id) for row in page.rows]
            await store.write(lambda tx: put(tx, Put(words=of_patient("4711"))))
            if page.next is None:
                break
            before = page.next
        assert seen[-40:] == first[::-1]
        assert all(later > earlier for later, earlier in pairwise(seen))


async def test_a_walk_says_how_far_it_went_and_goes_on_from_there(store: GroupedStore, bounds: Any) -> None:
    bounds(few=3, far=8, step=2, words=0)
    old = await store.write(lambda tx: put(tx, Put(words=of_patient("both", "Common", "Other"))))
    for n in range(20):
        words = of_patient(f"p{n}", "Common" if n % 2 else "Other")
        await store.write(lambda tx, w=words: put(tx, Put(words=w)))  # type: ignore[misc]
    page = await store.read(lambda conn: find(conn, "common other"))
    assert (page.rows, page.looked, page.next) == ([], 8, old + 20 - 7)
    looks = 1
    while page.next is not None:
        page = await store.read(lambda conn, b=page.next: find(conn, "common other", before=b))  # type: ignore[misc]
        looks += 1
    assert ([int(row.id) for row in page.rows], looks, page.looked) == ([old], 3, 0)


async def test_messages_of_a_whole_word_are_found_however_far_back(store: GroupedStore, bounds: Any) -> None:
    bounds(few=3, far=2, step=2, most=5, words=2)
    for n in range(8):
        words = of_patient(f"p{n}", "Common", "Other" if n == 1 else "Third")
        await store.write(lambda tx, w=words: put(tx, Put(words=w)))  # type: ignore[misc]
    for _ in range(8):
        await store.write(lambda tx: put(tx, Put(words=of_patient("x", "Nobody"))))
    page = await store.read(lambda conn: find(conn, "common", limit=5))
    assert ([int(row.id) for row in page.rows], page.looked) == ([8, 7, 6, 5, 4], 0)
    first = await store.read(lambda conn: find(conn, "common t", Filters(types=["ADT^A08"])))
    assert (first.rows, first.looked, first.next) == ([], 5, 4)
    second = await store.read(lambda conn: find(conn, "common t", Filters(types=["ADT^A08"]), before=first.next))
    assert (second.rows, second.looked, second.next) == ([], 0, None)


# --- one message --------------------------------------------------------------------------------------------


async def test_a_task_id_names_its_message_at_once(store: GroupedStore) -> None:
    def work(tx: Transaction) -> int:
        kept = inbox.keep(tx, ARRIVAL, state=State.READY)
        row = tasks.intend(
            tx,
            message_id=kept.id,
            position=1,
            order_id=None,
            purpose="draft",
            key="br1-a",
            generation=1,
            body=b"{}",
            traces=(),
            at=NOW,
        )
        tasks.settle(tx, row, State.CREATED, at=NOW, task_ids=[2**64 - 1])
        return kept.id

    made = await store.write(work)
    assert await store.read(lambda conn: search.named(conn, " 18446744073709551615 ")) == (made, "task")
    assert await ids(store, "18446744073709551615") == [made]
    for unknown in ("1844674407370955161", "", "%", "4711"):
        assert await store.read(lambda conn, u=unknown: search.named(conn, u)) is None  # type: ignore[misc]


async def test_what_several_messages_are_called_names_none(store: GroupedStore) -> None:
    await store.write(lambda tx: put(tx, Put()))
    assert await store.read(lambda conn: search.named(conn, "c1")) == (1, "control")
    await store.write(lambda tx: put(tx, Put()))
    assert await store.read(lambda conn: search.named(conn, "c1")) is None


_PRIVATE = [
    ("PL-1", False),
    ("c1", False),
    ("his pl-1", False),
    ("4711", True),
    ("47", True),
    ("muster", True),
    ("pl-1 muster", True),
    ("nobody-knows", True),  # a name that was mistyped is one
    ("Müller-L", True),
    ("1", True),  # an address begins with it, and a patient's identifier
    ("", False),
]


async def test_what_may_be_a_patient_s_is_told_apart(store: GroupedStore) -> None:
    names = of_patient("4711", "Muster", "Müller-Lüdenscheidt") + of_patient("1x")
    await store.write(lambda tx: put(tx, Put(words=(*names, *terms.of_orders(["PL-1"])))))

    def look(conn: sa.Connection) -> list[tuple[str, bool]]:
        return [(text, search.may_name_a_patient(conn, text)) for text, _ in _PRIVATE]

    assert await store.read(look) == _PRIVATE


async def test_of_a_beginning_with_more_words_than_are_looked_at_anything_may_be(
    store: GroupedStore, bounds: Any
) -> None:
    bounds(few=3, far=3, step=3)
    await store.write(lambda tx: put(tx, Put(words=tuple(terms.of_orders(f"PL-{n}" for n in range(9))))))
    assert await store.read(lambda conn: search.may_name_a_patient(conn, "pl")) is True
    assert await store.read(lambda conn: search.may_name_a_patient(conn, "pl-1")) is False


# --- words --------------------------------------------------------------------------------------------------


async def test_words_are_gone_with_a_transaction_that_fails(store: GroupedStore) -> None:
    def failing(tx: Transaction) -> None:
        put(tx, Put(words=of_patient("4711")))
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        await store.write(failing)
    assert await ids(store, "4711") == []


async def test_a_word_is_noted_once_and_forgotten_by_its_kind(store: GroupedStore) -> None:
    words = (*of_patient("7", "Seven"), *terms.of_orders(["7"]))
    one = await store.write(lambda tx: put(tx, Put(words=words)))
    await store.write(lambda tx: terms.note(tx, one, words))
    await store.write(lambda tx: terms.forget(tx, one, terms.SAID))
    assert await ids(store, "7") == await ids(store, "seven") == []
    assert await ids(store, "c1") == [one]


async def test_a_message_of_very_many_words_keeps_the_first_of_them(store: GroupedStore) -> None:
    words = tuple(terms.of_orders(f"N{n}" for n in range(2 * terms.MOST)))
    one = await store.write(lambda tx: put(tx, Put(words=words)))
    assert await ids(store, "n0") == [one]
    assert await ids(store, f"n{2 * terms.MOST - 1}") == []


async def test_times_are_compared_as_they_are_stored(store: GroupedStore) -> None:
    await store.write(lambda tx: put(tx, Put()))
    stored = await store.read(lambda conn: conn.execute(sa.select(message.c.received_at)).scalar())
    assert stored == millis(NOW)
    assert await ids(store, "", Filters(since=NOW)) == [1]
    assert await ids(store, "", Filters(until=NOW)) == []
