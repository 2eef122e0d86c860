"""A server that is away: whoever looks hears of it in the store's own words, and tries again."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.errors import StoreError
from bridge.store import workers
from bridge.store.postgres import PostgresStore
from bridge.store.postgres_engine import SCHEME
from tests.ports import free_port


def test_a_read_while_the_server_is_away_is_a_store_error(tmp_path: Path) -> None:
    """Each loop of a service knows that one, and goes on; a word of the driver's own ended it (the whole process)."""
    address = sa.make_url(f"{SCHEME}://postgres@127.0.0.1:{free_port()}/nowhere")
    store = PostgresStore(address, tmp_path, SystemClock())
    with pytest.raises(StoreError):
        store.read_from_thread(workers.there)
