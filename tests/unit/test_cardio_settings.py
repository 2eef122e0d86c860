"""Destinations in the settings: what each inherits, and what cannot be meant."""

from pathlib import Path
from typing import Any

import pytest

from bridge.errors import SettingsError
from bridge.settings import CardioSettings, load

FIRST = 'base_url = "https://api.example"\norganization_path = "main"\ntoken_file = "main.token"\n'


def cardio(tmp_path: Path, text: str, first: str = FIRST, **environment: str) -> CardioSettings:
    """The section of a file that ends with `text`."""
    path = tmp_path / "bridge.toml"
    path.write_text(f"[cardio]\n{first}{text}", encoding="utf-8")
    return load(path, environment).cardio


def beside(**values: Any) -> str:
    """A further destination, `north` where it has no other name."""
    named = {"name": "north", **values}
    return "[[cardio.destinations]]\n" + "".join(
        f"{k} = {v if isinstance(v, bool | int | float) or str(v).startswith('[') else repr(v)}\n"
        for k, v in named.items()
        if v is not None
    )


def test_without_further_destinations_there_is_the_one_and_its_name_is_cardio(tmp_path: Path) -> None:
    assert list(cardio(tmp_path, "").all()) == ["cardio"]


def test_a_destination_inherits_what_it_does_not_set_itself(tmp_path: Path) -> None:
    first = FIRST + 'upload_format = "edf"\nin_flight = 3\nrate = 2.5\nroutes = [{ listener = "hl7" }]\n'
    north = cardio(tmp_path, beside(organization_path="north", in_flight=5), first).all()["north"]
    assert (north.base_url, north.token_file, north.organization_path) == ("https://api.example", "main.token", "north")
    assert (north.upload_format, north.in_flight, north.rate, north.routes) == ("edf", 5, 2.5, ())


@pytest.mark.parametrize("lent", ["the file", "the environment"])
def test_a_destination_with_a_token_of_its_own_never_speaks_with_another_ones(tmp_path: Path, lent: str) -> None:
    own = tmp_path / "north.token"
    own.write_text("of-north\n", encoding="ascii")
    environment = {"BRIDGE_CARDIO__TOKEN": "of-main"} if lent == "the environment" else {}
    made = cardio(tmp_path, beside(organization_path="north", token_file=str(own)), **environment)
    assert made.all()["north"].read_token() == "of-north"


def test_a_token_may_be_shared_where_somebody_says_so(tmp_path: Path) -> None:
    north = cardio(tmp_path, beside(base_url="https://other.example", token_file="main.token")).all()["north"]
    assert (north.base_url, north.token_file) == ("https://other.example", "main.token")


def test_the_token_that_is_missing_is_named_by_its_destination(tmp_path: Path) -> None:
    made = cardio(tmp_path, beside(organization_path="north", token_file=str(tmp_path / "none")))
    with pytest.raises(SettingsError, match=r"^cardio\.destinations\.north\.token_file: "):
        made.all()["north"].read_token()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (beside(name="cardio", organization_path="x"), "each needs a name of its own"),
        (beside(organization_path="x") + beside(organization_path="y"), "each needs a name of its own"),
        (beside(), "cardio and north are one organization of one API"),
        (
            beside(base_url="https://API.example/", organization_path="main", token_file="t"),
            "cardio and north are one organization of one API",
        ),
        (beside(base_url="https://other.example"), "north has an address of its own; name the token_file"),
        (beside(base_url="http://other.example", token_file="t"), "http:// is taken for loopback only"),
        (beside(name=None, organization_path="x"), "destinations.0.name: Field required"),
        (beside(organisation_path="x"), "destinations.0.organisation_path: unknown setting; did you mean organization"),
        (beside(name="North", organization_path="x"), "destinations.0.name: String should match"),
        (beside(organization_path="x", routes="[{}]"), "a route names one of receiving_application, "),
        (beside(organization_path="x", routes="[{ sendr = 'A|B' }]"), "unknown setting; did you mean sender?"),
        (beside(organization_path="x", routes="[{ sender = 'HIS' }]"), "routes.0.sender: String should match"),
        (
            beside(organization_path="x", routes="[{ sender = 'A|B', calling_ae_title = 'C' }]"),
            "a route of HL7 messages and of DICOM objects at once fits nothing",
        ),
        (
            beside(organization_path="x", routes="[{ listener = 'hl7', called_ae_title = 'C' }]"),
            "a route of HL7 messages and of DICOM objects at once fits nothing",
        ),
        (beside(organization_path="x", routes="[{ listener = 'hl' }]"), "listener hl: nothing comes in that way; did"),
        (
            beside(organization_path="x", routes="[{ called_ae_title = 'CARDIO' }]"),
            "called_ae_title CARDIO: nothing comes in that way; did you mean CARDIOBRIDGE?",
        ),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_the_way_out(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as raised:
        cardio(tmp_path, text)
    assert told in str(raised.value)


def test_an_organization_that_is_missing_is_named_by_its_destination(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("x", encoding="ascii")
    first = f'organization_path = ""\ntoken_file = "{tmp_path}/t"\n'
    with pytest.raises(SettingsError, match=r"^cardio\.organization_path: "):
        cardio(tmp_path, "", first).require_ready()
