"""What a person does on the page that tells what a message would become."""

import html
import json
import re
from typing import Any

import httpx

from tests.acceptance.scene import House

Upload = tuple[str, tuple[str, bytes]]


def page_of(it: House) -> httpx.AsyncClient:
    """A browser at the console."""
    at = f"http://{it.up.addresses['console']}"
    return httpx.AsyncClient(base_url=at, headers={"accept": "text/html", "origin": at}, timeout=300)


async def tried(it: House, files: list[tuple[str, bytes]], **fields: str) -> httpx.Response:
    """The page after a form was sent."""
    parts: list[Upload] = [("file", one) for one in files]
    async with page_of(it) as browser:
        return await browser.post("/mapping/try", data=fields, files=parts or [("file", ("", b""))])


def told(answer: httpx.Response) -> list[dict[str, Any]]:
    """What stands on the page as JSON."""
    assert answer.status_code == 200, answer.text[:2000]
    found = re.search(r'<pre id="json">(.*?)</pre>', answer.text, re.DOTALL)
    assert found is not None
    results: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return results
