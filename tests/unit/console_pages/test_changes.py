"""The stream by which open pages follow what happens."""

import asyncio

from bridge.console.changes import Changes
from bridge.store.port import Notice

CHANGED = b"event: changed\ndata: \n\n"


async def test_a_stream_begins_with_a_change_since_one_may_lie_between_the_page_and_it() -> None:
    changes = Changes()
    changes.hear([Notice("settled", 1)])  # behind the page, before its stream
    stream = changes.watch("vera")
    assert await anext(stream) == b"retry: 3000\n\n"
    assert await asyncio.wait_for(anext(stream), 20) == CHANGED
    changes.hear([Notice("settled", 2)])
    assert await asyncio.wait_for(anext(stream), 20) == CHANGED
    changes.end()
    assert [one async for one in stream] == []
