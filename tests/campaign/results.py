"""What a part of the campaign came to, and the journal in which the results of every round add up.

A part is a function `run(seed, minutes, say) -> Result`: it works about so many minutes, draws every choice from the
seed, and says where it is. Its counts are of one round; a figure of `ZERO` that is not 0 makes the campaign red.
"""

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

JOURNAL = Path(__file__).parents[2] / "deploy" / "campaign-results.jsonl"
"""Beside the other things that an operator is given to trust; committed, so that counts add up over rounds."""

ZERO = ("lost", "twice", "wrong_patient", "out_of_order", "doubts_amiss", "uncaught", "broken")
"""Figures that must be 0: `uncaught` counts errors that nobody caught, `broken` other promises of a part's own."""

Say = Callable[[str], None]
Part = Callable[[int, float, Say], "Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one part."""

    part: str
    seed: int
    counts: dict[str, int]
    seconds: float

    def red(self) -> dict[str, int]:
        """What must be 0 and is not."""
        return {name: self.counts[name] for name in ZERO if self.counts.get(name)}


def commit() -> str:
    """The commit that the results are of; with a plus where the tree holds more than it."""
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def append(result: Result, journal: Path = JOURNAL) -> None:
    """One line more; whole, or not at all."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "part": result.part,
        "seed": result.seed,
        "counts": result.counts,
        "seconds": round(result.seconds, 1),
    }
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(journal: Path = JOURNAL) -> list[Result]:
    """Every round so far."""
    if not journal.exists():
        return []
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [Result(line["part"], line["seed"], line["counts"], line["seconds"]) for line in lines]


def table(results: Iterable[Result]) -> str:
    """One row a part, summed over its rounds, for the README: figures that must be 0 stand last."""
    rows: dict[str, list[Result]] = {}
    for one in results:
        rows.setdefault(one.part, []).append(one)
    lines = ["| part | rounds | hours | what it did | must be 0 |", "|---|---|---|---|---|"]
    for part, rounds in rows.items():
        names = dict.fromkeys(name for one in rounds for name in one.counts)
        sums = {name: _summed(name, rounds) for name in names}
        did = ", ".join(f"{_words(name)} {count:,}" for name, count in sums.items() if name not in ZERO)
        zero = ", ".join(f"{_words(name)} {_marked(count)}" for name, count in sums.items() if name in ZERO)
        hours = sum(one.seconds for one in rounds) / 3600
        lines.append(f"| {part} | {len(rounds)} | {hours:.1f} | {did} | {zero} |")
    return "\n".join(lines)


def _summed(name: str, rounds: list[Result]) -> int:
    """The sum; of a figure that is a peak or a slope (`most_…`), the worst round."""
    found = [one.counts.get(name, 0) for one in rounds]
    return max(found) if name.startswith("most_") else sum(found)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _marked(count: int) -> str:
    return f"**{count:,}**" if count else "0"
