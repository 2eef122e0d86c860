"""A prune from the command line: asked of the running service, else done with the store in hand."""

import asyncio
import os
from collections.abc import Callable

from bridge.cli.acting_from_here import connected, said_by
from bridge.cli.store_in_hand import store_in_hand
from bridge.clock import SystemClock
from bridge.console.api.pruning import PATH
from bridge.console.owner import user_name
from bridge.dispatch.acts.pruning import PAUSE, SLICE, Pruned, Pruning
from bridge.settings import Settings
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
    clock, me = SystemClock(), user_name(os.getuid())
    with store_in_hand(settings, clock) as store:
        pause = 0.0 if store.alone else PAUSE
        pruning = Pruning(store, payloads_for(settings.store), settings.retention, clock, pause=pause)
        total = Pruned(0)
        while total.after is not None:
            after = total.after
            some = pruning.would(after, seconds=SLICE) if dry else pruning.some(after, by=me, seconds=SLICE)
            total += await some
            tell(total, pruning.edges())
