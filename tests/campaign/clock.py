"""F25: the clock is set forwards and back, by seconds and by years, while wards send and the API fails.

The wall clock alone jumps: whoever takes a deadline from it waits too long, or not at all. It is the bridge's one
clock that is moved, in the service itself; that nothing looks at another is what this part would show.
"""

import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.clock import SystemClock
from tests.campaign.chaos import TIMEOUT, Weather, restart
from tests.campaign.kill import concluded, doubtful
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import staged
from tests.campaign.wards import Sender, await_answer, end

WARDS = 6
FILE = "CAMPAIGN_CLOCK"
"""The environment's name for a file that holds how many seconds the clock is wrong."""
JUMPS = (1.0, 30.0, 299.0, 959.0, 3600.0, 7200.0, 86_400.0, 31e6)
LONGEST = 1000.0
"""Seconds: a little more than anything may wait by itself (F14, F25)."""
FAR = 12 * 31_557_600.0
"""Seconds to beyond 2036 and 2038."""


def jumping() -> None:
    """In the service: its clock is wrong by what the file says. The nursery calls it."""
    offset = os.open(os.environ[FILE], os.O_RDONLY)

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(os.pread(offset, 32, 0) or 0))

    SystemClock.now = now  # type: ignore[method-assign]


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round."""
    began, dice = time.monotonic(), random.Random(seed)
    jumps = unanswered = 0
    with staged("clock", BRIDGE_CARDIO__TIMEOUT=str(TIMEOUT)) as stage:
        file = stage.folder / "offset"
        stage.environment[FILE] = str(file)
        stage.before = "tests.campaign.clock:jumping"
        set_wrong(file, 0)
        senders = [Sender(Ward(f"W{n}", seed), stage.hl7, stage.dicom) for n in range(WARDS)]
        stage.start()
        weather = Weather(stage.api, seed)
        for thread in (*senders, weather):
            thread.start()
        until, wrong = began + minutes * 60, 0.0
        while time.monotonic() < until:
            time.sleep(dice.uniform(0.2, 2.0))
            wrong = 0.0 if dice.random() < 0.2 else wrong + dice.choice((1, -1)) * dice.choice(JUMPS)
            if dice.random() < 0.05:
                wrong = FAR
            set_wrong(file, wrong)
            jumps += 1
            if dice.random() < 0.1:
                restart(stage)
            unanswered += not await_answer(senders)
        end(senders)
        weather.end()
        set_wrong(file, wrong + LONGEST)  # nothing waits longer, by whatever clock it was planned
        verdict = concluded(stage, senders, say, doubts=doubtful)
    for _ in range(unanswered):
        verdict.against("broken", "the clock jumped, and nobody was answered for 30 s")
    verdict.counts["jumps"] = jumps
    verdict.counts["messages"] = sum(len(sender.sent) for sender in senders)
    return Result("clock", seed, dict(verdict.counts), time.monotonic() - began)


def set_wrong(file: Path, seconds: float) -> None:
    """From now on the clock is wrong by so much. Written in place, in one write."""
    with file.open("r+b" if file.exists() else "wb", buffering=0) as opened:
        opened.write(f"{seconds:.3f}".ljust(32).encode())
