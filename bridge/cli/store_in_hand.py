"""The store in a command's own hands, where no service of this host runs."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bridge import logs
from bridge.clock import Clock
from bridge.settings import Settings
from bridge.store.engines import AnyStore, store_for
from bridge.store.sqlite import require_there


@contextlib.contextmanager
def store_in_hand(settings: Settings, clock: Clock) -> Iterator[AnyStore]:
    """Taken, and let go again; within a running loop. Raises StoreRefused where there is none, or a service has it.

    On PostgreSQL services of other hosts may be at work: this process is one more beside them, in a folder of its own.
    """
    if settings.store.is_sqlite:
        require_there(settings.store.sqlite_path)
    logs.configure("warning")  # standard output is the command's own
    with tempfile.TemporaryDirectory(prefix="bridge-") as folder:
        store = store_for(settings.store, clock, folder=Path(folder))
        store.open(asyncio.get_running_loop())
        try:
            yield store
        finally:
            store.close()
