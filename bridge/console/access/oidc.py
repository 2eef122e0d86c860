"""An OpenID Connect provider over HTTPS: its discovery document, its keys, a code for an ID token.

The console's only file that knows httpx. Nothing is believed here but addresses; `id_token` verifies what came.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from bridge.clock import Clock
from bridge.console_settings import OidcSettings, is_protected
from bridge.errors import BridgeError

MOST = 1 << 20
"""Bytes of an answer."""
TIMEOUT = 10.0
"""Seconds for one call in all."""
FRESH = 3600.0
"""Seconds that a discovery document and keys count."""
RETRY = 60.0
"""Seconds between two looks for a key that was not there."""


class ProviderFailed(BridgeError):
    """The provider did not answer, or not as OpenID Connect has it. The text names the kind of fault alone."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is used of a discovery document (OpenID Connect Discovery 1.0 §3)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    by_post: bool  # it takes the client's secret in the body alone


class Provider:
    """The provider that the settings name. Redirects are not followed, and no proxy of the environment counts."""

    def __init__(self, settings: OidcSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, dict[str, Any]] | None = None

    async def metadata(self) -> Metadata:
        """Its addresses. Raises ProviderFailed."""
        now = self._clock.monotonic()
        if self._metadata is None or now - self._metadata[0] > FRESH:
            address = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
            self._metadata = now, self._read(await self._json("GET", address))
        return self._metadata[1]

    async def keys(self, *, anew: bool = False) -> dict[str, Any]:
        """Its keys (RFC 7517 §5); `anew` where one was missing, once a minute at the most. Raises ProviderFailed."""
        now = self._clock.monotonic()
        if self._keys is None or now - self._keys[0] > (RETRY if anew else FRESH):
            self._keys = now, await self._json("GET", (await self.metadata()).jwks_uri)
        return self._keys[1]

    async def id_token(self, code: str, verifier: str) -> str:
        """The ID token for an authorization code (OpenID Connect Core 1.0 §3.1.3). Raises ProviderFailed."""
        at = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect_url,
            "code_verifier": verifier,
        }
        client, secret = self._settings.client_id, await asyncio.to_thread(self._settings.read_secret)
        headers = {}
        if at.by_post:
            form |= {"client_id": client, "client_secret": secret}
        else:  # RFC 6749 §2.3.1: both encoded as in a form before they are joined
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")
        found = (await self._json("POST", at.token_endpoint, form, headers)).get("id_token")
        if not isinstance(found, str):
            raise ProviderFailed("the provider gave no ID token")
        return found

    def _read(self, document: Mapping[str, Any]) -> Metadata:
        if document.get("issuer") != self._settings.issuer:  # Discovery §4.3: exactly
            raise ProviderFailed("the provider calls itself by another issuer than console.oidc.issuer")
        named = [document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        addresses = [one for one in named if isinstance(one, str) and is_protected(one)]
        if len(addresses) != len(named):
            raise ProviderFailed("the provider's discovery document lacks an address, or has one without encryption")
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        authorize, exchange, keys = addresses
        return Metadata(
            authorize, exchange, keys, by_post="client_secret_basic" not in methods and "client_secret_post" in methods
        )

    async def _json(
        self,
        method: str,
        address: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One call; its answer is a JSON object of a bounded size."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(self._settings.trust)
        body = bytearray()
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=TIMEOUT) as client,
                client.stream(
                    method, address, data=form, headers={"accept": "application/json", **(headers or {})}
                ) as answer,
            ):
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MOST:
                        raise ProviderFailed("the provider's answer is longer than any of its kind")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as cause:
            raise ProviderFailed(f"the provider cannot be reached ({type(cause).__name__})") from cause
        if answer.status_code != httpx.codes.OK:
            raise ProviderFailed(f"the provider answered {answer.status_code}")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as cause:
            raise ProviderFailed("the provider's answer is no JSON") from cause
        if not isinstance(found, dict):
            raise ProviderFailed("the provider's answer is no JSON object")
        return found
