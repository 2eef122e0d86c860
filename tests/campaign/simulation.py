"""The state machine under its own clock, network, disk and API: each seed is a day that goes wrong in its own way.

A seed draws a hospital's letters, the weather at the API, losses on the senders' lines, a disk that fills, a clock that
is set wrong, and when the process dies: at any moment, before a commit, or behind it. Everything is the product's code
but sockets, threads and files. A seed takes some hundredths of a second, runs on one processor, and runs the same way
each time: `python -m tests.campaign.simulation SEED` plays one again.
"""

import gc
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn, Self

import structlog

from tests.campaign.results import Result, Say
from tests.campaign.sim_service import Site, simulated
from tests.campaign.sim_store import Disk
from tests.campaign.sim_verdict import amiss
from tests.campaign.sim_world import World

SAID = 10
STRIDE = 1_000_000
"""Seeds of one round: rounds share none."""
CHUNK = 100
FIGURES = ("seeds", "letters", "tasks", "doubts", "deaths", "faults", "red_seeds")
ZERO = ("lost", "twice", "wrong_patient", "doubts_amiss", "uncaught", "broken")
MEMORY = Path("/dev/shm")

Played = tuple[Counter[str], list[str]]


def run(seed: int, minutes: float, say: Say) -> Result:
    """Seeds for so long, from the round's own on, on every processor."""
    began = time.monotonic()
    counts: Counter[str] = Counter(dict.fromkeys((*FIGURES, *ZERO), 0))
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        first = seed * STRIDE
        while time.monotonic() - began < minutes * 60:
            chunks = [range(first + n * CHUNK, first + (n + 1) * CHUNK) for n in range(workers)]
            first += workers * CHUNK
            for more, said in pool.map(play, chunks):
                counts.update(more)
                for one in said[: max(0, SAID - counts["red_seeds"])]:
                    say(one)
    return Result("simulation", seed, dict(counts), time.monotonic() - began)


def play(seeds: range) -> Played:
    """These seeds one after the other; what they came to, and what is wrong, each with its seed."""
    counts: Counter[str] = Counter()
    said = []
    with Theatre() as theatre:
        for seed in seeds:
            wrong = list(theatre.seed(seed, counts))
            counts.update(one.partition(":")[0] for one in wrong)
            counts["red_seeds"] += bool(wrong)
            if wrong:
                said.append(f"simulated seed {seed}: {'; '.join(wrong[:3])}")
    return counts, said


class Theatre:
    """What all seeds share: the settings and rules, an empty database, a folder in memory."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self._site, self._disk = Site(Path(self._folder.name)), Disk()
        self._simulated = simulated(self._disk)
        self._simulated.__enter__()
        structlog.configure(processors=[_drop])
        self._thresholds = gc.get_threshold()
        gc.set_threshold(50_000)  # a seed leaves some thousand objects, and a look at them all costs as much
        return self

    def __exit__(self, *error: object) -> None:
        gc.set_threshold(*self._thresholds)
        structlog.reset_defaults()
        self._simulated.__exit__(None, None, None)
        self._folder.cleanup()

    def seed(self, number: int, counts: Counter[str]) -> Iterator[str]:
        """One seed; what is wrong at its end, each with the figure that it counts for."""
        world = self.world(number)
        counts["seeds"] += 1
        counts["letters"] += len(world.letters)
        counts["tasks"] += len(world.api.made())
        counts["deaths"] += world.deaths
        counts["faults"] += world.api.faults
        counts["doubts"] += self._disk.rows("SELECT count(*) FROM task WHERE state = 'IN_DOUBT'")[0][0]
        yield from amiss(world)

    def world(self, number: int) -> World:
        """A seed's world at its end."""
        world = World(number, self._site, self._disk)
        world.run()
        return world


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


def main() -> None:
    """Play single seeds again, with what was said and done."""
    with Theatre() as theatre:
        for number in map(int, sys.argv[1:]):
            world = theatre.world(number)
            for letter in world.letters:
                print(f"{letter.at:5.1f} {letter.name[-8:]:8} {letter.told:8} {letter.event}")
            for call in world.api.calls:
                print(f"{call.begun:5.1f} {call.key} {call.task_id} {call.heard}")
            for row in world.disk.rows("SELECT id, kind, state, reason, control_id, sop_instance_uid FROM message"):
                print(row)
            print(f"{world.deaths} deaths", *amiss(world), sep="\n")


if __name__ == "__main__":
    main()
