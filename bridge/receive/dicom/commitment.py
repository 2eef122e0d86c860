"""Storage commitment: a cart asks whether its recordings are safe here, and is told on an association of our own.

The request is on stable storage before it is answered. What is told is looked up when it is told, and every payload
is read to its last byte for it: the cart may erase its own copy on our word (PS3.4 J.3.3.1.2).
"""

import asyncio
import functools
import hashlib
import random
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta

import structlog

from bridge.clock import Clock
from bridge.errors import BadInput, PeerUnreachable, SettingsError, StoreError, StoreFull
from bridge.formats.dicom.commitment import (
    INVALID_ARGUMENT,
    RESOURCE_LIMITATION,
    Failure,
    Reference,
    Told,
    event_information,
    event_type,
    read_request,
)
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.receive.dicom.commitment_sender import Report, client_context, is_taken, send
from bridge.receive.dicom.session import Session
from bridge.settings import Settings
from bridge.store import commitments
from bridge.store.commitments import Asked, Due, KeptObject
from bridge.store.payloads import Payloads
from bridge.store.port import Notice, Store, T, Transaction, Work

log = structlog.get_logger()

_REQUEST_COMMITMENT = 1  # PS3.4 table J.3-1: the one action type
_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_ACTION, _NOT_AUTHORIZED = 0x0000, 0x0110, 0x0123, 0x0124

_LONGEST_WAIT = 900.0
_BLOCK = 1 << 20


