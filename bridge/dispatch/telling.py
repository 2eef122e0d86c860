"""Messages of our own on their way to a return address: at least once, in order for each patient (F44).

One in flight a receiver, the same MSH-10 and the same bytes at every attempt. MSA-2 must name it, else the connection
is closed and it goes out again. After some refusals it is held for a person, and what is behind it goes on.
"""

import asyncio
import functools
import random

import structlog

from bridge.clock import Clock
from bridge.dispatch.mllp_peer import MllpPeer
from bridge.errors import BadInput, PeerUnreachable, SettingsError, StoreError
from bridge.formats.hl7.reader import read
from bridge.settings import Hl7Settings, ListenerSettings
from bridge.store import outbound
from bridge.store.port import Store, T, Work

log = structlog.get_logger()

TAKEN = frozenset({"AA", "CA"})
REFUSED = frozenset({"AE", "AR", "CE", "CR"})
_LONGEST_WAIT = 60.0


class Telling:
    """Sends what the outbound queue holds."""

    def __init__(self, store: Store, settings: Hl7Settings, clock: Clock) -> None:
        self._store = store
        self._listeners = settings.all()
        self._first: ListenerSettings = settings
        self._clock = clock
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._random = random.Random()  # noqa: S311  jitter, not a secret
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self.wake.clear()
                try:
                    waiting = await self._store.read(outbound.addresses)
                except StoreError as problem:
                    log.error("outbound.not_read", error=type(problem).__name__)
                    await self._clock.sleep(1.0)
                    continue
                now = self._clock.now().timestamp() * 1000
                for address, due in waiting.items():
                    if (due <= now or due > now + 960_000) and address not in self._busy:
                        task = asyncio.create_task(self._serve(address), name="telling")
                        self._busy[address] = task
                        task.add_done_callback(functools.partial(self._served, address))
                later = [due for address, due in waiting.items() if address not in self._busy]
                seconds = max((min(later) - now) / 1000, 0.01) if later else 30.0
                await self._clock.wait(self.wake, min(seconds, 30.0))
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    def _served(self, address: str, task: asyncio.Task[None]) -> None:
        self._busy.pop(address, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("telling.failed", error=type(task.exception()).__name__)
        self.wake.set()

    async def _serve(self, address: str) -> None:
        """Everything that is due at one receiver, one message after the other on one connection."""
        due = await self._next(address)
        if due is None:
            return
        rules = self._listeners.get(due.listener, self._first)
        async with MllpPeer(address, rules.return_tls, rules.return_timeout) as peer:
            while due is not None and await self._tell(peer, due, rules.return_refusals):
                due = await self._next(address)

    async def _next(self, address: str) -> outbound.Due | None:
        return await self._store.read(lambda conn: outbound.next_due(conn, address, at=self._clock.now()))

    async def _tell(self, peer: MllpPeer, due: outbound.Due, most: int) -> bool:
        """One message. False: its receiver cannot be reached now."""
        try:
            answer = await peer.exchange(due.body)
            code = code_for(answer, due.control_id)
        except (PeerUnreachable, SettingsError) as problem:
            await self._later(due, reason=str(problem), refused=False)
            return False
        if not code:
            await peer.aclose()
            await self._later(due, reason="answer_of_another", refused=False)
            return False
        if code in TAKEN:
            await self._settle(due, outbound.SENT, code, answer)
        elif due.refusals + 1 >= most:
            log.warning("outbound.held", outbound=due.id, message=due.message_id, reason=code)
            await self._settle(due, outbound.HELD, code, answer)
        else:
            await self._later(due, reason=code, refused=True)
        return True

    async def _settle(self, due: outbound.Due, state: str, reason: str, answer: bytes) -> None:
        now = self._clock.now()
        await self._insist(lambda tx: outbound.settle(tx, due.id, state, at=now, reason=reason, answer=answer))

    async def _later(self, due: outbound.Due, *, reason: str, refused: bool) -> None:
        doubled = min(2.0 ** min(due.attempts, 10), _LONGEST_WAIT)
        seconds = doubled * (0.5 + self._random.random() / 2)
        log.warning("outbound.waits", outbound=due.id, message=due.message_id, reason=reason)
        now = self._clock.now()
        await self._insist(
            lambda tx: outbound.put_back(tx, due, reason=reason, refused=refused, seconds=seconds, at=now)
        )

    async def _insist(self, write: Work[T]) -> T:
        """Write until it is kept: what a receiver said stands nowhere else."""
        while True:
            try:
                return await self._store.write(write)
            except StoreError as problem:
                log.error("outbound.not_settled", error=type(problem).__name__)
                await self._clock.sleep(1.0)


def code_for(answer: bytes, control_id: str) -> str:
    """MSA-1 of the answer to this very message; empty where it answers another, or cannot be read."""
    try:
        message = read(answer)
    except BadInput:
        return ""
    said = next(iter(message.find("MSA-2")), None)
    code = next(iter(message.find("MSA-1")), None)
    if said is None or code is None or said.value != control_id:
        return ""
    return code.value if code.value in TAKEN | REFUSED else ""
