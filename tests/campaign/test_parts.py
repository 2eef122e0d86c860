"""Each part of the campaign for some seconds: that it works, and that what it does is judged."""

import importlib
import shutil

import pytest

from tests import postgres_server
from tests.campaign import cluster, cluster_sabotage
from tests.campaign.__main__ import PARTS
from tests.conftest import missing


@pytest.mark.campaign
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "did"), [("kill", "kills"), ("chaos", "answers_lost"), ("proxy", "struck"), ("clock", "jumps")]
)
def test_a_short_round_is_green(name: str, did: str) -> None:
    for minutes in (0.15, 0.6, 2.4):  # a busy machine spends the first on its start
        said: list[str] = []
        result = importlib.import_module(PARTS[name][0]).run(20260301, minutes, said.append)
        assert result.red() == {}, said
        if result.counts[did] > 0:
            break
    assert result.counts["acknowledged"] > 0
    assert result.counts[did] > 0


@pytest.mark.campaign
@pytest.mark.peer
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "did"), [("cluster", "struck")])
def test_f39_a_short_round_of_several_processes_is_green(name: str, did: str) -> None:
    if postgres_server.programs() is None:
        missing("PostgreSQL")
    said: list[str] = []
    result = importlib.import_module(PARTS[name][0]).run(20260301, 0.0, said.append)
    assert result.red() == {}, said
    assert result.counts["acknowledged"] > 0
    assert result.counts[did] > 0


@pytest.mark.campaign
@pytest.mark.peer
@pytest.mark.timeout(600)
def test_work_claimed_out_of_its_order_makes_the_cluster_red(monkeypatch: pytest.MonkeyPatch) -> None:
    if postgres_server.programs() is None:
        missing("PostgreSQL")
    monkeypatch.setenv(cluster_sabotage.SWITCH, "1")
    said: list[str] = []
    for seed, minutes in enumerate((0.25, 0.25, 0.25, 1.5), 20260301):
        result = cluster.run(seed, minutes, said.append)
        for kept in (line.partition("is kept in ")[2] for line in said):
            shutil.rmtree(kept or "nothing", ignore_errors=True)
        if result.counts["out_of_order"]:
            break
    assert result.counts["out_of_order"] > 0, said
