"""Routes: the first that fits decides, and what fits none is told."""

from collections.abc import Mapping
from typing import Any

import pytest

from bridge.dispatch.routing import NO_ROUTE, ROUTES_DIFFER, Routing, check_routes
from bridge.domain.task import Mapped
from bridge.errors import SettingsError
from bridge.formats.hl7.reader import Message, read
from bridge.mapping.rules import load_rules
from bridge.settings import Settings


def settings(
    *routes: Mapping[str, Any], unrouted: str = "first", first: tuple[Mapping[str, Any], ...] = ()
) -> Settings:
    """Destinations `cardio`, `d1`, `d2` …, each with one route."""
    beside = [{"name": f"d{n}", "organization_path": f"org{n}", "routes": [r]} for n, r in enumerate(routes, 1)]
    document = {"organization_path": "main", "routes": list(first), "unrouted": unrouted, "destinations": beside}
    hl7 = {"listeners": [{"name": "north", "listen": "127.0.0.1:0"}]}
    dicom = {"other_ae_titles": ["OTHER"]}
    return Settings.model_validate({"cardio": document, "hl7": hl7, "dicom": dicom})


def message(sender: str = "HIS|WARD", receiver: str = "CARDIO|NORTH") -> Message:
    return read(f"MSH|^~\\&|{sender}|{receiver}|20260301||ORM^O01|C1|P|2.5\rPID|1\r".encode())


def orders(*said: str) -> list[Mapped]:
    return [Mapped({}, destination=one) for one in said]


@pytest.mark.parametrize(
    ("route", "fits"),
    [
        ({"receiving_facility": "NORTH"}, True),
        ({"receiving_facility": "NORTHERN"}, False),
        ({"receiving_facility": "north"}, False),
        ({"receiving_application": "CARDIO"}, True),
        ({"receiving_application": "CARDIO", "receiving_facility": "SOUTH"}, False),
        ({"sender": "HIS|WARD"}, True),
        ({"sender": "HIS|*"}, True),
        ({"sender": "*|WARD"}, True),
        ({"sender": "*|*"}, True),
        ({"sender": "HIS|"}, False),
        ({"listener": "hl7"}, True),
        ({"listener": "hl7.north"}, False),
        ({"mapped": "M"}, True),
        ({"mapped": "N"}, False),
        ({"mapped": "M", "sender": "HIS|*"}, True),
        ({"calling_ae_title": "CART"}, False),
        ({"listener": "dicom"}, False),
    ],
)
def test_what_a_route_of_messages_names_must_agree(route: dict[str, str], fits: bool) -> None:
    routed = Routing(settings(route)).of_orders("hl7", message(), orders("M"))
    assert routed.name == ("d1" if fits else "cardio")


@pytest.mark.parametrize(
    ("route", "fits"),
    [
        ({"calling_ae_title": "CART"}, True),
        ({"calling_ae_title": "CART1"}, False),
        ({"called_ae_title": "CARDIOBRIDGE"}, False),
        ({"called_ae_title": "OTHER"}, True),
        ({"calling_ae_title": "CART", "called_ae_title": "OTHER"}, True),
        ({"listener": "dicom"}, True),
        ({"mapped": "M"}, True),
        ({"sender": "*|*"}, False),
        ({"receiving_facility": "NORTH"}, False),
    ],
)
def test_what_a_route_of_recordings_names_must_agree(route: dict[str, str], fits: bool) -> None:
    routed = Routing(settings(route)).of_recording("dicom.OTHER", "CART", Mapped({}, destination="M"))
    assert routed.name == ("d1" if fits else "cardio")


def test_an_object_that_calls_us_by_our_first_name_is_known_by_it() -> None:
    routing = Routing(settings({"called_ae_title": "CARDIOBRIDGE"}))
    assert routing.of_recording("dicom", "CART", Mapped({})).name == "d1"


def test_the_first_route_that_fits_decides_in_the_order_of_the_file() -> None:
    north, any_sender = {"receiving_facility": "NORTH"}, {"sender": "*|*"}
    assert Routing(settings(north, any_sender)).of_orders("hl7", message(), orders("")).name == "d1"
    assert Routing(settings(any_sender, north)).of_orders("hl7", message(), orders("")).name == "d1"
    assert Routing(settings(north, first=(any_sender,))).of_orders("hl7", message(), orders("")).name == "cardio"


def test_what_no_route_fits_is_held_where_the_site_wants_it_so() -> None:
    routing = Routing(settings({"receiving_facility": "SOUTH"}, unrouted="hold"))
    routed = routing.of_orders("hl7", message(), orders(""))
    assert (routed.name, routed.reason) == ("", NO_ROUTE)
    assert routing.of_recording("dicom", "CART", Mapped({})).reason == NO_ROUTE


def test_orders_of_one_message_that_go_to_two_destinations_are_held() -> None:
    routing = Routing(settings({"mapped": "A"}, {"mapped": "B"}))
    routed = routing.of_orders("hl7", message(), orders("A", "B"))
    assert (routed.name, routed.reason, routed.detail) == ("", ROUTES_DIFFER, {"orders": ["d1", "d2"]})
    assert routing.of_orders("hl7", message(), orders("A", "A")).name == "d1"
    assert routing.of_orders("hl7", message(), orders("A", "C")).detail == {"orders": ["d1", "cardio"]}


def test_what_is_told_of_a_route_names_no_patient() -> None:
    routed = Routing(settings({"mapped": "Canary"})).of_orders("hl7", message(), orders("Canary"))
    assert routed.detail == {"destination": "d1", "route": ["mapped"]}
    held = Routing(settings({"mapped": "A"}, unrouted="hold")).of_orders("hl7", message(), orders("Canary"))
    assert "Canary" not in str(held.detail)


@pytest.mark.parametrize(
    ("routes", "rules", "told"),
    [
        ([{"mapped": "A"}], None, "cardio.destinations.d1.routes: mapped needs the rule [destination]"),
        ([{"mapped": "north"}], {"destination": {"constant": "nroth"}}, "did you mean north?"),
        ([{"listener": "hl7"}], {"destination": {"constant": "A"}}, 'write routes = [{ mapped = "A" }]'),
        ([{"mapped": "A"}], {"senders": {"HIS|*": {"destination": {"constant": "B"}}}}, "no route of cardio knows B"),
    ],
)
def test_a_rule_that_no_route_knows_and_a_route_that_no_rule_says_are_errors(
    routes: list[dict[str, str]], rules: dict[str, Any] | None, told: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        check_routes(settings(*routes), {"hl7": load_rules(rules)})
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"destination": {"constant": "A"}},
        {"destination": {"hl7": ["PV1-3.4"]}},
        {"senders": {"HIS|*": {"destination": {"constant": "A"}}}},
        {"ae_titles": {"CART": {"destination": {"dicom": ["InstitutionName"]}}}},
    ],
)
def test_a_rule_of_one_peer_is_enough(rules: dict[str, Any]) -> None:
    check_routes(settings({"mapped": "A"}), {"hl7": load_rules(rules)})
