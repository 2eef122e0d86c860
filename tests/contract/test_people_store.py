"""Persons and sessions in the store."""

from datetime import UTC, datetime, timedelta

import pytest

from bridge.errors import ActionRefused
from bridge.store import people
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_a_name_and_a_subject_are_one_persons(store: GroupedStore) -> None:
    made = await store.write(lambda tx: people.make(tx, "anna", "admin", at=AT, password="hash"))
    with pytest.raises(ActionRefused, match="anna already"):
        await store.write(lambda tx: people.make(tx, "anna", "viewer", at=AT))
    other = await store.write(lambda tx: people.make(tx, "anna (idp)", "viewer", at=AT, subject="idp 1"))
    found = await store.read(lambda conn: people.by_name(conn, "anna"))
    assert found == people.Person(made, "anna", "admin", "hash", None, AT, False, 0, datetime.fromtimestamp(0, UTC))
    named = await store.read(lambda conn: people.by_subject(conn, "idp 1"))
    assert named is not None
    assert (named.id, named.is_local) == (other, False)
    assert [p.name for p in await store.read(people.everybody)] == ["anna", "anna (idp)"]
    with pytest.raises(ActionRefused, match="no such person"):
        await store.read(lambda conn: people.by_id(conn, 4711))


async def test_somebody_stays_admin(store: GroupedStore) -> None:
    first = await store.write(lambda tx: people.make(tx, "anna", "admin", at=AT))
    second = await store.write(lambda tx: people.make(tx, "berta", "admin", at=AT))

    def keep_out(tx: Transaction, who: int) -> None:
        people.set_disabled(tx, people.by_id(tx.conn, who), disabled=True)

    await store.write(lambda tx: keep_out(tx, first))
    with pytest.raises(ActionRefused, match="berta is the last admin"):
        await store.write(lambda tx: keep_out(tx, second))
    with pytest.raises(ActionRefused, match="berta is the last admin"):
        await store.write(lambda tx: people.set_role(tx, people.by_id(tx.conn, second), "viewer"))
    await store.write(lambda tx: keep_out(tx, first))  # who is out already counts not
    assert await store.read(people.has_admin)


async def test_both_admins_at_once_do_not_put_each_other_out(store: GroupedStore) -> None:
    """Whoever comes second is refused: what decides is looked at in the transaction that does it."""
    one = await store.write(lambda tx: people.make(tx, "anna", "admin", at=AT))
    two = await store.write(lambda tx: people.make(tx, "berta", "admin", at=AT))
    done = [
        store.submit(lambda tx, who=who: people.set_disabled(tx, people.by_id(tx.conn, who), disabled=True))  # type: ignore[misc]
        for who in (one, two)
    ]
    await done[0]
    with pytest.raises(ActionRefused):
        await done[1]


async def test_a_session_lets_in_until_it_ends_or_its_person_is_out(store: GroupedStore) -> None:
    anna = await store.write(lambda tx: people.make(tx, "anna", "admin", at=AT))
    await store.write(lambda tx: people.make(tx, "berta", "admin", at=AT))
    first = await store.write(lambda tx: people.begin(tx, anna, "hash-1", at=AT))
    second = await store.write(lambda tx: people.begin(tx, anna, "hash-2", at=AT, kind=people.TOKEN, label="nightly"))
    found = await store.read(lambda conn: people.session_of(conn, "hash-2"))
    assert found == people.Session(second, "token", "nightly", AT, AT, anna, "anna", "admin")
    assert await store.write(lambda tx: people.end(tx, first, at=AT))
    assert not await store.write(lambda tx: people.end(tx, first, at=AT))
    assert await store.read(lambda conn: people.session_of(conn, "hash-1")) is None
    assert [s.id for s in await store.read(lambda conn: people.sessions_of(conn, anna))] == [second]
    await store.write(lambda tx: people.set_disabled(tx, people.by_id(tx.conn, anna), disabled=True))
    assert await store.read(lambda conn: people.session_of(conn, "hash-2")) is None
    assert await store.read(people.tokens) == []
    await store.write(lambda tx: people.set_disabled(tx, people.by_id(tx.conn, anna), disabled=False))
    assert await store.write(lambda tx: people.end_all(tx, anna, at=AT)) == 1
    assert await store.read(lambda conn: people.session_by_id(conn, second)) is None


async def test_old_sessions_of_browsers_go_and_tokens_stay(store: GroupedStore) -> None:
    anna = await store.write(lambda tx: people.make(tx, "anna", "admin", at=AT))
    await store.write(lambda tx: people.begin(tx, anna, "browser", at=AT))
    await store.write(lambda tx: people.begin(tx, anna, "script", at=AT, kind=people.TOKEN))
    later = AT + people.KEPT + timedelta(seconds=1)
    await store.write(lambda tx: people.begin(tx, anna, "today", at=later))
    assert await store.read(lambda conn: people.session_of(conn, "browser")) is None
    assert await store.read(lambda conn: people.session_of(conn, "script")) is not None
