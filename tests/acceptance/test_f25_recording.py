"""F25: a clock that is set back between a recording's receipt and its turn does not make it wait (order_wait = 0)."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.clock import SystemClock
from bridge.store import line
from tests.acceptance.scene import OpenHouse
from tests.acceptance.test_groups import an_object, rhythm


class Wrong(SystemClock):
    """A wall clock that is off by so many seconds; deadlines are not."""

    seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


async def test_f25_a_clock_that_is_set_back_does_not_make_a_recording_wait(house: OpenHouse, tmp_path: Path) -> None:
    clock = Wrong()
    async with house(clock=clock) as it:
        it.sandbox.faults.add("5xx_before", on="uploads", times=1)
        assert await it.store(an_object(tmp_path, rhythm(1))) == 0
        await it.until(lambda rows: bool(rows) and rows[0].state == "RETRY")
        clock.seconds = -3600
        (row,) = await it.settled(1)
        assert row.state == "CREATED"


async def test_f25_a_clock_that_is_set_back_just_after_the_line_was_looked_at_makes_nothing_wait(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, honest = Wrong(), line.next_due

    def next_due(conn: sa.Connection, destination: str) -> int | None:
        due = honest(conn, destination)
        if due is not None:
            clock.seconds = -3600
        return due

    monkeypatch.setattr(line, "next_due", next_due)
    async with house(clock=clock) as it:
        it.sandbox.faults.add("5xx_before", on="uploads", times=1)
        assert await it.store(an_object(tmp_path, rhythm(1))) == 0
        (row,) = await it.settled(1)
        assert (row.state, clock.seconds) == ("CREATED", -3600)
