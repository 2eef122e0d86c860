"""The REST client of the Cardio API (cardio_api.md). The only file that knows httpx.

Nothing here raises for what the network or the API does: every call ends in an `Outcome`, and a task POST proves
whether any of its bytes left. httpcore swallows a write error, so exception names are not enough for that: the trace
event `http11.send_request_headers.started` is the proof (failures.md §3.3).
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx

from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Outcome, Refused, Unknown
from bridge.domain.task import UINT64_MAX

_MOST_ANSWER = 1 << 20
_MOST_TEXT = 500
_SENT = "http11.send_request_headers.started"


class CardioClient:
    """One organization's API with one token, which is read anew for every call.

    Task POSTs go over a connection of their own, without retries or redirects, within `timeout` seconds in all.
    Uploads keep their connections.
    """

    def __init__(
        self,
        *,
        base_url: str,
        organization_path: str,
        token: Callable[[], str],
        chunk_size: int = 1 << 20,
        timeout: float = 60.0,
        ca_file: str | None = None,
        proxy: str | None = None,
    ) -> None:
        self.chunk_size = chunk_size
        self._base = httpx.URL(base_url.rstrip("/") + "/v3/")
        self._tasks = self._base.join(f"orgs/{quote(organization_path, safe='')}/tasks")
        self._status = self._base.join(f"orgs/{quote(organization_path, safe='')}/tasks/")
        self._uploads = self._base.join("uploads")
        self._token = token
        self._timeout = timeout
        tls = ssl.create_default_context(cafile=ca_file)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        through = httpx.Proxy(proxy) if proxy else None
        # transports, not clients: redirects, cookies, retries and the environment's proxies stay out of the way
        self._kept = httpx.AsyncHTTPTransport(
            verify=tls, proxy=through, limits=httpx.Limits(max_connections=16, max_keepalive_connections=8)
        )
        self._fresh = httpx.AsyncHTTPTransport(
            verify=tls, proxy=through, limits=httpx.Limits(max_connections=64, max_keepalive_connections=0)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._kept.aclose()
        await self._fresh.aclose()

    async def open_upload(self, total_size: int, sha256: bytes) -> Outcome:
        """A session for a file of that size and digest; `upload_id` of the outcome names it (§1)."""
        declared = {"total_size": total_size, "hash_sum": base64.b64encode(sha256).decode("ascii")}
        body = json.dumps(declared).encode()
        return await self._call(self._kept, "POST", self._uploads, body, "application/json", _upload_id)

    async def send_chunk(self, upload_id: str, offset: int, data: bytes) -> Outcome:
        """The bytes that begin at `offset` (§2)."""
        url = self._base.join(f"uploads/{quote(upload_id, safe='')}/chunks?offset={offset}")
        return await self._call(self._kept, "POST", url, data, "application/octet-stream", _nothing)

    async def create_tasks(self, body: bytes) -> Outcome:
        """The task POST (§3): these very bytes, once."""
        return await self._call(self._fresh, "POST", self._tasks, body, "application/json", _task_ids)

    async def probe(self) -> Outcome:
        """Whether address and token work, by the status of task 0: 400 or 404 say that they do (§4)."""
        return await self._call(self._fresh, "GET", self._status.join("0/status"), b"", "", _nothing)

    async def _call(
        self,
        transport: httpx.AsyncHTTPTransport,
        method: str,
        url: httpx.URL,
        body: bytes,
        content_type: str,
        read: Callable[[bytes], Answered2xx | None],
    ) -> Outcome:
        left = False

        async def trace(event: str, _: dict[str, Any]) -> None:
            nonlocal left
            left = left or event == _SENT

        headers = {"host": url.netloc.decode("ascii"), "x-api-token": self._token(), "accept": "application/json"}
        if content_type:
            headers |= {"content-type": content_type, "content-length": str(len(body))}
        if transport is self._fresh:
            headers["connection"] = "close"
        request = httpx.Request(
            method, url, headers=headers, content=body, extensions={"trace": trace, "timeout": self._timeouts()}
        )
        try:
            async with asyncio.timeout(self._timeout):
                response = await transport.handle_async_request(request)
                try:
                    content = await _bounded(response)
                finally:
                    await response.aclose()
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError, ssl.SSLError) as problem:
            detail = type(problem).__name__
            return Unknown(detail) if left else NotSent(detail)
        if content is None:
            too_long = f"an answer over {_MOST_ANSWER} bytes"
            return BrokenAnswer(response.status_code, too_long) if response.is_success else Unknown(too_long)
        if not response.is_success:
            return Refused(response.status_code, _words(content), _retry_after(response))
        answered = read(content)
        return answered or BrokenAnswer(response.status_code, _words(content))

    def _timeouts(self) -> dict[str, float]:
        connect = min(10.0, self._timeout)
        return {"connect": connect, "read": self._timeout, "write": self._timeout, "pool": self._timeout}


async def _bounded(response: httpx.Response) -> bytes | None:
    """The body, or None where it is longer than any answer should be."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST_ANSWER:
            return None
        parts.append(part)
    return b"".join(parts)


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:  # also bytes that are not UTF-8
        return {}
    return document if isinstance(document, dict) else {}


def _upload_id(content: bytes) -> Answered2xx | None:
    upload_id = _document(content).get("upload_id")
    return Answered2xx(upload_id=upload_id) if isinstance(upload_id, str) and upload_id else None


def _task_ids(content: bytes) -> Answered2xx | None:
    """Unsigned 64-bit integers, exactly; anything else in the list is no answer (F23)."""
    found = _document(content).get("created_task_ids")
    if not isinstance(found, list) or not all(type(i) is int and 0 <= i <= UINT64_MAX for i in found):
        return None
    return Answered2xx(task_ids=tuple(found))


def _nothing(_: bytes) -> Answered2xx:
    return Answered2xx()


def _words(content: bytes) -> str:
    """The API's own words: a bare JSON string, else the text as it is, cut. For the operator only."""
    text = content.decode("utf-8", "replace")
    try:
        said = json.loads(text)
    except ValueError:
        said = text
    return (said if isinstance(said, str) else text)[:_MOST_TEXT]


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After (RFC 9110 §10.2.3: a number or a date); None where there is none to read."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
