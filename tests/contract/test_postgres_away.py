"""A server that is away: whoever looks hears of it in the store's own words, and tries again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.errors import StoreError
from bridge.store import workers
from bridge.store.port import Transaction
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import READERS, SCHEME
from tests.ports import free_port


def test_a_read_while_the_server_is_away_is_a_store_error(tmp_path: Path) -> None:
    """Each loop of a service knows that one, and goes on; a word of the driver's own ended it (the whole process)."""
    address = sa.make_url(f"{SCHEME}://postgres@127.0.0.1:{free_port()}/nowhere")
    store = PostgresStore(address, tmp_path, SystemClock())
    with pytest.raises(StoreError):
        store.read_from_thread(workers.there)


@pytest.mark.peer
@pytest.mark.parametrize("many", [1, 3])
async def test_a_session_that_ends_in_the_midst_of_a_work_is_a_store_error(
    postgres_store: PostgresStore, many: int
) -> None:
    """The library throws such a connection away by itself, and has an error of its own for whoever asks it further."""

    def cut(tx: Transaction) -> None:
        tx.conn.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    works = [postgres_store.submit(cut) for _ in range(many)]
    for ended in await asyncio.gather(*works, return_exceptions=True):
        assert isinstance(ended, StoreError)
    assert await postgres_store.write(lambda tx: tx.conn.scalar(sa.text("SELECT 1"))) == 1


@pytest.mark.peer
async def test_a_read_that_finds_every_connection_in_use_is_a_store_error(
    postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool: Any = postgres_store._readers.pool
    monkeypatch.setattr(pool, "_timeout", 0.05)  # half a minute, else
    in_use = [postgres_store._readers.connect() for _ in range(2 * READERS)]
    with pytest.raises(StoreError):
        await postgres_store.read(workers.there)
    for one in in_use:
        one.close()
    assert len(await postgres_store.read(workers.there)) == 1