class Commitment:
    """The SCP's inside. `action` is called from the associations' threads, `run` is the loop that tells."""

    def __init__(self, store: Store, payloads: Payloads, settings: Settings, clock: Clock) -> None:
        """Raises SettingsError where a peer's certificates cannot be used."""
        self._store = store
        self._rules = settings.dicom.commitment
        self._peers = settings.dicom.peers
        self._payloads = payloads
        self._clock = clock
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._random = random.Random()  # noqa: S311  jitter, not a secret
        self._wake = asyncio.Event()
        self._stopping = threading.Event()
        for peer in self._peers.values():
            if peer.tls is not None:
                client_context(peer.tls)
        store.subscribe(self._hear)

    def action(
        self, information: bytes, action_type_id: int, transfer_syntax_uid: str, session: Session
    ) -> tuple[int, str]:
        """The status of an N-ACTION and its Error Comment (PS3.7 §10.1.4): 0000 once the request is kept.

        Raises CommitUnknown: then nothing may be said (A3).
        """
        if action_type_id != _REQUEST_COMMITMENT:
            return _refused(_NO_SUCH_ACTION, "no such action type")
        if session.calling_ae not in self._peers:
            return _refused(_NOT_AUTHORIZED, "no address in dicom.peers for this calling AE title")
        try:
            request = read_request(information, transfer_syntax_uid, self._rules.max_instances)
        except BadInput as problem:
            return _refused(problem.code, f"{problem.where}: {problem}" if problem.where else str(problem))
        now = self._clock.now()

        def work(tx: Transaction) -> Asked:
            return commitments.ask(
                tx,
                transaction_uid=request.transaction_uid,
                requester=session.calling_ae,
                called=session.called_ae,
                peer=session.peer,
                instances=[(r.sop_class_uid, r.sop_instance_uid) for r in request.references],
                at=now,
                due_at=now + timedelta(seconds=self._rules.delay),
            )

        try:
            asked = self._store.write_from_thread(work)
        except StoreFull:
            return _refused(RESOURCE_LIMITATION, "no room in the store")
        except StoreError:
            return _refused(_PROCESSING_FAILURE, "it could not be kept")
        if asked is Asked.OTHER:
            return _refused(INVALID_ARGUMENT, "TransactionUID: in use for other instances")
        log.info("commitment.asked", known=asked is Asked.AGAIN, number=len(request.references))
        return _SUCCESS, ""

    async def run(self) -> None:
        """Tell what is due, until cancelled. One report at a time for each peer."""
        try:
            while True:
                self._wake.clear()
                try:
                    waiting = await self._store.read(commitments.earliest)
                except StoreError as problem:
                    log.error("commitment.not_read", error=type(problem).__name__)
                    await self._clock.sleep(1.0)
                    continue
                now = self._clock.now().timestamp() * 1000
                far = now + commitments.FAR * 1000
                for requester, (first, last) in waiting.items():
                    if (first <= now or last > far) and requester not in self._busy:
                        task = asyncio.create_task(self._serve(requester), name="commitment")
                        self._busy[requester] = task
                        task.add_done_callback(functools.partial(self._served, requester))
                later = [first for requester, (first, _) in waiting.items() if requester not in self._busy]
                seconds = max((min(later) - now) / 1000, 0.01) if later else 30.0
                await self._clock.wait(self._wake, min(seconds, 30.0))
        finally:
            self._stopping.set()
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    def _hear(self, notices: Sequence[Notice]) -> None:
        if any(notice.topic == "commitment" for notice in notices):
            self._wake.set()

    def _served(self, requester: str, task: asyncio.Task[None]) -> None:
        self._busy.pop(requester, None)
        if task.cancelled():
            return
        if task.exception() is None:
            self._wake.set()
        else:  # the store does not take it: looked at again in a while
            log.error("commitment.failed", error=type(task.exception()).__name__)

    async def _serve(self, requester: str) -> None:
        """Everything that is due at one peer."""
        while (due := await self._next(requester)) is not None:
            try:
                going_on = await self._tell(due)
            except Exception as problem:  # noqa: BLE001  edge of the loop: it becomes a stored failure
                log.error("commitment.not_told", error=type(problem).__name__)
                going_on = await self._refused_by_peer(due, type(problem).__name__)
            if not going_on:
                return

    async def _next(self, requester: str) -> Due | None:
        return await self._store.read(lambda conn: commitments.next_due(conn, requester, at=self._clock.now()))

    async def _tell(self, due: Due) -> bool:
        """One report. False: its peer cannot be reached now."""
        peer = self._peers.get(due.requester)
        if peer is None:
            return await self._unreached(due, "no_address")
        told = await self._outcome(due)
        report = Report(
            calling=due.called,
            called=due.requester,
            event_type_id=event_type(told),
            information=functools.partial(event_information, due.transaction_uid, told),
        )
        try:
            status = await send(report, peer, self._rules.timeout)
        except (PeerUnreachable, SettingsError) as problem:
            return await self._unreached(due, str(problem))
        if not is_taken(status):
            return await self._refused_by_peer(due, f"{status:04X}")
        said = [int(t.failure or 0) for t in told]
        now = self._clock.now()
        await self._insist(
            lambda tx: commitments.settle(tx, due, commitments.SENT, at=now, reason=f"{status:04X}", told=said)
        )
        failed = sum(1 for t in told if t.failure is not None)
        log.info("commitment.told", commitment=due.id, number=len(told) - failed, failed=failed)
        return True

    async def _outcome(self, due: Due) -> tuple[Told, ...]:
        """What is true of each instance now."""
        uids = [sop_instance_uid for _, sop_instance_uid in due.instances]
        found = await self._store.read(lambda conn: commitments.kept_objects(conn, uids))
        references = [Reference(*pair) for pair in due.instances]
        return await asyncio.to_thread(lambda: tuple(Told(r, self._failure(r, found)) for r in references))

    def _failure(self, reference: Reference, found: Mapping[str, tuple[KeptObject, ...]]) -> Failure | None:
        """None where every copy that we took under this UID and class is there, byte for byte; F29 may leave two."""
        objects = found[reference.sop_instance_uid]
        if not objects:
            known = reference.sop_class_uid in ECG_SOP_CLASSES
            return Failure.NO_SUCH_INSTANCE if known else Failure.CLASS_NOT_SUPPORTED
        of_class = [o for o in objects if o.type == ECG_SOP_CLASSES.get(reference.sop_class_uid)]
        if not of_class:
            return Failure.CLASS_CONFLICT
        return None if all(self._is_whole(o) for o in of_class) else Failure.PROCESSING

    def _is_whole(self, kept: KeptObject) -> bool:
        digest = hashlib.sha256()
        try:
            with self._payloads.at_hand(kept.payload) as path, path.open("rb") as file:
                while not self._stopping.is_set() and (block := file.read(_BLOCK)):
                    digest.update(block)
        except OSError as problem:
            log.error("commitment.payload_unreadable", message=kept.message_id, error=type(problem).__name__)
            return False
        if digest.hexdigest() == kept.digest:
            return True
        if self._stopping.is_set():
            return False  # not read to its end, and nobody is told
        log.error("commitment.payload_damaged", message=kept.message_id)
        return False

    async def _unreached(self, due: Due, reason: str) -> bool:
        """Nothing was said of this report: later, all of this peer's; held where that has gone on for long enough."""
        age = (self._clock.now() - due.requested_at).total_seconds()
        if age >= self._rules.give_up_after:
            return await self._hold(due, reason)
        log.warning("commitment.waits", commitment=due.id, reason=reason)
        await self._later(due, reason=reason, refused=False)
        return False

    async def _refused_by_peer(self, due: Due, reason: str) -> bool:
        if due.refusals + 1 >= self._rules.refusals:
            return await self._hold(due, reason)
        log.warning("commitment.waits", commitment=due.id, reason=reason)
        await self._later(due, reason=reason, refused=True)
        return True

    async def _hold(self, due: Due, reason: str) -> bool:
        log.warning("commitment.held", commitment=due.id, reason=reason)
        now = self._clock.now()
        await self._insist(lambda tx: commitments.settle(tx, due, commitments.HELD, at=now, reason=reason))
        return True

    async def _later(self, due: Due, *, reason: str, refused: bool) -> None:
        seconds = min(2.0 ** min(due.attempts, 10), _LONGEST_WAIT) * (0.5 + self._random.random() / 2)
        now = self._clock.now()
        await self._insist(
            lambda tx: commitments.put_back(tx, due, reason=reason, refused=refused, seconds=seconds, at=now)
        )

    async def _insist(self, write: Work[T]) -> T:
        """Write until it is kept: what a peer said stands nowhere else."""
        while True:
            try:
                return await self._store.write(write)
            except StoreError as problem:
                log.error("commitment.not_settled", error=type(problem).__name__)
                await self._clock.sleep(1.0)


def _refused(status: int, comment: str) -> tuple[int, str]:
    """At most 64 characters, no patient value (PS3.7 annex C)."""
    log.warning("commitment.refused", state=f"{status:04X}", reason=comment[:64])
    return status, comment[:64]
