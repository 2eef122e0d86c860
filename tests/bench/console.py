"""The console on a store of a million messages, beside the same on one of a thousand: through the application, as a
browser asks for it, and the reading alone.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from bridge.store import recent
from bridge.store.port import Connection
from bridge.store.search import Filters, find
from bridge.store.sqlite import SqliteStore
from tests.bench.console_store import COMMON, FIRST, GAP, RARE, fill
from tests.bench.report import row, verdict
from tests.protocol.console_front import opened

SIZES = (1_000, 1_000_000)
LONGEST = 150.0
"""Milliseconds: the bar at a million."""
_ROUNDS = 15
_PAGE = 50


@dataclass(frozen=True, slots=True)
class _Case:
    """What is asked for. `page`: so many pages further back."""

    name: str
    form: Mapping[str, str]
    filters: Filters = field(default_factory=Filters)
    page: int = 1

    def before(self, size: int) -> int | None:
        return None if self.page == 1 else max(size - self.page * _PAGE, 60)


def _cases(now: datetime, size: int) -> list[_Case]:
    back = now - timedelta(milliseconds=GAP * size // 2)
    hour = Filters(since=back, until=back + timedelta(hours=1))
    span = {"since": back.isoformat(), "until": (back + timedelta(hours=1)).isoformat()}
    return [
        _Case("first page", {}),
        _Case("page 1,000, by its key", {}, page=1000),
        _Case("a rare name", {"q": RARE}),
        _Case("a common beginning", {"q": "m"}),
        _Case("two common words", {"q": "family given1"}),
        _Case("two common words that never come together", {"q": f"{COMMON} {FIRST}"}),
        _Case("a task id", {"q": str(700_000_000 + size // 20 * 20 - 2006)}),
        _Case("the beginning of a control id", {"q": "msg000"}),
        _Case("a state of few", {"state": "IN_DOUBT"}, Filters(states=["IN_DOUBT"])),
        _Case("a state of many, a type of none", {"state": "CREATED", "type": "ADT^A40"},
              Filters(states=["CREATED"], types=["ADT^A40"])),
        _Case("an hour, half way back", span, hour),
        _Case("a name in that hour", {"q": COMMON, **span}, hour),
    ]  # fmt: skip


async def _measured(folder: Path, size: int) -> tuple[dict[str, tuple[float, float]], str]:
    """Milliseconds of each case: through the application, and of the reading alone. And what the store is like."""
    path, now = folder / f"{size}.db", datetime.now(UTC)
    began = time.perf_counter()
    fill(path, size, until=now)
    about = f"{path.stat().st_size / 1e6:,.0f} MB, made in {time.perf_counter() - began:.0f} s"
    store = SqliteStore(path)
    store.open(asyncio.get_running_loop())
    front = await opened(store)
    found: dict[str, tuple[float, float]] = {}
    try:
        await front.person("bench", "viewer")
        browser = await front.signed_in("bench")
        for case in _cases(now, size):
            before = case.before(size)
            form = {**case.form, **({"before": str(before)} if before else {})}
            text = case.form.get("q", "")
            through = await _median(lambda form=form: _posted(browser, form))  # type: ignore[misc]

            def alone(conn: Connection, case: _Case = case, text: str = text, before: int | None = before) -> Any:
                return find(conn, text, case.filters, before=before, limit=_PAGE)

            found[case.name] = (through, await _median(lambda alone=alone: store.read(alone)))  # type: ignore[misc]
        overview = await _median(lambda: browser.get("/"))
        found["the last hour's figures"] = (overview, await _median(lambda: store.read(_figures)))
    finally:
        await front.aclose()
        store.close()
    return found, about


async def _posted(browser: httpx.AsyncClient, form: Mapping[str, str]) -> None:
    answer = await browser.post("/messages/rows", data=dict(form))
    if answer.status_code != 200:
        raise SystemExit(f"the console answered {answer.status_code}")


def _figures(conn: Connection) -> recent.Recent:
    return recent.recent(conn, datetime.now(UTC))


async def _median(work: Callable[[], Awaitable[Any]]) -> float:
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def bench(folder: Path) -> None:
    """The lines of the table."""
    small, large = (asyncio.run(_measured(folder, size)) for size in SIZES)
    row("console: stores of 1,000 and 1,000,000 messages", f"{small[1]}; {large[1]}")
    for name, (through, alone) in large[0].items():
        before = small[0][name]
        figure = f"page {before[0]:.1f} / {through:.1f} ms, reading {before[1]:.1f} / {alone:.1f} ms"
        row(f"console: {name}", figure, f"{LONGEST:.0f} ms at a million", verdict((through, LONGEST), most=True))
