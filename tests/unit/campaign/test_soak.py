"""What the soak calls flat, and what it does not."""

import pytest

from tests.campaign.judge import Verdict
from tests.campaign.soak import Look, flat, slope

HOUR = 3600.0


def looks(*, hours: float = 1.0, rise: float = 0.0, files: float = 0.0, threads: float = 0.0) -> list[Look]:
    """A look every ten seconds; memory goes up and down by 1 MB, and rises by so many MB an hour."""
    made = []
    for number in range(int(hours * 360)):
        at = number * 10.0
        memory = 100 + number % 2 + rise * at / HOUR
        made.append(Look(at, memory, 40 + int(files * at / HOUR), 15 + int(threads * at / HOUR)))
    return made


@pytest.mark.parametrize("rise", [0.0, 5.0, 60.0])
def test_the_slope_is_the_rise_of_an_hour(rise: float) -> None:
    assert slope(looks(rise=rise)) == pytest.approx(rise, abs=0.1)


@pytest.mark.parametrize(
    ("growth", "red"),
    [({}, 0), ({"rise": 60.0}, 1), ({"files": 100.0}, 1), ({"threads": 100.0}, 1), ({"rise": 60.0, "files": 90.0}, 2)],
)
def test_what_grows_is_found(growth: dict[str, float], red: int) -> None:
    verdict = Verdict()
    flat(verdict, looks(**growth))
    assert verdict.counts["broken"] == red
    assert verdict.counts["most_memory_mb"] >= 101
