"""One destination while the service runs: its client, its health, its pace, and the places for what goes to it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.clock import Clock
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.health import Health
from bridge.dispatch.pace import Pace
from bridge.dispatch.policy import Retry
from bridge.errors import SettingsError
from bridge.settings import DestinationSettings
from bridge.store import line

LARGE = 16 * 2**20
"""Bytes of an object from which on its upload is long. Such ones get half of the uploads' places at the most, and so
of the threads that convert: a 10 s ECG (0.3 MB) need not wait for a Holter (up to 2 GB)."""
LEAST = 0.001
"""Seconds that are waited at the least: so short a rest of a pause may be lost in a clock's own rounding."""
LOOK = 1.0
"""Seconds between two looks at the token's file while its token is refused."""


@dataclass(slots=True)
class Room:
    """Messages that may be taken in hand: in all, recordings among them, and large ones among these."""

    total: int
    uploads: int
    large: int

    def smaller(self) -> int:
        """Only recordings of fewer bytes may be taken; 0: no recording at all."""
        if self.uploads <= 0:
            return 0
        return line.ANY_SIZE if self.large > 0 else LARGE

    def at_once(self) -> int:
        """Messages that may be taken without another look at what they are."""
        kinds = [n for n in (self.uploads, self.large) if n > 0]
        return max(0, min([self.total, *kinds]))

    def take(self, claimed: line.Claimed) -> None:
        """One of them is taken."""
        self.total -= 1
        self.uploads -= claimed.kind != "hl7"
        self.large -= is_large(claimed)


def is_large(claimed: line.Claimed) -> bool:
    """Whether its upload takes long."""
    return claimed.kind != "hl7" and claimed.size >= LARGE


def client_for(settings: DestinationSettings) -> CardioClient:
    """The client of one organization, for whoever closes it. Raises SettingsError."""
    return CardioClient(
        base_url=settings.base_url,
        organization_path=settings.organization_path,
        token=settings.read_token,
        chunk_size=settings.chunk_size,
        timeout=settings.timeout,
        ca_file=settings.ca_file,
        proxy=settings.proxy,
    )


class Destination:
    """One organization of the API. For the loop's own thread; `client` is closed by whoever made the destinations."""

    def __init__(self, settings: DestinationSettings, clock: Clock, dispatchers: Callable[[], int]) -> None:
        self.name = settings.name
        self.settings = settings
        self.client = client_for(settings)
        self.health = Health()
        self.pace = Pace(settings.rate, clock.monotonic(), dispatchers)
        self.backlog = True  # more may stand in line than was taken in hand
        self.paused_until: float | None = None  # when it is worth another look; None: it was not paused at the last
        self.due: float | None = None  # when the next that waits there may go on (monotonic)
        self.asking = False  # whether the line is being asked at this moment
        self.noted: tuple[bool, str] | None = (False, "")  # what the doors were told of its health
        self.renewed = False  # whether there is another token since the last one was refused
        self.reserved = 0
        self._clock = clock
        self._stopping = asyncio.Event()
        self._in_hand: set[int] = set()
        self._uploads: set[int] = set()
        self._large: set[int] = set()
        self._file_seen: tuple[int, ...] | None = None
        self._token_seen: str | None = None
        self._look_at = 0.0

    # --- places ---------------------------------------------------------------------------------------------

    def pause(self) -> float:
        """Seconds until something may be sent; 0: now. A token that was refused and is another one now is tried."""
        now = self._clock.monotonic()
        if self.health.known_down and now >= self._look_at:
            self._look_at = now + LOOK
            file = self._file()
            if file != self._file_seen:
                self._file_seen = file
                if self.token() != self._token_seen:
                    self.health = self.health.with_new_token()
                    self.renewed = True
        return self.health.may_send(now) or self.pace.next_in(now)

    def look_again(self) -> float | None:
        """When its pause should be looked at again (monotonic); None where there is none."""
        pause = self.pause()
        if pause <= 0:
            return None
        waits_for_token = self.health.known_down and self._file_seen is not None
        return self._clock.monotonic() + (min(pause, LOOK) if waits_for_token else pause)

    def room(self) -> Room:
        """The places that are free. While it is down there is one in all: the probe's."""
        there = self.pace.there(self._clock.monotonic())
        busy = len(self._in_hand) + self.reserved
        if self.health.known_down:
            free = 1 - busy - self.asking
            return Room(free, free, free)
        uploads = self.settings.uploads_in_flight or max(1, self.settings.in_flight - 1)
        free = self.settings.in_flight - busy
        return Room(
            free if there is None else min(free, there),
            uploads - len(self._uploads),
            max(1, uploads // 2) - len(self._large),
        )

    def reserve(self) -> bool:
        """Keep a place, and a turn, for one message of orders."""
        if self.pause() > 0 or self.room().total <= 0:
            return False
        self.reserved += 1
        self.pace.take(self._clock.monotonic())
        return True

    def give_up(self, *, used: bool) -> None:
        """The place that was kept is used by `begin`, or free again."""
        self.reserved -= 1
        if not used:
            self.pace.give_back()

    def begin(self, claimed: line.Claimed, *, paced: bool = False) -> None:
        """A message is in hand. `paced`: its turn was taken when its place was kept. A recording's comes later."""
        self._in_hand.add(claimed.id)
        if claimed.kind != "hl7":
            self._uploads.add(claimed.id)
        elif not paced:
            self.pace.take(self._clock.monotonic())
        if is_large(claimed):
            self._large.add(claimed.id)

    def end(self, claimed: line.Claimed) -> None:
        """A message is in hand no more."""
        for held in (self._in_hand, self._uploads, self._large):
            held.discard(claimed.id)

    # --- calls ----------------------------------------------------------------------------------------------

    def stopped(self) -> Retry | None:
        """What becomes of a call that may not be made at this moment; None where it may."""
        return self.health.stopped(self._clock.monotonic())

    async def clear(self) -> Retry | None:
        """None: the next call of an upload may be made. A rate limit is waited for, since a long upload that began
        anew each time would never end; where the destination is down, or the service ends, it is given back.
        """
        while (stopped := self.stopped()) is not None:
            if self._stopping.is_set() or not self.health.only_limited(self._clock.monotonic()):
                return stopped
            await self._clock.wait(self._stopping, max(stopped.after, LEAST))
        return None

    async def turn(self) -> Retry | None:
        """As `clear`, for a recording's task: it waits for its turn as well."""
        await self._clock.wait(self._stopping, self.pace.take(self._clock.monotonic()))
        return await self.clear()

    def stop(self) -> None:
        """Whoever waits for a call goes home."""
        self._stopping.set()

    def token(self) -> str | None:
        """The token as it is now; None where there is none."""
        try:
            return self.settings.read_token()
        except SettingsError:
            return None

    def refused(self) -> None:
        """It does not take the token, or there is none: another one is worth a try."""
        self._file_seen, self._token_seen = self._file(), self.token()

    def _file(self) -> tuple[int, ...] | None:
        """What tells one version of the token's file from another; empty where it is not there, None: it is in none."""
        if self.settings.token or not self.settings.token_file:
            return None
        with contextlib.suppress(OSError):
            found = Path(self.settings.token_file).stat()
            return found.st_mtime_ns, found.st_size, found.st_ino
        return ()
