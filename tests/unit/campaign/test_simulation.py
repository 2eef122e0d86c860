"""The simulation runs the same way each time, is green for the bridge as it is, and red for each deliberate fault."""

from collections import Counter

import pytest

from tests.campaign.sim_sabotage import FAULTS
from tests.campaign.simulation import Theatre

FOUND = (31000000005235, 31000000006286, 31000000008414, 81003711, 93000085, 93003398)
"""Seeds that were red once."""
MOST = 400
"""Seeds within which a fault must show itself; most do within ten."""


@pytest.fixture
def theatre():
    with Theatre() as opened:
        yield opened


def story(theatre, seed):
    """What was sent, heard and kept, and when."""
    world = theatre.world(seed)
    calls = [(call.begun, call.key, call.task_id, str(call.heard)) for call in world.api.calls]
    rows = world.disk.rows("SELECT id, kind, state, reason, control_id, attempts, received_at FROM message")
    return calls, rows, [(one.name, one.told, len(one.answers)) for one in world.letters], world.deaths


def test_a_seed_runs_the_same_way_each_time(theatre):
    first = [story(theatre, seed) for seed in range(12)]
    assert first == [story(theatre, seed) for seed in range(12)]
    assert len({str(one) for one in first}) == 12


def test_seeds_that_nothing_is_wrong_with_are_green(theatre):
    counts = Counter()
    wrong = [(seed, list(theatre.seed(seed, counts))) for seed in (*range(40), *FOUND)]
    assert [one for one in wrong if one[1]] == []
    assert min(counts[name] for name in ("letters", "tasks", "deaths", "faults", "doubts")) > 10, counts


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_f10_a_deliberate_fault_is_seen(theatre, fault):
    with fault():
        for seed in range(MOST):
            if list(theatre.seed(seed, Counter())):
                return
    pytest.fail(f"{fault.__name__} was not seen in {MOST} seeds")
