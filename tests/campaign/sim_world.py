"""One seed: a hospital, a bridge that is killed and started again, an API that fails, on one disk and one clock."""

import asyncio
import random

from bridge.errors import BridgeError, CommitUnknown
from bridge.receive.dicom.intake import Announced, Status
from bridge.receive.dicom.session import Session
from bridge.receive.intake import Envelope
from tests.acceptance.model import Ecg
from tests.campaign.sim_api import Api, Weather
from tests.campaign.sim_hospital import SPAN, Hospital, Letter, Told
from tests.campaign.sim_loop import Life, SimClock, Stuck, VirtualLoop
from tests.campaign.sim_service import Service, Site
from tests.campaign.sim_store import Crash, Disk, Mishaps, SimStore

TWELVE_LEAD, EXPLICIT = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.1.2.1"
PATIENCE = 10.0
"""Seconds that a sender waits for an answer."""
FOUL = 60.0
"""Seconds until the weather clears, and nobody dies any more."""
LONGEST = 4 * 3600.0
"""Seconds by which everything must have come to its end: Retry-After is taken for 15 minutes at the most."""


class World:
    """Everything that a seed makes."""

    def __init__(self, seed: int, site: Site, disk: Disk) -> None:
        self.dice = dice = random.Random(f"simulation {seed}")
        self._site = site
        self.disk = disk
        site.empty(name for (name,) in disk.rows("SELECT payload FROM message WHERE payload IS NOT NULL"))
        disk.reset()
        self.loop = VirtualLoop(dice)
        self.clock = SimClock(self.loop)
        self.api = Api(dice, Weather.drawn(dice))
        self._lines = Hospital(dice).lines()
        self.letters = [one for line in self._lines for one in line]
        dies = dice.choice((0.0, 0.0, 0.0, 0.02, 0.06))
        self.mishaps = Mishaps(dice, dies=dies, unknown=dice.choice((0.0, 0.0, 0.0, 0.02)))
        self._kills = dice.choice((0, 0, 0, 0, 1, 2))
        self.jumps = dice.choice((0, 0, 0, 2))
        self._full = dice.choice((0, 0, 0, 1))
        self._lossy = dice.choice((0.0, 0.0, 0.1, 0.4))
        self.deaths = 0
        self.amiss: list[str] = []
        self._life = Life()
        self._service: Service | None = None

    def run(self) -> None:
        """Until every letter has its last word and every message came to its end, or too long."""
        try:
            self.loop.run_until_complete(self._play())
        except Stuck:
            self.amiss.append("broken: nothing will ever happen any more, or one thing for ever")
        finally:
            self._life.kill()
            self.loop.close()

    async def _play(self) -> None:
        self._begin()
        for _ in range(self._kills):
            self.loop.call_later(self.dice.random() * FOUL, self._die)
        for _ in range(self.jumps):
            self.loop.call_later(self.dice.random() * FOUL, self._jump)
        if self._full:
            at = self.dice.random() * SPAN
            self.loop.call_later(at, setattr, self.mishaps, "full", True)
            self.loop.call_later(at + self.dice.random() * 20, setattr, self.mishaps, "full", False)
        self.loop.call_later(FOUL, self._clear)
        await asyncio.gather(*(self._line(line) for line in self._lines))
        await asyncio.sleep(max(FOUL - self.loop.time(), 0.0) + 1)
        while self._open() and self.loop.time() < LONGEST:  # noqa: ASYNC110  time is virtual here
            await asyncio.sleep(5)
        await asyncio.sleep(PATIENCE)  # whatever is sent twice is sent by now

    def _open(self) -> bool:
        states = "'RECEIVED', 'READY', 'UPLOADING', 'INTENT', 'RETRY'"
        return bool(self.disk.rows(f"SELECT 1 FROM message WHERE state IN ({states}) LIMIT 1"))

    def _clear(self) -> None:
        self.api.clear()
        self.mishaps.quiet = True

    def _jump(self) -> None:
        self.clock.skew += self.dice.choice((-3600.0, 3600.0, -86400.0, 10.0, 4e8))

    # --- the process ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        life = self._life = Life()
        store = SimStore(self.disk, life, self.mishaps, self._die)
        service = Service(self._site, life, self.clock, store, self.api)
        store.on_fatal = lambda: self.loop.call_soon(self._end, life)
        life.begin(self._start(life, service))

    async def _start(self, life: Life, service: Service) -> None:
        try:
            await service.start()
        except BridgeError:  # the disk is full, or does not answer: whoever runs the service starts it again
            self._end(life)
            return
        self._service = service
        for loop in service.loops:
            loop.add_done_callback(lambda ended: self._ended(life, ended))

    def _ended(self, life: Life, loop: asyncio.Task[None]) -> None:
        """A loop that ends by itself ends the service; only for a disk that did not answer it may."""
        if life.dead or loop.cancelled():
            return
        if not isinstance(loop.exception(), CommitUnknown):
            self.amiss.append(f"uncaught: {loop.exception()!r} in a loop")
        self._end(life)

    def _end(self, life: Life) -> None:
        if not life.dead:
            self._die()

    def _die(self) -> None:
        """`kill -9`; a start follows."""
        if self._life.dead:
            return
        self.deaths += 1
        self._service = None
        self._life.kill()
        self.loop.call_later(self.dice.random() * 3, self._begin)

    # --- the senders ----------------------------------------------------------------------------------------------

    async def _line(self, letters: list[Letter]) -> None:
        for letter in letters:
            await asyncio.sleep(max(letter.at - self.loop.time(), 0.0))
            while letter.told is Told.NOTHING and self.loop.time() < LONGEST:
                if self._is_lost():
                    await asyncio.sleep(PATIENCE)
                    continue
                told = await (self._store(letter) if isinstance(letter.event, Ecg) else self._say(letter))
                if told is Told.NOTHING or self._is_lost():
                    await asyncio.sleep(self.dice.random() * 2)
                    continue
                letter.told = told

    def _is_lost(self) -> bool:
        return not self.mishaps.quiet and self.dice.random() < self._lossy / 2

    async def _say(self, letter: Letter) -> Told:
        """One try of an HL7 message."""
        if self._service is None:
            return Told.NOTHING
        task = self._life.begin(self._service.his.accept(Envelope(letter.body, "127.0.0.1")))
        await asyncio.wait([task], timeout=PATIENCE)
        if not task.done() or task.cancelled():
            return Told.NOTHING
        if (problem := task.exception()) is not None:
            self.amiss.append(f"uncaught: {problem!r} in an answer")
            return Told.NOTHING
        body = task.result().body or b""
        code = body.partition(b"\rMSA|")[2][:2]
        if code not in {b"AA", b"AE"}:
            return Told.NOTHING
        letter.answers.append(body)
        return Told.KEPT if code == b"AA" else Told.REFUSED

    async def _store(self, letter: Letter) -> Told:
        """One try of an object."""
        if self._service is None:
            return Told.NOTHING
        session = Session("CART", "BRIDGE", "127.0.0.1")
        try:
            reception = self._service.carts.begin(Announced(TWELVE_LEAD, letter.name, EXPLICIT, session))
            reception.write(letter.body)
            answer = reception.finish()
        except Crash:
            return Told.NOTHING
        await asyncio.sleep(self.dice.random() * 0.1)
        if answer is None or answer[0] is Status.OUT_OF_RESOURCES:
            return Told.NOTHING
        return Told.KEPT if answer[0] is Status.SUCCESS else Told.REFUSED
