"""Mixed load for as long as one likes, with faults, while /proc of the service is read: memory, open files and threads
stay where they are.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.chaos import TIMEOUT, Weather
from tests.campaign.judge import Verdict
from tests.campaign.kill import concluded, doubtful
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import staged
from tests.campaign.wards import Sender, answered, end

RATE, WARDS = 20.0, 8
"""Messages a second, all wards together."""
EACH = 2.0
"""Seconds between two looks."""
WARM = 0.4
"""The share of the time in which caches fill, statements are compiled and pools reach their size."""
SLOPE = 24.0
"""MB an hour that memory may rise at the most, so far as so short a time can tell it from noise; see `allowed`."""
NOISE = 4.0
"""MB by which one look differs from the next where nothing grows."""
MORE = 8
"""Files or threads more than in the first half: what happened to be open."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a process holds at a moment."""

    at: float  # seconds
    memory: float  # MB, resident
    files: int
    threads: int


def look(pid: int) -> Look:
    """By /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory, threads = (int(status.split(f"{name}:")[1].split()[0]) for name in ("VmRSS", "Threads"))
    return Look(time.monotonic(), memory / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), threads)


def slope(looks: Sequence[Look]) -> float:
    """MB an hour, by least squares."""
    middle = sum(one.at for one in looks) / len(looks)
    spread = sum((one.at - middle) ** 2 for one in looks)
    return sum((one.at - middle) * one.memory for one in looks) / spread * 3600 if spread else 0.0


def allowed(looks: Sequence[Look]) -> float:
    """MB an hour: a rise that noise alone would make of so short a time is none."""
    hours = (looks[-1].at - looks[0].at) / 3600
    return max(SLOPE, NOISE / hours)


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round: one service, never restarted."""
    began = time.monotonic()
    looks: list[Look] = []
    with staged("soak", BRIDGE_CARDIO__TIMEOUT=str(TIMEOUT)) as stage:
        share = RATE / WARDS
        senders = [Sender(Ward(f"W{n}", seed), stage.hl7, stage.dicom, rate=share) for n in range(WARDS)]
        pid = stage.start().pid
        weather = Weather(stage.api, seed)
        for thread in (*senders, weather):
            thread.start()
        until = began + minutes * 60
        while time.monotonic() < until:
            time.sleep(min(EACH, max(until - time.monotonic(), 0.0)))
            looks.append(look(pid))
            if len(looks) % 30 == 0:
                one = looks[-1]
                say(f"{answered(senders)} answered, {one.memory:.0f} MB, {one.files} files, {one.threads} threads")
        took = time.monotonic() - began
        end(senders)
        weather.end()
        verdict = concluded(stage, senders, say, doubts=doubtful)
    verdict.counts["messages"] = sum(len(sender.sent) for sender in senders)
    say(f"{verdict.counts['messages'] / took:.1f} messages/s")
    flat(verdict, looks)
    for note in verdict.notes:
        say(note)
    return Result("soak", seed, dict(verdict.counts), time.monotonic() - began)


def flat(verdict: Verdict, looks: Sequence[Look]) -> None:
    """Whether the second part of the time took more than the first; the figures go into the verdict."""
    warm = [one for one in looks if one.at >= looks[0].at + WARM * (looks[-1].at - looks[0].at)]
    half = len(warm) // 2
    rise = slope(warm)
    verdict.counts["most_memory_mb"] = math.ceil(max(one.memory for one in warm))
    verdict.counts["most_rise_kb_an_hour"] = round(rise * 1024)
    verdict.counts["most_files"] = max(one.files for one in warm)
    verdict.counts["most_threads"] = max(one.threads for one in warm)
    if rise > allowed(warm):
        verdict.against("broken", f"memory rises by {rise:.1f} MB an hour")
    for name in ("files", "threads"):
        before = max(getattr(one, name) for one in warm[:half])
        after = max(getattr(one, name) for one in warm[half:])
        if after > before + MORE:
            verdict.against("broken", f"{name}: {before}, later {after}")
