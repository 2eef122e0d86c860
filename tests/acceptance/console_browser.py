"""A browser at the console of a running bridge: what it is shown, and forms as it sends them."""

import contextlib
import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from tests.acceptance.scene import House


@dataclass
class Browser:
    """It does not follow a redirect by itself: where a form leads is part of what is shown."""

    client: httpx.AsyncClient

    async def page(self, path: str, status: int = 200) -> str:
        """A page as it is sent; its status must be this one."""
        answer = await self.client.get(path)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.text

    async def post(self, path: str, **form: object) -> httpx.Response:
        """A form."""
        return await self.client.post(path, data=form)

    async def done(self, path: str, **form: object) -> str:
        """A form that is done; where the browser is sent to."""
        answer = await self.post(path, **form)
        assert answer.status_code == 303, f"{path}: {answer.status_code} {said(answer.text)}"
        return answer.headers["location"]

    async def refused(self, path: str, **form: object) -> str:
        """A form that is refused: the page that says why."""
        answer = await self.post(path, **form)
        assert answer.status_code == 409, f"{path}: {answer.status_code} {answer.headers}"
        return answer.text


@contextlib.asynccontextmanager
async def browsing(it: House) -> AsyncIterator[Browser]:
    """At that house's console, which asks nobody who he is."""
    at = f"http://{it.up.addresses['console']}"
    async with httpx.AsyncClient(base_url=at, headers={"accept": "text/html", "origin": at}, timeout=60) as client:
        yield Browser(client)


def said(page: str) -> str:
    """The text of a page, without its marks."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def notice(page: str) -> str:
    """What the page says of what was asked."""
    found = re.search(r'<p class="notice[^"]*" role="(?:alert|status)">(.*?)</p>', page, re.DOTALL)
    return said(found[1]) if found else ""


def value_of(page: str, name: str) -> str:
    """What stands in a form's field."""
    found = re.search(rf'<input id="{name}"[^>]* value="([^"]*)"', page)
    assert found is not None, name
    return html.unescape(found[1])
