"""`make campaign`: the promises under fire. Every part draws from its seed, one judge reads three journals.

`make campaign ROUNDS=10` goes on for hours; `--table` prints what all rounds so far add up to. A red round prints
its seed, and `--seed` runs it again, with the same `--minutes`: where a part is pure, exactly as it was; where it has
processes and sockets, the same choices at other instants.
"""

import argparse
import importlib
import random
import sys
import time
from pathlib import Path

from tests.campaign.results import JOURNAL, Part, append, read, table

PARTS = {
    "framing": ("tests.campaign.fuzz_framing", 2.0),
    "reader": ("tests.campaign.fuzz_reader", 2.0),
    "pairs": ("tests.campaign.pairs", 1.0),
    "pdus": ("tests.campaign.fuzz_pdus", 1.0),
    "objects": ("tests.campaign.fuzz_objects", 1.0),
    "simulation": ("tests.campaign.simulation", 3.0),
    "kill": ("tests.campaign.kill", 3.0),
    "powercut": ("tests.campaign.powercut", 3.0),
    "chaos": ("tests.campaign.chaos", 3.0),
    "proxy": ("tests.campaign.proxy", 1.0),
    "cluster": ("tests.campaign.cluster", 6.0),
    "failover": ("tests.campaign.failover", 4.0),
    "disk": ("tests.campaign.disk", 1.0),
    "clock": ("tests.campaign.clock", 1.0),
    "soak": ("tests.campaign.soak", 20.0),
}
"""Each part's module, whose `run` it is, and the minutes of one round; the soak comes last, and only when asked."""
WHEN_ASKED = {"soak"}


def part(name: str) -> Part:
    """The part of that name, imported when it is wanted: one that cannot run here does not stop the others."""
    found: Part = importlib.import_module(PARTS[name][0]).run
    return found


def main() -> int:
    """Run the rounds; 1 where a figure that must be 0 is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all but the soak")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on")
    parser.add_argument("--minutes", type=float, help="of each part, in place of its own")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="where results are added (%(default)s)")
    parser.add_argument("--table", action="store_true", help="print the sums over the journal, and run nothing")
    given = parser.parse_args()
    if given.table:
        print(table(read(given.journal)))
        return 0
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    names = given.parts or [name for name in PARTS if name not in WHEN_ASKED]
    first = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6) * 10**6
    red = 0
    for seed in range(first, first + given.rounds):
        for name in names:
            red += not _green(name, seed, given.minutes or PARTS[name][1], given.journal)
    return 1 if red else 0


def _green(name: str, seed: int, minutes: float, journal: Path) -> bool:
    """One round of one part, said and noted; whether nothing was wrong."""
    print(f"{name}: seed {seed}, about {minutes:g} min", flush=True)
    began = time.monotonic()
    result = part(name)(seed, minutes, lambda text: print(f"  {text}", flush=True))
    append(result, journal)
    print(f"{name}: {time.monotonic() - began:.0f} s, {', '.join(f'{k} {v}' for k, v in result.counts.items())}")
    if red := result.red():
        wrong = ", ".join(f"{k} {v}" for k, v in red.items())
        print(f"{name}: RED: {wrong}; again by: python -m tests.campaign {name} --seed {seed} --minutes {minutes:g}")
    return not red


if __name__ == "__main__":
    sys.exit(main())
