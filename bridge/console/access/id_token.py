"""An ID token verified, and what it says of a person (OpenID Connect Core 1.0 §3.1.3.7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from bridge.console.access.visitor import Role
from bridge.console_settings import OidcSettings
from bridge.errors import BridgeError

ALGORITHMS = ("RS256", "ES256")
"""What may sign: no secret that both sides have, and never nothing (RFC 8725 §3.1)."""
SKEW = 10
"""Seconds that the provider's clock may be off."""


class TokenRefused(BridgeError):
    """An ID token that proves nothing; the text names the claim, never its value."""


class UnknownKey(TokenRefused):
    """It is signed with a key that is not among those known."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says this is."""

    subject: str  # issuer and sub
    name: str  # as the claim has it; empty where it has none
    role: Role | None  # by the highest of the groups; None where none has one


def verified(token: str, keys: Mapping[str, Any], settings: OidcSettings, *, nonce: str, now: datetime) -> Identity:
    """Signature, issuer, audience, time and nonce. Raises TokenRefused, and UnknownKey where newer keys may help."""
    try:
        found = jwt.decode(token, KeySet.import_key_set(dict(keys)), algorithms=list(ALGORITHMS))  # type: ignore[arg-type]  # what came is checked by it
        wanted = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=SKEW,
            iss={"essential": True, "value": settings.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        wanted.validate(found.claims)
    except InvalidKeyIdError as cause:
        raise UnknownKey("the ID token is signed with a key that the provider does not name") from cause
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as cause:
        # beside its own errors, joserfc lets through those of what is no token or no key at all
        raise TokenRefused(f"the ID token was refused: {_why(cause)}") from cause
    claims = found.claims
    _authorized(claims, settings.client_id)
    if not isinstance(claims["nonce"], str) or len(claims["sub"]) > 255:
        raise TokenRefused("the ID token was refused: nonce or sub")
    name = claims.get(settings.name_claim)
    return Identity(
        subject=f"{settings.issuer} {claims['sub']}",
        name=name if isinstance(name, str) else "",
        role=_role(claims.get(settings.groups_claim), settings),
    )


def _why(cause: Exception) -> str:
    claim = getattr(cause, "claim", None)
    return f"claim {claim}" if claim else type(cause).__name__


def _authorized(claims: Mapping[str, Any], client_id: str) -> None:
    """§3.1.3.7, 3 to 5: of several audiences it must say that it was made for us."""
    audience, party = claims["aud"], claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and party is None) or party not in {None, client_id}:
        raise TokenRefused("the ID token was refused: claim azp")


def _role(groups: Any, settings: OidcSettings) -> Role | None:
    named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    roles = [Role[settings.roles[g].upper()] for g in named if isinstance(g, str) and g in settings.roles]
    return max(roles, default=None)
