"""Places at which a process of a cluster stands still, or ends, by itself: with its transaction open, behind a commit
that nobody heard of yet, before the POST of an intention, and behind it.

The service itself knows nothing of it: the nursery wraps the places before it starts.
"""

import os
import random
import signal
import subprocess
from pathlib import Path

from tests.campaign import cluster_sabotage
from tests.campaign.crashes import CODE, wrap

ARM = "CAMPAIGN_ARM"
"""The environment's name for `act:side:place:n:seconds`."""
JOURNAL = "CAMPAIGN_ARM_JOURNAL"
"""The environment's name for the file that gets a line as it acts: its process's number, and what it does."""

PLACES = {
    "commit": (("bridge.store.postgres", "PostgresStore", "_end"), 40),
    "create": (("bridge.dispatch.cardio.client", "CardioClient", "create_tasks"), 10),
    "upload": (("bridge.dispatch.cardio.client", "CardioClient", "open_upload"), 5),
    "heard": (("bridge.store.postgres", "PostgresStore", "_tell_loop"), 40),
}
"""Module, class and function of each, and the number of times at the most that it is passed before."""
OF_DOORS = ("commit", "heard")


def draw(dice: random.Random, seconds: float, *, sends: bool) -> dict[str, str]:
    """The environment of a process that will stand still for so long, or end; `sends`: it is one that makes tasks."""
    place = dice.choice(tuple(PLACES) if sends else OF_DOORS)
    act, side = dice.choice(("freeze", "freeze", "end")), dice.choice(("before", "behind"))
    return {ARM: f"{act}:{side}:{place}:{dice.randint(1, PLACES[place][1])}:{seconds:.1f}"}


def armed() -> None:
    """In the service, called by the nursery: wraps the place that the environment names, if it names one."""
    cluster_sabotage.plant_asked_for()
    if ARM not in os.environ:
        return
    act, side, place, number, seconds = os.environ[ARM].split(":")
    wrap(PLACES[place][0], side, int(number), lambda: _act(act, f"{side} {place}", float(seconds)))


def _act(act: str, where: str, seconds: float) -> None:
    with Path(os.environ[JOURNAL]).open("a") as file:
        file.write(f"{os.getpid()} {act} {where}\n")
    if act == "end":
        os._exit(CODE)
    # somebody else wakes it up
    subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"], stdout=subprocess.DEVNULL)
    os.kill(os.getpid(), signal.SIGSTOP)


def acted(journal: Path) -> dict[int, list[str]]:
    """What processes did by themselves, by their number."""
    found: dict[int, list[str]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        pid, _, what = line.partition(" ")
        found.setdefault(int(pid), []).append(what)
    return found
