"""A real browser before the whole bridge; its pictures are kept in build/pictures."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.acceptance.conftest import house

__all__ = ["house"]  # the bridge that the pages are of

PICTURES = Path("build/pictures")
WIDE, NARROW = (1280, 800), (390, 844)
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 60_000
"""Milliseconds for what must happen: a loaded machine is no fault."""

OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def browser(peer: Callable[[str], str]) -> AsyncIterator[Browser]:
    """Debian's Chromium, without its own network chatter."""
    program = peer("chromium")
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=program, args=flags, timeout=PATIENCE)
        yield opened
        await opened.close()


@pytest.fixture
async def look(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens a page for one person: a browser context of its own. An error of a script, and what the
    content security policy would not have, fails the test.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def opened(address: str, *, size: tuple[int, int] = WIDE, dark: bool = False, script: bool = True) -> Page:
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            base_url=address,
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
        await page.goto("/")
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert complaints == []
