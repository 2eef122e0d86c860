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
    said: list[str] = []
    result = importlib.import_module(PARTS[name][0]).run(20260301, 0.15, said.append)
    assert result.red() == {}, said
    assert result.counts["acknowledged"] > 0
    assert result.counts[did] > 0
