"""F24: a small disk that is filled to the brim and freed again, at random, while wards send. Nobody restarts anything
by hand: where the service ends, it comes back as its unit would bring it back.
"""

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.chaos import TIMEOUT, Weather
from tests.campaign.kill import concluded, doubtful
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import Stage, staged
from tests.campaign.wards import Sender, answered, end

WARDS = 6
SIZE, MIN_FREE, BALLAST = "192m", "4 MiB", "2 MiB"
LEAVE = (0, 0, 4096, 65536, 1 << 20, 3 << 20, 5 << 20)
"""Bytes that a filled disk has left: none, less than the ballast, around the watermark."""


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round. Needs the right to mount a tmpfs."""
    began, dice = time.monotonic(), random.Random(seed)
    fills = ends = 0
    with (
        small_disk() as disk,
        staged(
            "disk",
            disk,
            BRIDGE_CARDIO__TIMEOUT=str(TIMEOUT),
            BRIDGE_STORE__MIN_FREE=MIN_FREE,
            BRIDGE_STORE__BALLAST=BALLAST,
        ) as stage,
    ):
        senders = [Sender(Ward(f"W{n}", seed), stage.hl7, stage.dicom) for n in range(WARDS)]
        stage.start()
        weather = Weather(stage.api, seed)
        for thread in (*senders, weather):
            thread.start()
        until = began + minutes * 60
        stuck = 0
        while time.monotonic() < until:
            time.sleep(dice.uniform(0.2, 1.5))
            with filled(disk, dice.choice(LEAVE)):
                time.sleep(dice.uniform(0.05, 3.0))
            fills += 1
            before = answered(senders)
            ends += back(stage)
            stuck += not _resumes(senders, before, stage)
        end(senders)
        weather.end()
        verdict = concluded(stage, senders, say, doubts=doubtful)
    for _ in range(stuck):
        verdict.against("broken", "room was there again, and nobody was answered for 30 s")
    verdict.counts["fills"] = fills
    verdict.counts["came_back"] = ends
    verdict.counts["messages"] = sum(len(sender.sent) for sender in senders)
    return Result("disk", seed, dict(verdict.counts), time.monotonic() - began)


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own, in memory."""
    with tempfile.TemporaryDirectory(prefix="bridge-small-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def filled(folder: Path, leave: int) -> Iterator[None]:
    """Nothing is left but so many bytes, for as long as the context is open."""
    path = folder / "filler"
    with path.open("wb") as file:
        room = os.statvfs(folder)
        taken = room.f_bavail * room.f_frsize - leave
        if taken > 0:
            with contextlib.suppress(OSError):  # what the bridge took in between is not there to be taken
                os.posix_fallocate(file.fileno(), 0, taken)
        try:
            yield
        finally:
            path.unlink()


def back(stage: Stage) -> bool:
    """Whether the service had ended by itself; it is up again then (A4: it goes through the integrity check)."""
    if stage.bridge is None or not stage.bridge.ended():
        return False
    stage.start()
    return True


def _resumes(senders: list[Sender], before: int, stage: Stage) -> bool:
    """Whether somebody is answered, now that there is room again."""
    patience = time.monotonic() + 30
    while answered(senders) == before:
        if time.monotonic() > patience:
            return False
        back(stage)
        time.sleep(0.02)
    return True
