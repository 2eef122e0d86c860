"""An OpenID Connect provider for tests: as the standard has it, with a hand on every claim."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

_KEY = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
CLIENT, SECRET = "bridge at the hospital", "a client's secret / 100%"


@dataclass
class IdentityProvider:
    """`claims` are laid over what an ID token says; `sign` makes it otherwise altogether."""

    issuer: str = ""
    user: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "preferred_username": "Carla", "groups": []})
    claims: dict[str, Any] = field(default_factory=dict)
    sign: Any = None
    document: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    keys: list[Any] = field(default_factory=lambda: [_KEY])
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/keys", self._keys),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def _discovery(self, _: Request) -> Response:
        self.asked.append("discovery")
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                **self.document,
            }
        )

    async def _keys(self, _: Request) -> Response:
        self.asked.append("keys")
        return JSONResponse(KeySet(self.keys).as_dict(private=False))

    async def _authorize(self, request: Request) -> Response:
        """Whoever comes is signed in here already."""
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        back = f"{asked['redirect_uri']}?state={asked['state']}"
        if self.error:
            return RedirectResponse(f"{back}&error={self.error}&error_description=%3Cb%3Eno", 303)
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return RedirectResponse(f"{back}&code={code}", 303)

    async def _token(self, request: Request) -> Response:
        self.asked.append("token")
        form = dict(await request.form())
        given = request.headers.get("authorization", "")
        if given:
            pair = base64.b64decode(given.removeprefix("Basic ")).decode().split(":")
            client, secret = map(unquote, pair)
        else:
            client, secret = str(form["client_id"]), str(form["client_secret"])
        asked = self.codes.pop(str(form["code"]), None)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        fits = (
            asked is not None and challenge == asked["code_challenge"] and form["redirect_uri"] == asked["redirect_uri"]
        )
        if (client, secret) != (CLIENT, SECRET) or asked is None or not fits:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": asked["nonce"],
            **self.user,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return JSONResponse(
            {"access_token": "x", "token_type": "Bearer", "id_token": (self.sign or self.signed)(claims)}
        )

    def signed(self, claims: dict[str, Any], alg: str = "") -> str:
        """By the newest key."""
        key = self.keys[-1]
        alg = alg or ("ES256" if isinstance(key, ECKey) else "RS256")
        return jwt.encode({"alg": alg, "kid": key.kid}, claims, key, algorithms=[alg])

    def signed_text(self, text: str) -> str:
        """Signed, and no claims at all."""
        return jws.serialize_compact({"alg": "RS256", "kid": self.keys[-1].kid}, text, self.keys[-1])

    def unsigned(self, claims: dict[str, Any]) -> str:
        """`alg: none` (RFC 7519 §6.1)."""
        return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."

    def by_public_key(self, claims: dict[str, Any]) -> str:
        """HS256 with the public key as its secret (RFC 8725 §2.1); joserfc itself would not make one."""
        said = f"{_part({'alg': 'HS256', 'kid': self.keys[-1].kid})}.{_part(claims)}"
        made = hmac.digest(self.keys[-1].as_pem(private=False), said.encode(), "sha256")
        return f"{said}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"

    def by_a_stranger(self, claims: dict[str, Any]) -> str:
        """A key of somebody else's under our key's name."""
        return jwt.encode({"alg": "RS256", "kid": self.keys[-1].kid}, claims, RSAKey.generate_key(2048))

    def by_its_own_key(self, claims: dict[str, Any]) -> str:
        """A key that the token brings along (RFC 8725 §3.10)."""
        key = ECKey.generate_key("P-256")
        return jwt.encode({"alg": "ES256", "jwk": key.as_dict(private=False)}, claims, key)

    def altered(self, claims: dict[str, Any]) -> str:
        """Signed, and then made an admin of."""
        head, _, signature = self.signed(claims).split(".")
        return f"{head}.{_part({**claims, 'groups': ['chiefs']})}.{signature}"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
