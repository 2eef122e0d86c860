"""The DICOM listener: its own accept loop, and a bounded pool of threads, one an association.

pynetdicom's server must not face a network: one silent peer stops its TLS listener, a forged length takes 600 MiB,
idle sockets eat its associations (dicom_ecg.md §2). Nothing of it is overridden here: its codecs are called.
"""

import contextlib
import ipaddress
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from bridge.receive.certificates import Certificates
from bridge.receive.dicom.association import Association, Peer
from bridge.receive.dicom.negotiation import Negotiator
from bridge.receive.dicom.operations import Services
from bridge.receive.dicom.places import OUTSIDE, Places
from bridge.receive.dicom.wire import Wire
from bridge.receive.gate import peer_of, prepare
from bridge.serving import open_socket
from bridge.settings import DicomSettings, host_port

log = structlog.get_logger()

_PAUSE = 0.05
_SPARE = 16
"""Threads beside those that the places allow: for connections that are being let go."""


class DicomAcceptor:
    """One listener. `start` returns when it listens, `stop` when nothing of it runs any more."""

    def __init__(
        self, services: Services, settings: DicomSettings, on_fatal: Callable[[], object] = lambda: None
    ) -> None:
        """`on_fatal` is called where nobody will be let in any more, and nobody asked for that."""
        self._services = services
        self._on_fatal = on_fatal
        self._settings = settings
        self._negotiator = Negotiator(settings, services.offers())
        self._places = Places(settings)
        self._certificates = Certificates(settings.tls, "dicom.tls") if settings.tls else None
        self._stopping = threading.Event()
        self._wires: set[Wire] = set()
        self._lock = threading.Lock()
        self._listening: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._wake = (-1, -1)

    @property
    def associations(self) -> int:
        """Associations at the moment."""
        return self._places.associations

    @property
    def busy(self) -> bool:
        """Whether any connection is there."""
        return bool(self._wires)

    def start(self) -> str:
        """Listen. Returns the address taken; raises CannotListen that names the setting."""
        self._listening = open_socket(*host_port(self._settings.listen), setting="dicom.listen")
        self._wake = os.pipe()
        most = self._settings.max_associations + OUTSIDE + _SPARE
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="association")
        self._thread = threading.Thread(
            target=self._accept, args=(self._listening, self._pool), name="dicom-accept", daemon=True
        )
        self._thread.start()
        host, port = self._listening.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop(self, seconds: float = 5.0) -> None:
        """Take nothing more. An object that is coming in may come to its end; then each peer is asked to release."""
        if self._thread is None or self._pool is None or self._listening is None:
            return
        self._stopping.set()
        os.write(self._wake[1], b"x")  # nobody reads it: every waiting thread sees it
        self._thread.join()
        self._listening.close()
        by = time.monotonic() + seconds
        while self._wires and time.monotonic() < by:
            time.sleep(_PAUSE)
        with self._lock:
            late = list(self._wires)
        for wire in late:
            wire.shut()
        by = time.monotonic() + seconds
        while self._wires and time.monotonic() < by:
            time.sleep(_PAUSE)
        stuck = bool(self._wires)
        self._pool.shutdown(wait=not stuck, cancel_futures=True)
        if stuck:  # a disk that does not answer holds up the rest of the stop no longer
            log.critical("association.stuck", number=len(self._wires))
        else:
            for number in self._wake:
                os.close(number)
        self._thread = None

    def _accept(self, listening: socket.socket, pool: ThreadPoolExecutor) -> None:
        try:
            self._let_in_all(listening, pool)
        finally:
            if not self._stopping.is_set():
                log.critical("listener.failed", listener="dicom")
                self._on_fatal()

    def _let_in_all(self, listening: socket.socket, pool: ThreadPoolExecutor) -> None:
        poll = select.poll()
        poll.register(listening, select.POLLIN)
        poll.register(self._wake[0], select.POLLIN)
        failing = False
        while not self._stopping.is_set():
            poll.poll()
            try:
                sock, address = listening.accept()
            except BlockingIOError:
                continue
            except OSError as problem:  # no file handles left, or a peer that was gone before it was let in
                if not failing:
                    log.warning("connection.not_accepted", listener="dicom", error=type(problem).__name__)
                failing = True
                time.sleep(_PAUSE)
                continue
            failing = False
            self._let_in(sock, address, pool)

    def _let_in(self, sock: socket.socket, address: Any, pool: ThreadPoolExecutor) -> None:
        try:
            prepare(sock)
            peer = peer_of(address)
        except (OSError, ValueError):  # gone already
            sock.close()
            return
        wire = Wire(sock, self._wake[0])
        ticket = self._places.wait_outside(peer, wire.shut)
        with self._lock:
            self._wires.add(wire)
        try:
            pool.submit(self._serve, wire, Peer(peer, ticket, self._is_allowed(peer)))
        except RuntimeError as problem:  # no more threads here; it may be served later by one that is there
            log.error("connection.waits", listener="dicom", error=type(problem).__name__)

    def _serve(self, wire: Wire, peer: Peer) -> None:
        try:
            association = Association(
                wire, peer, self._negotiator, self._services, self._places, self._settings, self._stopping
            )
            association.run(self._certificates.context() if self._certificates else None)
        finally:
            with self._lock, contextlib.suppress(KeyError):
                self._wires.remove(wire)

    def _is_allowed(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer)
        return not self._settings.allow or any(address in network for network in self._settings.allow)
