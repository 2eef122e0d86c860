"""Values that engines take in different ways: NUL, every character, single halves of them, large and long ones."""

import random
import string
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from bridge.domain.patient import Identifier, PatientUpdate
from bridge.domain.states import State
from bridge.errors import StoreError, StoreUnfit
from bridge.store import inbox, listing, patients, search, tasks, terms
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from bridge.store.schema import message
from bridge.store.search import Filters
from tests.contract.test_store_contract import NOW, arrival

EVERY = "".join(chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
LARGEST = 2**63 - 1


async def test_every_byte_and_every_character_come_back(store: GroupedStore) -> None:
    one = replace(arrival("a"), raw=bytes(range(256)) * 3, peer=EVERY, control_id="%s %(x)s 100% \\ ' \" ;--")
    kept = await store.write(lambda tx: inbox.keep(tx, replace(one, notes=(EVERY[:70_000],))))
    row = await store.read(lambda conn: conn.execute(sa.select(message)).one())
    assert bytes(row.raw) == one.raw
    assert row.peer == EVERY
    assert row.control_id == one.control_id
    shown = await store.read(lambda conn: listing.whole(conn, kept.id))
    assert shown is not None


async def test_a_nul_in_a_value_stops_nothing(store: GroupedStore) -> None:
    """A message may have one anywhere. PostgreSQL's text knows none: U+FFFD stands for it, and is found."""
    one = replace(arrival("a\0b"), sender="HIS\0|TEST", control_id="C\0001")
    who = Identifier("47\00011", "TEST")

    def work(tx: Transaction) -> inbox.Kept:
        kept = inbox.keep(tx, one)
        patients.update_patient(tx, PatientUpdate(who, {"last_name": "Mus\0ter"}), kept.id, site_authority="")
        return kept

    kept = await store.write(work)
    again = await store.write(work)
    assert (again.id, again.known) == (kept.id, True), "a resend finds its own row"
    found = await store.read(lambda conn: patients.find_patient(conn, who, site_authority=""))
    assert found is not None
    assert found.last_name in {"Mus\0ter", "Mus\N{REPLACEMENT CHARACTER}ter"}
    assert await store.read(lambda conn: inbox.is_known(conn, "a\0b"))
    page = await store.read(lambda conn: search.find(conn, "C\0001", Filters()))
    assert [row.id for row in page.rows] == [str(kept.id)]


@pytest.mark.parametrize("value", ["half \ud83d", "\udcff"])
async def test_half_a_character_is_refused_and_its_neighbours_are_kept(store: GroupedStore, value: str) -> None:
    """No reader of ours makes one: whoever does is told so, and nothing of his work is there."""
    with pytest.raises((StoreError, UnicodeEncodeError)):
        await store.write(lambda tx: inbox.keep(tx, replace(arrival("a"), sender=value)))
    kept = await store.write(lambda tx: inbox.keep(tx, arrival("b")))
    assert [row.id for row in await store.read(listing.rows)] == [str(kept.id)]


async def test_ids_and_sizes_up_to_the_largest(store: GroupedStore) -> None:
    kept = await store.write(lambda tx: inbox.keep(tx, replace(arrival("a"), size=LARGEST)))

    def work(tx: Transaction) -> None:
        row = tasks.intend(
            tx, message_id=kept.id, position=1, order_id=None, purpose="draft", key="br1-k", generation=1, body=b"{}",
            traces=(), at=NOW,
        )  # fmt: skip
        tasks.settle(tx, row, State.CREATED, at=NOW, task_ids=(LARGEST, 2**64 - 1))

    await store.write(work)
    assert await store.read(lambda conn: conn.execute(sa.select(message.c.size)).scalar()) == LARGEST
    for number in (LARGEST, 2**64 - 1):
        assert await store.read(lambda conn, n=number: search.named(conn, str(n))) == (kept.id, "task")  # type: ignore[misc]


@pytest.mark.parametrize("typed", [str(LARGEST), str(LARGEST + 1), str(10**30), "0", "²", "٣", "1e5", "1.5"])
async def test_whatever_is_typed_for_an_id_is_looked_for_and_not_refused(store: GroupedStore, typed: str) -> None:
    await store.write(lambda tx: inbox.keep(tx, arrival("a")))
    for look in (
        lambda conn: search.named(conn, typed),
        lambda conn: list(search.find(conn, typed, Filters()).rows),
        lambda conn: listing.rows(conn, task_id=typed),
        lambda conn: listing.rows(conn, order=typed),
    ):
        assert not await store.read(look)


@pytest.mark.parametrize("typed", ["100%", "a_b", "%", "_", "\\", "'", '"', "%%s", "%(x)s", "MÜLLER"])
async def test_what_stands_for_others_in_a_pattern_stands_for_itself(store: GroupedStore, typed: str) -> None:
    """And case and accents are the same on both engines."""

    def put(tx: Transaction, number: int, name: str) -> int:
        kept = inbox.keep(tx, arrival(f"n{number}"))
        terms.note(tx, kept.id, tuple(terms.of_patient([], [name])))
        return kept.id

    named = await store.write(lambda tx: put(tx, 1, typed))
    await store.write(lambda tx: put(tx, 2, "axb"))
    for text in (typed, typed.lower()):
        page = await store.read(lambda conn, t=text: search.find(conn, t, Filters()))  # type: ignore[misc]
        assert [row.id for row in page.rows] == [str(named)] * bool(terms.of_patient([], [typed]))


async def test_words_are_in_one_order_on_every_engine(store: GroupedStore) -> None:
    """By their code points. A database's own collation would skip signs, and a walk along the words with them."""
    words = ["a", "a b", "a-b", "ab", "ä", "b", "\N{LATIN SMALL LETTER SHARP S}", "z", "\U00010400", "\ufffd"]

    def put(tx: Transaction) -> None:
        kept = inbox.keep(tx, arrival("a"))
        terms.note(tx, kept.id, [(terms.Kind.NAME, word) for word in words])

    await store.write(put)
    asked = sa.text("SELECT value FROM term ORDER BY value")
    found = await store.read(lambda conn: list(conn.execute(asked).scalars()))
    assert [word for word in found if word in words] == sorted(words)


@pytest.mark.parametrize("work", ["an identity", "a number", "a word"])
async def test_f28_what_postgresql_cannot_keep_is_told_apart_from_what_it_cannot_keep_now(
    postgres_store: PostgresStore, work: str
) -> None:
    """Else it is tried again for ever, and whatever comes after it waits."""
    long = "".join(random.Random(1).choices(string.ascii_letters, k=9000))
    works: dict[str, Callable[[Transaction], object]] = {
        "an identity": lambda tx: inbox.keep(tx, arrival(long)),
        "a number": lambda tx: inbox.keep(tx, replace(arrival("a"), size=LARGEST + 1)),
        "a word": lambda tx: terms.note(tx, inbox.keep(tx, arrival("b")).id, [(terms.Kind.NAME, long)]),
    }
    with pytest.raises(StoreUnfit):
        await postgres_store.write(works[work])
    assert await postgres_store.read(listing.rows) == []
    await postgres_store.write(lambda tx: inbox.keep(tx, arrival("c")))


async def test_a_time_before_1970_and_one_far_away(store: GroupedStore) -> None:
    for number, at in enumerate((datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))):
        kept = await store.write(lambda tx, n=number, a=at: inbox.keep(tx, replace(arrival(f"n{n}"), received_at=a)))  # type: ignore[misc]
        shown = await store.read(lambda conn, k=kept: listing.whole(conn, k.id))  # type: ignore[misc]
        assert shown is not None
        assert str(at.year) in shown["received_at"]
