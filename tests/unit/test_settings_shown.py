"""The settings in force, for people: every key, who said it, and no secret."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bridge.console.settings_shown import MASK, Row, groups, without_secrets
from bridge.settings import Settings, load

DOCUMENT = """[store]
url = "sqlite:///var/bridge.db"
[hl7]
reply_budget = 3.0
codes.unknown_code = "AE"
tls = { certificate = "c.pem", key = "k.pem" }
[hl7.senders."HIS|*"]
reply_late = "hold"
[[hl7.listeners]]
name = "lab"
listen = "127.0.0.1:0"
[hl7.listeners.codes]
not_kept = "AE"
[dicom]
tls = { certificate = "c.pem", key = "k.pem", client_ca = "ca.pem" }
certificates = { "token.example" = ["CART1"] }
[dicom.peers.CART1]
address = "127.0.0.1:1"
tls = { ca = "ca.pem" }
[cardio]
organization_path = "one"
token = "CANARY1"
proxy = "http://bridge:CANARY2@proxy.example:3128"
[[cardio.destinations]]
name = "two"
organization_path = "two"
token_file = "two.token"
[[cardio.destinations]]
name = "three"
organization_path = "three"
[[cardio.destinations.routes]]
mapped = "3"
[console.oidc]
issuer = "https://id.example"
client_id = "bridge"
client_secret_file = "oidc.secret"
redirect_url = "https://bridge.example/sign-in/oidc/back"
roles = { ecg = "operator" }
[alarms]
silence = { hl7 = 60.0 }
[alarms.webhook]
url = "https://hooks.example/CANARY3?token=CANARY4"
secret_file = "hook.secret"
[alarms.mail]
host = "mail.example"
sender = "bridge@example.org"
to = ["ward@example.org"]
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name in ("two.token", "oidc.secret", "hook.secret", "k.pem"):
        Path(name).write_text("CANARY5")
    Path("bridge.toml").write_text(DOCUMENT)
    return load(None, {"BRIDGE_SITE__TIME_ZONE": "Europe/Berlin"})


def rows(settings: Settings, title: str) -> dict[str, Row]:
    (found,) = (group for group in groups(settings) if group.title == title)
    return {row.key: row for row in found.rows}


def keys(model: Any) -> set[str]:
    """Every field of a model's own, and of the tables in it."""
    return {
        key
        for name, value in ((name, getattr(model, name)) for name in type(model).model_fields)
        for key in ({f"{name}.{inner}" for inner in keys(value)} if isinstance(value, BaseModel) else {name})
    }


def test_every_key_of_every_section_is_there(loaded: Settings) -> None:
    for section in Settings.model_fields:
        assert keys(getattr(loaded, section)) <= rows(loaded, f"[{section}]").keys(), section
    for title, model in {
        "[hl7.listeners.lab]": loaded.hl7.listeners[0],
        '[hl7.senders."HIS|*"]': loaded.hl7.senders["HIS|*"],
        '[dicom.peers."CART1"]': loaded.dicom.peers["CART1"],
        "[cardio.destinations.two]": loaded.cardio.destinations[0],
        "[cardio.destinations.three]": loaded.cardio.destinations[1],
        "[cardio.destinations.three.routes.1]": loaded.cardio.destinations[1].routes[0],
    }.items():
        assert keys(model) <= rows(loaded, title).keys(), title
    assert rows(loaded, "[dicom]")['certificates."token.example"'].value == "CART1"
    assert rows(loaded, "[console]")['oidc.roles."ecg"'].value == "operator"


def test_no_secret_is_shown_and_of_a_file_that_holds_one_its_path(loaded: Settings) -> None:
    text = str(groups(loaded))
    assert "CANARY" not in text
    assert rows(loaded, "[cardio]")["token"].value == MASK
    assert rows(loaded, "[cardio]")["proxy"].value == f"http://{MASK}@proxy.example:3128"
    assert rows(loaded, "[alarms]")["webhook.url"].value == MASK
    assert rows(loaded, "[cardio.destinations.two]")["token_file"].value == "two.token"
    assert rows(loaded, "[console]")["oidc.client_secret_file"].value == "oidc.secret"
    assert rows(loaded, "[hl7]")["tls.key"].value == "k.pem"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://bridge:CANARY@db.example/bridge",
        "postgresql+psycopg://bridge:CAN@RY/CANARY@db.example/bridge",
        "postgresql+psycopg://db.example/bridge?user=bridge&password=CANARY&sslmode=verify-full",
        "https://proxy.example/?api_key=CANARY;x=1",
        "cannot be reached: http://bridge:CANARY@proxy.example:3128 (refused)",
    ],
)
def test_no_address_shows_what_it_has_before_its_host_or_behind_its_path(address: str) -> None:
    told = without_secrets(address)
    assert "CANARY" not in told
    assert MASK in told
    assert ".example" in told


def test_who_said_a_key_and_what_a_listener_or_a_destination_has_from_the_first(loaded: Settings) -> None:
    assert rows(loaded, "[site]")["time_zone"].origin == "environment BRIDGE_SITE__TIME_ZONE"
    assert rows(loaded, "[hl7]")["reply_budget"].origin == "bridge.toml:4"
    assert not rows(loaded, "[hl7]")["reply_late"].given
    lab = rows(loaded, "[hl7.listeners.lab]")
    assert lab["reply_budget"].origin == "bridge.toml:4, by [hl7]"
    assert lab["listen"].origin == "bridge.toml:11"
    assert lab["codes.not_kept"].origin == "bridge.toml:13"
    own = lab["codes.unknown_code"]  # its own table takes the place of the other one as a whole
    assert (own.value, own.origin) == (loaded.hl7.listeners[0].codes.unknown_code, "default")
    assert rows(loaded, '[hl7.senders."HIS|*"]')["reply_budget"].value == "as its listener"
    two, three = (rows(loaded, f"[cardio.destinations.{name}]") for name in ("two", "three"))
    assert (two["token"].value, two["token"].origin) == ("none", "default")
    assert three["token"].origin == "bridge.toml:22, by [cardio]"
    assert three["proxy"].origin == "bridge.toml:23, by [cardio]"
    assert loaded.cardio.destinations[0].token is None
