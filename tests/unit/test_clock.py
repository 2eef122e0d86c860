"""The machine's clock, as the loops of the service wait by it."""

import asyncio

import pytest

from bridge.clock import SystemClock


@pytest.mark.parametrize("turns", range(6))
async def test_f43_a_cancel_that_meets_the_event_is_not_swallowed(turns: int) -> None:
    event = asyncio.Event()

    async def loop_of_the_service() -> None:
        while True:
            event.clear()
            await SystemClock().wait(event, 30)

    task = asyncio.create_task(loop_of_the_service())
    for _ in range(2):
        await asyncio.sleep(0)
    event.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()
