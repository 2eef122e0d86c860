"""An ID token is believed where signature, issuer, audience, time and nonce are right, and never otherwise."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, KeySet, RSAKey

from bridge.console.access.id_token import Identity, TokenRefused, UnknownKey, verified
from bridge.console.access.visitor import Role
from bridge.console_settings import OidcSettings
from tests.protocol.oidc_provider import CLIENT, IdentityProvider

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = int(NOW.timestamp())
ISSUER = "https://idp.example/"
SETTINGS = OidcSettings(
    issuer=ISSUER,
    client_id=CLIENT,
    client_secret_file=Path("none"),
    redirect_url="https://bridge.example/sign-in/oidc/back",
    roles={"nurses": "viewer", "engineers": "operator", "chiefs": "admin"},
)
GOOD = {
    "iss": ISSUER,
    "sub": "u-1",
    "aud": CLIENT,
    "exp": AT + 300,
    "iat": AT,
    "nonce": "n-1",
    "preferred_username": "Carla",
    "groups": ["nurses", "chiefs", "strangers"],
}


@pytest.fixture(scope="module")
def idp() -> IdentityProvider:
    return IdentityProvider(issuer=ISSUER)


def _believed(idp: IdentityProvider, token: str, keys: list[Any] | None = None) -> Identity:
    public = KeySet(keys or idp.keys).as_dict(private=False)
    return verified(token, public, SETTINGS, nonce="n-1", now=NOW)


def test_a_good_one_says_who_it_is(idp: IdentityProvider) -> None:
    assert _believed(idp, idp.signed(GOOD)) == Identity(f"{ISSUER} u-1", "Carla", Role.ADMIN)
    assert _believed(idp, idp.signed({**GOOD, "aud": [CLIENT]})).role is Role.ADMIN
    assert _believed(idp, idp.signed({**GOOD, "aud": [CLIENT, "x"], "azp": CLIENT})).role is Role.ADMIN
    assert _believed(idp, idp.signed({**GOOD, "exp": AT - 9, "iat": AT + 9, "nbf": AT + 9})).role is Role.ADMIN


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["nurses"], Role.VIEWER),
        ("engineers", Role.OPERATOR),
        (["strangers"], None),
        ([], None),
        (None, None),
        ([["chiefs"], 7, None], None),
        ({"chiefs": True}, None),
        ("nurses chiefs", None),
    ],
)
def test_groups_are_taken_to_the_letter(idp: IdentityProvider, groups: Any, role: Role | None) -> None:
    assert _believed(idp, idp.signed({**GOOD, "groups": groups})).role is role


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"nonce": "another"}, "claim nonce"),
        ({"nonce": None}, "claim nonce"),
        ({"nonce": ""}, "claim nonce"),
        ({"nonce": ["n-1"]}, "nonce"),
        ({"aud": "another client"}, "claim aud"),
        ({"aud": None}, "claim aud"),
        ({"aud": []}, "claim aud"),
        ({"aud": {CLIENT: 1}}, "claim aud"),
        ({"aud": [CLIENT, "another client"]}, "claim azp"),
        ({"aud": [CLIENT, "another client"], "azp": "another client"}, "claim azp"),
        ({"azp": "another client"}, "claim azp"),
        ({"azp": ""}, "claim azp"),
        ({"iss": "https://idp.example"}, "claim iss"),
        ({"iss": "https://evil.example/"}, "claim iss"),
        ({"iss": [ISSUER]}, "claim iss"),
        ({"iss": None}, "claim iss"),
        ({"exp": AT - 10}, "claim exp"),
        ({"exp": None}, "claim exp"),
        ({"exp": "tomorrow"}, "claim exp"),
        ({"iat": AT + 11}, "claim iat"),
        ({"iat": None}, "claim iat"),
        ({"nbf": AT + 11}, "claim nbf"),
        ({"sub": None}, "claim sub"),
        ({"sub": ""}, "claim sub"),
        ({"sub": 7}, "claim sub"),
        ({"sub": "x" * 256}, "sub"),
    ],
)
def test_a_claim_that_is_not_right_is_refused_by_its_name(
    idp: IdentityProvider, claims: dict[str, Any], said: str
) -> None:
    whole = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    with pytest.raises(TokenRefused, match=f"the ID token was refused: .*{said}") as refused:
        _believed(idp, idp.signed(whole))
    assert "another" not in str(refused.value)


FORGERIES: dict[str, Callable[[IdentityProvider], str]] = {
    "unsigned": lambda idp: idp.unsigned(GOOD),
    "unsigned, with the good one's signature": lambda idp: idp.unsigned(GOOD) + idp.signed(GOOD).split(".")[2],
    "HS256 with the public key": lambda idp: idp.by_public_key(GOOD),
    "a key of somebody else's": lambda idp: idp.by_a_stranger(GOOD),
    "a key that it brings along": lambda idp: idp.by_its_own_key(GOOD),
    "altered": lambda idp: idp.altered({**GOOD, "groups": []}),
    "without its signature": lambda idp: idp.signed(GOOD).rpartition(".")[0] + ".",
    "nothing": lambda _: "",
    "no token": lambda _: "no.to.ken",
    "five parts": lambda idp: idp.signed(GOOD) + ".x.y",
    "not ASCII": lambda idp: idp.signed(GOOD) + "ü",
    "a list": lambda idp: idp.signed_text("[]"),
    "no JSON": lambda idp: idp.signed_text("{"),
    "very long": lambda idp: idp.signed({**GOOD, "more": "x" * 200_000}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_the_provider_did_not_sign_is_refused(idp: IdentityProvider, forgery: str) -> None:
    token = FORGERIES[forgery](idp)
    with pytest.raises(TokenRefused, match="the ID token was refused"):
        _believed(idp, token)


def test_algorithms_are_those_on_the_list_whatever_the_key_can(idp: IdentityProvider) -> None:
    curve = ECKey.generate_key("P-256", {"kid": "ec-1"})
    assert _believed(idp, IdentityProvider(keys=[curve]).signed(GOOD), [*idp.keys, curve]).role is Role.ADMIN
    for alg in ("RS384", "PS256", "RS512"):
        with pytest.raises(TokenRefused, match="refused"):
            _believed(idp, idp.signed(GOOD, alg))


def test_a_key_that_is_not_known_yet_is_told_apart(idp: IdentityProvider) -> None:
    other = RSAKey.generate_key(2048, {"kid": "rsa-2"})
    with pytest.raises(UnknownKey):
        _believed(idp, IdentityProvider(keys=[other]).signed(GOOD), [*idp.keys, ECKey.generate_key("P-256")])


@pytest.mark.parametrize(
    "keys", [{}, {"keys": []}, {"keys": [{}]}, {"keys": "x"}, {"keys": [{"kty": "RSA", "n": "!"}]}]
)
def test_keys_that_are_none_are_refused(idp: IdentityProvider, keys: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        verified(idp.signed(GOOD), keys, SETTINGS, nonce="n-1", now=NOW)
