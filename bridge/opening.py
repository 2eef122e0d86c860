"""The store opened for a service: what an earlier run left, here or on another host, is settled first."""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import structlog

from bridge.clock import Clock
from bridge.dispatch.last_read import LastRead
from bridge.dispatch.policy import Reason
from bridge.errors import SettingsError
from bridge.settings import Settings
from bridge.store import inbox, marks, quarantine
from bridge.store.ballast import Ballast
from bridge.store.durable import make_folder, write_whole
from bridge.store.engines import AnyStore, store_for
from bridge.store.payloads import Payloads, payloads_for
from bridge.store.port import Transaction

log = structlog.get_logger()

KEEP_WAITING = (Reason.RATE_LIMITED,)
"""Reasons whose time a start does not cut short."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is on the disk: the database, recordings, and the files beside them."""

    store: AnyStore
    payloads: Payloads
    ballast: Ballast
    last_read: LastRead
    key: bytes


def site_key(settings: Settings) -> bytes:
    """The secret behind the keys in searching_tags; made on first start, beside the store.

    Hosts that share a store share it: there it has to be named. Raises SettingsError where it cannot be read or made.
    """
    if not settings.store.is_sqlite and not settings.site.key_file:
        raise SettingsError(
            "site.key_file: hosts that share a store share this secret. Make it once, by `openssl rand -hex 32`, and "
            "name it on each of them"
        )
    path = Path(settings.site.key_file) if settings.site.key_file else settings.store.beside("site.key")
    try:
        make_folder(path.parent)
        if not path.exists() and settings.store.is_sqlite:
            write_whole(path, secrets.token_hex(32).encode("ascii"))
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as cause:
        raise SettingsError(f"site.key_file: {path} cannot be used: {cause}") from cause
    if len(key) < 16:
        raise SettingsError(f"site.key_file: {path} holds no key; remove the empty file and start again")
    return key


def _require_own_key(tx: Transaction, key: bytes) -> None:
    """Raises SettingsError where the store's tasks were keyed by another secret: none of them would be known again."""
    own = hmac.new(key, b"which key this is", hashlib.sha256).hexdigest()[:16]
    known = marks.value_of(tx.conn, marks.SITE_KEY)
    if not known:
        marks.put(tx.conn, marks.SITE_KEY, own)
    elif known != own:
        raise SettingsError(
            "site.key_file: the store was written with another secret, and what was sent by it would not be known "
            "again. Put the right one in its place; it is on every other host, and beside each copy of the database"
        )


async def open_store(
    stack: contextlib.AsyncExitStack, settings: Settings, clock: Clock, roles: Collection[str]
) -> Kept:
    """Raises StoreRefused where it cannot be trusted to be ours and whole, SettingsError where a file is not there."""
    beside = settings.store.beside
    ballast = Ballast(beside(f"{settings.store.stem}.ballast"), settings.store.ballast)
    payloads = payloads_for(settings.store, ballast=ballast)
    store = store_for(settings.store, clock, roles=roles, keep_waiting=KEEP_WAITING)
    store.on_full = ballast.give
    store.open(asyncio.get_running_loop())
    stack.callback(store.close)
    last_read = LastRead(beside("last-read"))
    stack.callback(last_read.close)
    stack.callback(store.close)  # before it: what is entered last is noted as well
    alone = settings.store.is_sqlite
    if alone and await store.read(marks.is_empty):
        payloads.require_none(settings.store.sqlite_path)
    swept = payloads.open()
    key = site_key(settings)
    await store.write(lambda tx: _require_own_key(tx, key))
    held = await store.write(lambda tx: quarantine.hold(tx, at=clock.now()))
    found = await store.write(lambda tx: store.recover(tx, at=clock.now()))
    old = bool(store.quarantine)
    swept += await store.read(lambda conn: payloads.sweep(lambda name: inbox.refers_to(conn, name), keep=old))
    log.info("store.opened", swept=swept, **found)
    if old:
        log.critical("store.in_quarantine", reason=store.quarantine, held=held)
    await asyncio.to_thread(ballast.make, settings.store.min_free)
    return Kept(store, payloads, ballast, last_read, key)
