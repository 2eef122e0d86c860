"""The DICOM listener with its intake on a store of its own, and nothing behind it."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.clock import SystemClock
from bridge.receive.dicom.acceptor import DicomAcceptor
from bridge.receive.dicom.intake import DicomIntake
from bridge.receive.dicom.operations import Services
from bridge.settings import DicomSettings, host_port
from bridge.store import listing
from bridge.store.payloads import Payloads
from bridge.store.sqlite import SqliteStore


@dataclass
class Door:
    """A listener that is up."""

    acceptor: DicomAcceptor
    address: tuple[str, int]
    store: SqliteStore
    payloads: Payloads

    def rows(self) -> list[listing.Row]:
        """What was kept, oldest first."""
        return list(reversed(self.store.read_from_thread(lambda conn: listing.rows(conn, limit=10_000))))

    def spooled(self) -> list[Path]:
        """Files of passing use."""
        return list(self.payloads.spool.iterdir())

    def kept(self) -> list[Path]:
        """Objects in the payload store."""
        return list(self.payloads.root.glob("??/*.dcm"))


@contextlib.contextmanager
def door(
    folder: Path, *, min_free: int = 1, worklist: Any = None, commitment: Any = None, **settings: Any
) -> Iterator[Door]:
    """A listener on a free port with these settings of `[dicom]`."""
    chosen = DicomSettings(listen="127.0.0.1:0", **settings)
    loop = asyncio.new_event_loop()
    store = SqliteStore(folder / "bridge.db")
    store.open(loop)
    payloads = Payloads(folder / "payloads", min_free=min_free)
    payloads.open()
    services = Services(chosen, DicomIntake(store, payloads, SystemClock(), chosen), worklist, commitment)
    acceptor = DicomAcceptor(services, chosen)
    try:
        yield Door(acceptor, host_port(acceptor.start()), store, payloads)
    finally:
        acceptor.stop()
        store.close()
        loop.close()
