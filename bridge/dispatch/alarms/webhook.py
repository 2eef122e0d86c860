"""Alarms for machines: a POST of JSON, signed where there is a key. One of the two files that know httpx."""

import asyncio
import ssl

import httpx

from bridge.alarm_settings import WebhookSettings
from bridge.clock import Clock
from bridge.dispatch.alarms.letters import Later, Letter, Never, Outcome, Sent, as_json, signature
from bridge.errors import SettingsError

_AGAIN = frozenset({408, 425, 429})
"""Client errors that mean "again" (RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4)."""
_LONGEST = 900.0


class Webhook:
    """One address. Redirects are not followed and the environment's proxies are not asked.

    Certificates are verified by the host's trust store, or by `ca` in its place. Raises SettingsError where that or the
    proxy cannot be used.
    """

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        try:
            self._tls = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
            self._proxy = httpx.Proxy(settings.proxy.get_secret_value()) if settings.proxy else None
            self._url = httpx.URL(settings.url.get_secret_value())
        except OSError as cause:
            raise SettingsError("alarms.webhook.ca: the file holds no certificate that can be read") from cause
        except (ValueError, httpx.InvalidURL) as cause:  # its text may hold the address, which may be a secret
            raise SettingsError("alarms.webhook: url or proxy is no address") from cause
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    def secret(self) -> bytes | None:
        """The key of the signature, read anew each time; None where there is none. Raises SettingsError."""
        path = self._settings.secret_file
        if path is None:
            return None
        try:
            found = path.read_bytes().strip()
        except OSError as cause:
            raise SettingsError(f"alarms.webhook.secret_file: {path} cannot be read: {cause.strerror}") from cause
        if len(found) < 16:
            raise SettingsError(f"alarms.webhook.secret_file: {path} holds less than 16 bytes")
        return found

    async def send(self, letter: Letter) -> Outcome:
        """2xx: sent. Another 4xx than 408, 425 and 429: never. All else: later."""
        body = as_json(letter)
        headers = {"content-type": "application/json", "bridge-delivery": letter.id, "accept-encoding": "identity"}
        try:
            secret = self.secret()
        except SettingsError:
            return Later("secret_not_read")
        if secret is not None:
            headers["bridge-signature"] = signature(body, secret, self._clock.now())
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._post(body, headers)
        except (httpx.HTTPError, OSError) as problem:  # OSError: also the deadline's TimeoutError
            return Later(type(problem).__name__)

    async def _post(self, body: bytes, headers: dict[str, str]) -> Outcome:
        """On a connection of its own: alarms are rare. Nothing of the answer's body is read."""
        transport = httpx.AsyncHTTPTransport(verify=self._tls, proxy=self._proxy, trust_env=False)
        async with (
            httpx.AsyncClient(
                transport=transport, timeout=self._settings.timeout, follow_redirects=False, trust_env=False
            ) as client,
            client.stream("POST", self._url, content=body, headers=headers) as answer,
        ):
            return outcome_of(answer.status_code, answer.headers.get("retry-after", ""))


def outcome_of(status: int, retry_after: str) -> Outcome:
    """What a status means. `Retry-After` counts in seconds, a quarter of an hour at the most."""
    if 200 <= status < 300:
        return Sent()
    if 400 <= status < 500 and status not in _AGAIN:
        return Never(f"http_{status}")
    asked = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return Later(f"http_{status}", min(asked, _LONGEST))
