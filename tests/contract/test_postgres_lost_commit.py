"""A COMMIT whose answer was lost: how it ended is looked up, and nothing is assumed (A3, F6)."""

import asyncio
from collections.abc import Iterator
from typing import Any, NoReturn

import psycopg
import pytest
import sqlalchemy as sa

from bridge.errors import CommitUnknown, StoreError
from bridge.store import inbox, postgres, postgres_turn
from bridge.store.postgres import PostgresStore
from bridge.store.schema import event, message
from tests.contract.conftest import Join
from tests.contract.heard import Ears
from tests.contract.postgres_proxy import Cut, Wire
from tests.contract.test_store_contract import arrival

SHORT = 1000
"""Milliseconds after which the server ends a session that is idle inside a transaction, while one is cut off."""


@pytest.fixture
def wire(emptied: sa.URL) -> Iterator[Wire]:
    made = Wire(emptied)
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits for nobody long."""
    monkeypatch.setattr(
        postgres_turn, "BEGIN", postgres_turn.BEGIN.replace(f"{round(postgres_turn.IDLE * 1000)}", f"{SHORT}")
    )


async def identities(store: Any) -> list[str]:
    query = sa.select(message.c.identity).order_by(message.c.id)
    return list(await store.read(lambda conn: conn.execute(query).scalars().all()))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("how", "took"),
    [
        (Cut.BEFORE, False),
        (Cut.AFTER, True),
        (Cut.LATE, True),
        (Cut.NEVER, False),
        (Cut.FAREWELL, True),
        (Cut.NOWHERE, True),
    ],
)
async def test_a3_what_became_of_a_commit_that_nobody_answered_is_looked_up(
    join: Join, wire: Wire, monkeypatch: pytest.MonkeyPatch, how: Cut, took: bool
) -> None:
    """Works that took are told so; those that did not raise StoreError, and each is there once when it comes again."""
    store = join(wire.url)
    ears = Ears(store)
    kept = [await store.write(lambda tx: inbox.keep(tx, arrival("before")))]
    wire.cut(how)
    with store._jobs._there:  # in one commit
        works = [store.submit(lambda tx, n=n: inbox.keep(tx, arrival(f"n{n}"))) for n in range(5)]  # type: ignore[misc]
    found = await asyncio.wait_for(asyncio.gather(*works, return_exceptions=True), 60)
    assert wire.struck.is_set()
    monkeypatch.undo()  # from here on a machine may stand still for a moment
    assert [type(one) for one in found] == [inbox.Kept if took else StoreError] * 5
    assert await identities(store) == ["before", *(f"n{n}" for n in range(5 * took))]
    for number in range(5):
        again = await store.write(lambda tx, n=number: inbox.keep(tx, arrival(f"n{n}")))  # type: ignore[misc]
        assert again.known is took
        kept.append(again)
    await ears.until(lambda: len(ears.of("received")) >= 6)
    assert sorted(ears.of("received")) == [one.id for one in kept]
    assert await store.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(event)).scalar()) == 6


@pytest.mark.usefixtures("impatient")
async def test_a3_of_a_commit_that_cannot_be_looked_up_nothing_is_said(
    join: Join, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is gone, and the service is to end: whoever waits hears that it is not known, and no more."""
    monkeypatch.setattr(postgres, "GIVE_UP", 0.1)

    def away(*_: object) -> NoReturn:
        raise psycopg.OperationalError("the server is gone")

    monkeypatch.setattr(PostgresStore, "_looked_up", away)
    store = join(wire.url)
    told: list[bool] = []
    store.on_fatal = lambda: told.append(True)
    wire.cut(Cut.AFTER)
    waiting = asyncio.ensure_future(store.write(lambda tx: inbox.keep(tx, arrival("a"))))
    await asyncio.to_thread(wire.struck.wait, 60)
    wire.close()
    found, _ = await asyncio.gather(waiting, asyncio.to_thread(store.close), return_exceptions=True)
    assert type(found) is CommitUnknown
    assert told == [True]
