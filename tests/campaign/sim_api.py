"""The Cardio API and the network before it, in the simulation's time: it applies or not, answers or not.

Whether a POST was applied and what its caller heard are drawn apart. The journal holds both, so that every doubt can be
told from its cause.
"""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Outcome, Refused, Unknown
from tests.campaign.sim_loop import Life

FIRST_ID = 4711
_DEFINITE = (400, 401, 403, 415, 429)
"""Refusals that the API documents: nothing was applied."""
_SERVER = (500, 502, 503, 504)


@dataclass(slots=True)
class Call:
    """A task POST. `heard` None: nobody lives to hear it, or nobody has yet."""

    body: dict[str, Any]
    begun: float
    task_id: int | None = None
    heard: Outcome | None = None
    heard_at: float = 0.0

    @property
    def key(self) -> str:
        return next(tag for tag in self.body["searching_tags"] if tag.startswith("br1-"))

    @property
    def is_definite(self) -> bool:
        """Whether its caller knows that nothing was applied."""
        return isinstance(self.heard, NotSent) or (isinstance(self.heard, Refused) and self.heard.status in _DEFINITE)


@dataclass(slots=True)
class Weather:
    """Shares of calls that go wrong, in each way; nothing once the sky is clear."""

    unsent: float = 0.0
    lost: float = 0.0
    broken: float = 0.0
    server: float = 0.0
    limited: float = 0.0
    refused: float = 0.0
    stopped: float = 0.0
    slow: float = 0.0

    @classmethod
    def drawn(cls, dice: random.Random) -> "Weather":
        """Fair, foul, or bad in one way alone."""
        way = dice.randrange(4)
        if way == 0:
            return cls()
        names = list(cls.__dataclass_fields__)
        chosen = names if way == 1 else ["lost", *dice.sample(names, 2)]
        return cls(**{name: dice.choice((0.05, 0.2, 0.5)) / (3 if way == 1 else 1) for name in chosen})


@dataclass
class Api:
    """The other side, which outlives every process of ours."""

    dice: random.Random
    weather: Weather
    calls: list[Call] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    faults: int = 0

    def clear(self) -> None:
        """The sky clears."""
        self.weather = Weather()

    def made(self) -> list[Call]:
        """Every call that made a task."""
        return [call for call in self.calls if call.task_id is not None]

    def fault(self, *, is_task: bool) -> tuple[str, Outcome | None]:
        """What becomes of a call: where it ends (`never` at all, `before` it is applied, `behind`), and its outcome."""
        weather, dice = self.weather, self.dice
        way: list[tuple[float, Callable[[], tuple[str, Outcome | None]]]] = [
            (weather.unsent, lambda: ("never", NotSent("refused"))),
            (weather.lost, lambda: (dice.choice(("before", "behind")), Unknown("reset"))),
            (weather.broken, lambda: ("behind", BrokenAnswer(201, "cut"))),
            (weather.server, lambda: (dice.choice(("before", "behind")), Refused(dice.choice(_SERVER), ""))),
            (weather.limited / 4, lambda: ("before", Refused(429, "", dice.choice((None, 1.0, 30.0, 5000.0))))),
            (weather.refused / 4, lambda: ("before", Refused(dice.choice((400, 415)) if is_task else 400, "no"))),
            (weather.stopped / 8, lambda: ("before", Refused(dice.choice((401, 403)), ""))),
        ]
        for share, drawn in way:
            if share and dice.random() < share:
                self.faults += 1
                return drawn()
        return "", None

    def delay(self) -> float:
        slow = self.weather.slow
        return self.dice.random() * (20.0 if slow and self.dice.random() < slow else 0.2)


class SimClient:
    """What the bridge has in place of its REST client: the same calls, in a process that may die in each."""

    def __init__(self, api: Api, life: Life) -> None:
        self._api, self._life = api, life
        self.chunk_size = 1 << 20

    async def aclose(self) -> None:
        """There is no connection."""

    async def create_tasks(self, body: bytes) -> Outcome:
        api = self._api
        where, heard = api.fault(is_task=True)
        call = Call(json.loads(body), asyncio.get_running_loop().time())
        if where != "never":
            api.calls.append(call)
            applied = asyncio.get_running_loop().create_future()
            # It is applied whether or not its caller still lives then: the bytes are on their way.
            asyncio.get_running_loop().call_later(api.delay(), self._apply, call, where, applied)
            await applied
        await asyncio.sleep(api.delay())
        call.heard, call.heard_at = heard or Answered2xx((call.task_id or 0,)), asyncio.get_running_loop().time()
        return call.heard

    def _apply(self, call: Call, where: str, applied: asyncio.Future[None]) -> None:
        if where != "before":
            call.task_id = FIRST_ID + len(self._api.made())
        if not applied.done():
            applied.set_result(None)

    async def open_upload(self, total_size: int, sha256: bytes) -> Outcome:
        """The session's number; that its bytes are whole is asked at its end."""
        where, heard = self._api.fault(is_task=False)
        await asyncio.sleep(self._api.delay())
        if where not in {"never", "before"}:
            name = f"U{len(self._api.uploads)}"
            self._api.uploads[name] = bytearray()
            heard = heard or Answered2xx(upload_id=name)
        return heard or Unknown("nothing")

    async def send_chunk(self, upload_id: str, offset: int, data: bytes) -> Outcome:
        """Kept where it belongs; a gap is refused."""
        where, heard = self._api.fault(is_task=False)
        await asyncio.sleep(self._api.delay())
        if where in {"never", "before"}:
            return heard or Unknown("nothing")
        kept = self._api.uploads[upload_id]
        if offset > len(kept):
            return Refused(400, "a gap")
        kept[offset : offset + len(data)] = data
        return heard or Answered2xx()
