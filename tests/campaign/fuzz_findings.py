"""What a fuzz run has found: counted all, said for the first few, so that one fault does not fill the screen."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaign.results import Result, Say

SAID = 5
"""Findings that are told in full; the seed finds the others again."""


def raised(problem: Exception) -> str:
    """What was raised, and in which line: the innermost one."""
    at = problem.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" at {Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at is not None else ""
    return f"raised {type(problem).__name__}{where}"


class Findings:
    """Counts of one run. `uncaught` is what raised where nothing may, `broken` what was wrong in another way."""

    def __init__(self, part: str, seed: int, say: Say) -> None:
        self.counts = {"inputs": 0, "uncaught": 0, "broken": 0}
        self.dice = random.Random(f"{part} {seed}")
        self._part, self._seed, self._say = part, seed, say
        self._began = time.monotonic()

    def add(self, name: str, number: int = 1) -> None:
        """So many more of something."""
        self.counts[name] = self.counts.get(name, 0) + number

    def note(self, wrong: str, what: object) -> None:
        """A finding; what begins with `raised` was an exception that nobody caught."""
        self.add("uncaught" if wrong.startswith("raised") else "broken")
        if self.counts["uncaught"] + self.counts["broken"] <= SAID:
            self._say(f"input {self.counts['inputs']}: {wrong}: {what!r}")

    def go_on(self, minutes: float, batch: Callable[[], None]) -> Result:
        """Do batch after batch for so long."""
        while time.monotonic() - self._began < minutes * 60:
            batch()
        return self.result()

    def result(self) -> Result:
        """As the journal keeps it."""
        return Result(self._part, self._seed, self.counts, time.monotonic() - self._began)
