"""Each part of the campaign for some seconds: that it works, and that what it does is judged."""

import importlib

import pytest

from tests.campaign.__main__ import PARTS


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
