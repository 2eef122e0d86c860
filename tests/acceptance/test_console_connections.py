"""Whoever keeps connections to the console open takes nothing away from orders and recordings (F1)."""

import asyncio
import contextlib
import socket
from pathlib import Path

import httpx
import pytest

from bridge import app
from bridge.console import changes, connections
from bridge.settings import host_port
from tests.acceptance.console_browser import browsing
from tests.acceptance.receiver import field_of
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording

FEW = 8
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nq="


async def silent(
    it: House, stack: contextlib.AsyncExitStack, many: int, said: bytes = b""
) -> list[asyncio.StreamReader]:
    """So many connections that say nothing, or no more than this."""
    readers = []
    for _ in range(many):
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(*host_port(it.up.addresses["console"]))
            stack.callback(writer.close)
            readers.append(reader)
            if said:
                writer.write(said)
    return readers


async def over(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes; waits for it."""
    async with asyncio.timeout(30):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True


async def test_f1_silent_connections_beyond_the_bound_are_closed_and_orders_and_recordings_come_in(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST", FEW)
    async with house() as it, contextlib.AsyncExitStack() as stack:
        readers = await silent(it, stack, FEW + 20)
        closed = [asyncio.ensure_future(over(reader)) for reader in readers]
        async with asyncio.timeout(30):
            for number, one in enumerate(asyncio.as_completed(closed), 1):
                assert await one
                if number == len(readers) - FEW:
                    break
        assert field_of(await it.hl7(order()), "MSA", 1) == "AA"
        assert await it.store(recording(tmp_path)) == 0
        assert sum(not one.done() for one in closed) == FEW
        for one in closed:
            one.cancel()
        await asyncio.gather(*closed, return_exceptions=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("HEAD", b""),
        ("HEAD", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-"),
        ("HEAD", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET"),
        (
            "BODY",
            b"POST /messages HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\n" + FORM + b"Content-Length: 9\r\n\r\nq=",
        ),
    ],
)
async def test_f1_a_client_that_stops_half_way_is_let_go(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, name: str, said: bytes
) -> None:
    monkeypatch.setattr(connections, name, 0.2)
    async with house() as it, contextlib.AsyncExitStack() as stack:
        at = it.up.addresses["console"].encode()
        (reader,) = await silent(it, stack, 1, said.replace(b"%s", at))
        assert await over(reader)


async def test_a_connection_in_use_outlasts_the_patience_for_a_request(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD", 0.2)
    async with house() as it, browsing(it) as browser, browser.client.stream("GET", "/events") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 3000"
        for number in range(3):
            await asyncio.sleep(0.2)
            await it.hl7(order(f"C{number}", f"PL-{number}"))
            while await anext(lines) != "event: changed":
                pass


async def test_f1_a_browser_that_takes_nothing_of_its_answers_is_let_go(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STUCK", 0.2)
    gone = asyncio.Event()

    class Watched(connections.TimelyProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            gone.set()

    monkeypatch.setattr(app, "TimelyProtocol", Watched)
    async with house() as it:
        with socket.create_connection(host_port(it.up.addresses["console"])) as browser:
            browser.sendall(b"GET /static/htmx.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400)
            async with asyncio.timeout(30):
                await gone.wait()


async def test_f1_one_persons_streams_are_bounded(house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_OF_ONE", 3)
    async with house() as it, browsing(it) as browser, contextlib.AsyncExitStack() as stack:
        opened: list[httpx.Response] = []
        for _ in range(4):
            one = await stack.enter_async_context(browser.client.stream("GET", "/events"))
            opened.append(one)
        assert [one.status_code for one in opened] == [200, 200, 200, 503]
        await opened[0].aclose()
        async with asyncio.timeout(30):
            while (await stack.enter_async_context(browser.client.stream("GET", "/events"))).status_code == 503:
                await it.hl7(order())  # the end of a stream is seen when something is said on it
