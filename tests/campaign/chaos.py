"""F12–F23, F43: the API fails in every way that it has, on every call, while wards send and the service is restarted.

What is proved is an equation: as many tasks are in doubt as answers were lost, one for one, by the API's own journal.
"""

import random
import threading
import time
from typing import Any

from tests.campaign.kill import concluded, doubtful
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import Api, Stage, staged
from tests.campaign.wards import Sender, end

WARDS = 8
TIMEOUT = 6.0
"""Seconds for an answer of the API: long for a loaded machine, since an answer that is late by itself is a doubt that
nobody injected."""
TURN = 0.5
"""Seconds for which a draw of faults stands."""
RESTART = (10.0, 25.0)
"""Seconds between two restarts by SIGTERM."""

EVERYWHERE: list[tuple[int, dict[str, Any]]] = [
    (4, {"kind": "5xx_before"}),
    (3, {"kind": "5xx_after", "status": 502}),
    (3, {"kind": "5xx_before", "status": 503}),
    (3, {"kind": "5xx_after", "status": 504}),
    (4, {"kind": "lost_answer"}),
    (3, {"kind": "lost_answer", "reset": True}),
    (4, {"kind": "drop_before"}),
    (3, {"kind": "drop_at_once", "reset": True}),
    (4, {"kind": "cut_body"}),
    (3, {"kind": "cut_body", "reset": True}),
    (3, {"kind": "broken_body"}),
    (2, {"kind": "long_body"}),
    (2, {"kind": "status", "status": 408, "applied": False}),
    (2, {"kind": "drip", "seconds": 0.01}),
    (6, {"kind": "latency", "seconds": 0.3}),
]
ON_TASKS: list[tuple[int, dict[str, Any]]] = [
    (2, {"kind": "status", "status": 409}),
    (2, {"kind": "wrong_ids", "ids": []}),
    (2, {"kind": "wrong_ids", "ids": [1, 2]}),
    (3, {"kind": "400"}),
    (1, {"kind": "415"}),
]
ON_CHUNKS: list[tuple[int, dict[str, Any]]] = [(4, {"kind": "forget_upload"}), (4, {"kind": "400"})]
SELDOM: list[dict[str, Any]] = [
    {"kind": "silent"},
    {"kind": "silent", "applied": False},
    {"kind": "429", "retry_after": "1"},
    {"kind": "400", "on": "uploads"},
]
"""What holds the whole destination up, or costs a message: about one draw in eight."""


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round: faults, restarts, then a quiet end in which every message comes to its own."""
    began, dice = time.monotonic(), random.Random(seed)
    restarts = 0
    with staged("chaos", BRIDGE_CARDIO__TIMEOUT=str(TIMEOUT)) as stage:
        senders = [Sender(Ward(f"W{n}", seed), stage.hl7, stage.dicom) for n in range(WARDS)]
        stage.start()
        weather = Weather(stage.api, seed)
        for thread in (*senders, weather):
            thread.start()
        until = began + minutes * 60
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(dice.uniform(*RESTART), left))
            restart(stage)
            restarts += 1
            say(f"{sum(sender.answered for sender in senders)} letters answered, {restarts} restarts")
        end(senders)
        weather.end()
        verdict = concluded(stage, senders, say, doubts=doubtful)
    verdict.counts["restarts"] = restarts
    verdict.counts["messages"] = sum(len(sender.sent) for sender in senders)
    return Result("chaos", seed, dict(verdict.counts), time.monotonic() - began)


def restart(stage: Stage) -> None:
    """As an upgrade does it: what is in flight comes to its outcome first (F43)."""
    assert stage.bridge is not None
    stage.bridge.end()
    stage.start()


class Weather(threading.Thread):
    """Draws faults from the seed, turn by turn, each for one call."""

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(daemon=True, name="weather")
        self._api = api
        self._dice = random.Random(f"{seed}/weather")
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(TURN):
            self._api.faults(draw(self._dice))

    def end(self) -> None:
        """The sky clears."""
        self._over.set()
        self.join()
        self._api.faults([])


def draw(dice: random.Random) -> list[dict[str, Any]]:
    """The faults of one turn."""
    wanted = []
    for call, own, count in (("tasks", ON_TASKS, 5), ("uploads", [], 2), ("chunks", ON_CHUNKS, 4)):
        menu = [*EVERYWHERE, *own]
        weights = [weight for weight, _ in menu]
        for _, fault in dice.choices(menu, weights, k=dice.randint(0, count)):
            wanted.append({"on": call, **fault, "times": 1, "skip": dice.randrange(12)})
    if dice.random() < 1 / 8:
        call = dice.choice(("tasks", "tasks", "uploads", "chunks"))
        wanted.append({"on": call, **dice.choice(SELDOM), "times": 1, "skip": dice.randrange(12)})
    return wanted
