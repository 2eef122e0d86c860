"""A prune from the command line: asked of the running service, else done with the store in hand."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bridge import logs
from bridge.cli.acting_from_here import connected, said_by
from bridge.clock import SystemClock
from bridge.console.api.pruning import PATH
from bridge.console.owner import user_name
from bridge.dispatch.acts.pruning import SLICE, Pruned, Pruning
from bridge.errors import StoreRefused
from bridge.settings import Settings
from bridge.store.engines import store_for
from bridge.store.payloads import payloads_for

Tell = Callable[[Pruned, dict[str, str]], None]
"""Hears what went so far, and up to when what goes, after each slice."""


def pruned(settings: Settings, *, dry: bool, tell: Tell) -> None:
    """Until there is nothing more that can go. Raises ActionRefused, StoreError, StoreRefused or SettingsError."""
    connection = connected(settings)
    if connection is None:
        asyncio.run(_alone(settings, dry=dry, tell=tell))
        return
    total = Pruned(0)
    try:
        while total.after is not None:
            told = said_by(connection, PATH, {"after": total.after, "dry": dry}, look_with="bridge messages audit")
            edges = told.pop("upto")
            total += Pruned(**told)
            tell(total, edges)
    finally:
        connection.close()


async def _alone(settings: Settings, *, dry: bool, tell: Tell) -> None:
    """No service of this host is running: this process takes the store, and lets it go again.

    On PostgreSQL services of other hosts may be at work: it is one more beside them, with a folder of its own.
    """
    alone = settings.store.is_sqlite
    if alone and not settings.store.sqlite_path.exists():
        path = settings.store.sqlite_path
        raise StoreRefused(f"store.url: there is no store at {path} yet; `bridge run` makes it on its first start")
    logs.configure("warning")  # standard output is the command's own
    clock, me = SystemClock(), user_name(os.getuid())
    with tempfile.TemporaryDirectory(prefix="bridge-prune-") as folder:
        store = store_for(settings.store, clock, folder=None if alone else Path(folder))
        store.open(asyncio.get_running_loop())
        try:
            pruning = Pruning(
                store, payloads_for(settings.store), settings.retention, clock, **({"pause": 0.0} if alone else {})
            )
            total = Pruned(0)
            while total.after is not None:
                after = total.after
                some = pruning.would(after, seconds=SLICE) if dry else pruning.some(after, by=me, seconds=SLICE)
                total += await some
                tell(total, pruning.edges())
        finally:
            store.close()
