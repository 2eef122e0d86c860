"""Whoever waits for this process's turn to write goes along in one transaction."""

import asyncio
import time

import pytest
import sqlalchemy as sa

from bridge.store import workers
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_turn import LOCK

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def _until_somebody_waits(look: sa.Connection) -> None:
    while not look.execute(sa.text(WAITING)).scalar():
        time.sleep(0.01)


@pytest.mark.peer
async def test_what_comes_while_another_process_writes_is_one_transaction(
    postgres_store: PostgresStore, shared_database: sa.Engine
) -> None:
    """Else each of many processes makes its own small ones, and more processes bring less."""

    async def commits() -> int:
        return (await postgres_store.read(workers.there))[0].commits

    def nothing(_: Transaction) -> None: ...

    before = await commits()
    with shared_database.connect() as other, shared_database.connect() as look:
        other.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        works = [asyncio.ensure_future(postgres_store.write(nothing))]
        await asyncio.to_thread(_until_somebody_waits, look)
        works += [asyncio.ensure_future(postgres_store.write(nothing)) for _ in range(5)]
        await asyncio.sleep(0)  # each has asked
        other.rollback()
    await asyncio.gather(*works)
    assert await commits() == before + 1
