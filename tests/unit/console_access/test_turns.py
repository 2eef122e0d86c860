"""Requests of one asker take turns; nobody else waits for them (F1)."""

import asyncio

from bridge.console.access.turns import AT_ONCE, Turns


async def test_f1_one_asker_is_worked_for_a_few_times_at_once_and_another_at_any_time() -> None:
    turns, go = Turns(), asyncio.Event()
    under_way, most = 0, 0

    async def ask(who: str) -> None:
        nonlocal under_way, most
        async with turns.turn(who):
            under_way, most = under_way + 1, max(most, under_way + 1)
            await go.wait()
            under_way -= 1

    many = [asyncio.ensure_future(ask("person anna")) for _ in range(50)]
    while under_way < AT_ONCE:  # noqa: ASYNC110  each has its turn by its own step
        await asyncio.sleep(0)
    async with asyncio.timeout(30), turns.turn("person max"):
        pass
    many[0].cancel()
    many[-1].cancel()
    go.set()
    await asyncio.gather(*many, return_exceptions=True)
    assert (most, under_way) == (AT_ONCE, 1), "the one that was ended at its work did not count itself"
    async with asyncio.timeout(30), turns.turn("person anna"):
        pass
