"""The REST client of the Cardio API (cardio_api.md). The only file that knows httpx.

Nothing here raises for what the network or the API does: every call ends in an `Outcome`. The task POST, the one call
that must never be made twice, goes its own way (`exchange`). The others may be repeated, so they go over kept
connections of httpx's; for them httpcore's trace event tells whether anything was sent. Exception names would not:
httpcore swallows a write error (failures.md §3.3).
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterable, Callable
from typing import Any, cast
from urllib.parse import quote

import httpx

from bridge.dispatch.cardio.exchange import CONNECT_WITHIN, Exchange, Proxy
from bridge.dispatch.cardio.response import (
    MOST_BODY,
    Response,
    TaskStatus,
    outcome_of,
    read_nothing,
    read_status,
    read_task_ids,
    read_upload_id,
)
from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Outcome, Unknown
from bridge.errors import BridgeError, SettingsError

_SENT = "http11.send_request_headers.started"
_JSON = (b"content-type", b"application/json")
_BYTES = (b"content-type", b"application/octet-stream")


class CardioClient:
    """One organization's API with one token, which is asked for anew at every call (F15).

    Each call ends within `timeout` seconds in all. Certificates are verified by the host's trust store, or by `ca_file`
    in its place; a proxy is the one named here and never one of the environment. Raises SettingsError where an
    address or a file cannot be used.
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
        self._token = token
        self._timeout = timeout
        self._base = _address(base_url)
        self._tasks = self._at(f"orgs/{quote(organization_path, safe='')}/tasks")
        self._uploads = self._at("uploads")
        try:
            way = Proxy.parse(proxy) if proxy else None
        except ValueError as cause:
            raise SettingsError(f"cardio.proxy: {cause}") from cause
        tls = _tls(ca_file) if self._base.scheme == "https" else None
        port = self._base.port or (443 if tls else 80)
        self._exchange = Exchange(self._base.raw_host.decode("ascii"), port, timeout, tls, way)
        # a transport, not a client: redirects, cookies and the environment's proxies stay out of the way
        self._kept = httpx.AsyncHTTPTransport(
            verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # for http:// a context that trusts nobody
            trust_env=False,
            proxy=httpx.Proxy(proxy) if proxy else None,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
        )
        connect = min(CONNECT_WITHIN, timeout)
        self._timeouts = {"connect": connect, "read": timeout, "write": timeout, "pool": timeout}
        # identity: an answer is read up to a limit, which a packed one could dodge
        self._headers = [
            (b"host", self._base.netloc),
            (b"accept", b"application/json"),
            (b"accept-encoding", b"identity"),
        ]

    async def aclose(self) -> None:
        """Close every connection."""
        await self._kept.aclose()

    async def open_upload(self, total_size: int, sha256: bytes) -> Outcome:
        """A session for a file of that size and digest; `upload_id` of the outcome names it (§1)."""
        declared = {"total_size": total_size, "hash_sum": base64.b64encode(sha256).decode("ascii")}
        return self._outcome(
            await self._call("POST", self._uploads, json.dumps(declared).encode(), _JSON), read_upload_id
        )

    async def send_chunk(self, upload_id: str, offset: int, data: bytes) -> Outcome:
        """The bytes that begin at `offset` (§2)."""
        url = self._at(f"uploads/{quote(upload_id, safe='')}/chunks?offset={offset}")
        return self._outcome(await self._call("POST", url, data, _BYTES), read_nothing)

    async def create_tasks(self, body: bytes) -> Outcome:
        """The task POST (§3): these very bytes, once."""
        token = self._header_of_token()
        if isinstance(token, NotSent):
            return token
        came = await self._exchange.post(self._tasks.raw_path, [*self._headers, token, _JSON], body)
        return self._outcome(came, read_task_ids)

    async def task_status(self, task_id: int) -> TaskStatus | Outcome:
        """How far a task is (§4)."""
        came = await self._call("GET", self._at_task(task_id))
        if isinstance(came, Response) and 200 <= came.status < 300:
            status = None if came.flaw else read_status(came.body)
            return status or BrokenAnswer(came.status, came.flaw or "no task status")
        return self._outcome(came, read_nothing)

    async def probe(self) -> Outcome:
        """Whether address and token work, by the status of task 0: 400 or 404 say that they do (§4)."""
        return self._outcome(await self._call("GET", self._at_task(0)), read_nothing)

    def _at(self, path: str) -> httpx.URL:
        return self._base.copy_with(raw_path=self._base.raw_path + path.encode("ascii"))

    def _at_task(self, task_id: int) -> httpx.URL:
        return self._tasks.copy_with(raw_path=self._tasks.raw_path + b"/%d/status" % task_id)

    @staticmethod
    def _outcome(came: Response | NotSent | Unknown, read: Callable[[bytes], Answered2xx | None]) -> Outcome:
        return outcome_of(came, read) if isinstance(came, Response) else came

    def _header_of_token(self) -> tuple[bytes, bytes] | NotSent:
        """X-Api-Token. A token that cannot be read, or stand in a header, is found before anything is sent."""
        try:
            token = self._token()
        except BridgeError as problem:
            return NotSent(str(problem))
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            return NotSent("the API token is empty or holds characters that no header may hold")
        return b"x-api-token", token.encode("ascii")

    async def _call(
        self, method: str, url: httpx.URL, body: bytes = b"", content_type: tuple[bytes, bytes] | None = None
    ) -> Response | NotSent | Unknown:
        """A call that may be repeated, over a kept connection."""
        token = self._header_of_token()
        if isinstance(token, NotSent):
            return token
        left = False

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal left
            # a proxy is asked for its tunnel by a request too, which is none of ours
            if event == _SENT and info["request"].method != b"CONNECT":
                left = True

        headers = [*self._headers, token]
        if content_type:
            headers += [content_type, (b"content-length", b"%d" % len(body))]
        request = httpx.Request(
            method,
            url,
            headers=headers,
            stream=httpx.ByteStream(body),
            extensions={"trace": trace, "timeout": self._timeouts},
        )
        head: httpx.Response | None = None
        parts: list[bytes] = []
        flaw = ""
        try:
            async with asyncio.timeout(self._timeout):
                head = await self._kept.handle_async_request(request)
                try:
                    flaw = await _bounded(head, parts)
                finally:
                    await head.aclose()
        except (httpx.TransportError, OSError) as problem:  # OSError: also the deadline's TimeoutError
            flaw = type(problem).__name__
            if head is None:
                return Unknown(flaw) if left else NotSent(f"{flaw}: {problem}".rstrip(": "))
        named = head.headers
        return Response(head.status_code, b"".join(parts), flaw, named.get("retry-after", ""), named.get("date", ""))


async def _bounded(response: httpx.Response, parts: list[bytes]) -> str:
    """Read the body into `parts`, up to its limit; returns its flaw, or nothing."""
    size = 0
    async for part in cast("AsyncIterable[bytes]", response.stream):
        size += len(part)
        if size > MOST_BODY:
            return f"over {MOST_BODY} bytes"
        parts.append(part)
    return ""


def _address(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/") + "/v3/")
    except httpx.InvalidURL as cause:
        raise SettingsError(f"cardio.base_url: no address: {cause}") from cause
    if url.scheme not in {"http", "https"} or not url.host:
        raise SettingsError("cardio.base_url: an address that begins with https:// is expected")
    return url


def _tls(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later; built once, since reading a trust store takes tens of milliseconds."""
    try:
        tls = ssl.create_default_context(cafile=ca_file)
    except OSError as cause:  # also ssl.SSLError: a file without a certificate
        raise SettingsError(f"cardio.ca_file: {ca_file} holds no certificate that can be read") from cause
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_alpn_protocols(["http/1.1"])
    return tls
