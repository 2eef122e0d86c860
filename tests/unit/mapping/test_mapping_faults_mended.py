"""Faults that were found in the room, each with the case that showed it."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from bridge.domain.task import NumberKind, OrderNumber
from bridge.errors import SettingsError
from bridge.mapping.orders import map_order
from bridge.mapping.recordings import map_recording
from bridge.mapping.rules import load_rules
from bridge.mapping.times import date_of
from tests.unit.mapping.fake_source import Dicom, Hl7

RULES = load_rules(None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def recorded(**values):
    return map_recording(Dicom(values), RULES, time_zone="Europe/Berlin", time_offset_ms=Decimal(0))


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("1970-0330", None),  # a year, in Newfoundland
        ("197001-0500", None),  # a month, in New York
        ("1970-01.31", None),
        ("19700131-0330", date(1970, 1, 31)),
        ("1970-01-31", date(1970, 1, 31)),
        ("1970.01.31", date(1970, 1, 31)),
    ],
)
def test_the_offset_behind_a_part_of_a_date_is_never_its_month_or_day(sent, read):
    assert date_of(sent) == read
    mapped = map_order(Hl7(f"PID|1||4711||||{sent}"), RULES, now=NOW)
    assert mapped.fields.get("patient_birth_date") == (read.isoformat() if read else None)


def test_a_newborn_recorded_on_its_birthday_in_another_zone_keeps_its_birth_date():
    mapped = recorded(AcquisitionDateTime="20260302003000+0900", PatientBirthDate="20260302")
    assert mapped.fields["recording_start_time"] == "2026-03-01T15:30:00Z"  # the first of March in Berlin
    assert mapped.fields["patient_birth_date"] == "2026-03-02"


def test_nobody_is_born_in_the_future_where_the_object_has_no_start():
    mapped = recorded(PatientBirthDate="29990101")
    assert "patient_birth_date" not in mapped.fields
    assert any(w.startswith("PatientBirthDate: ") for w in mapped.warnings)
    assert recorded(PatientBirthDate="19700131").fields["patient_birth_date"] == "1970-01-31"


@pytest.mark.parametrize(("sent", "grams"), [("7_0", None), ("70.", 70000), ("+7.0E1", 70000), ("٧٠", None)])
def test_ps3_5_6_2_a_decimal_string_and_not_what_python_takes(sent, grams):
    assert recorded(PatientWeight=sent).fields.get("patient_weight") == grams


@pytest.mark.parametrize(
    "keyword", ["FillerOrderNumberImagingServiceRequest", "PlacerOrderNumberImagingServiceRequest"]
)
@pytest.mark.parametrize(
    ("sent", "number"), [("F1^RIS", "F1"), ("F1 ^RIS^1.2^ISO", "F1"), ("F1", "F1"), ("^RIS", None)]
)
def test_the_investigation_of_a_recording_is_the_number_that_its_order_gives(keyword, sent, number):
    mapped = recorded(**{keyword: sent})
    assert mapped.fields.get("investigation_id") == number
    assert [n.value for n in mapped.numbers] == ([number] if number else [])


def test_an_empty_number_before_its_namespace_gives_way_to_the_next_of_the_chain():
    mapped = recorded(FillerOrderNumberImagingServiceRequest="^RIS", PlacerOrderNumberImagingServiceRequest="P1^HIS")
    assert mapped.fields["investigation_id"] == "P1"


def test_one_value_of_two_issuers_is_two_numbers():
    told = recorded(
        AccessionNumber="A1",
        IssuerOfAccessionNumberSequence=[{"LocalNamespaceEntityID": "RIS"}],
        FillerOrderNumberImagingServiceRequest="A1^ris",
        PlacerOrderNumberImagingServiceRequest="A1^HIS",
    )
    assert told.numbers == (
        OrderNumber("A1", NumberKind.ACCESSION, "RIS"),
        OrderNumber("A1", NumberKind.PLACER, "HIS"),
    )


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("OBR-4.1 | shout", "'shout' is no transform"),
        ("{OBR-4.1 | shout}", "'shout' is no transform"),
        ("ward={PV1-3.1", "brace"),
        ("ward=PV1-3.1}", "brace"),
        ("{PV1-2}-{PV1-3.1", "brace"),
    ],
)
def test_a_tag_that_would_fail_or_lie_while_mapping_is_refused_with_the_rules(template, word):
    with pytest.raises(SettingsError) as caught:
        load_rules({"fields": {"searching_tags": {"hl7": [template]}}}, name="site.toml")
    assert word in str(caught.value)


def test_braces_in_a_value_are_no_place_of_the_template():
    rules = load_rules({"fields": {"searching_tags": {"hl7": ["{OBR-4.1}-{PV1-2}"]}}})
    mapped = map_order(Hl7("OBR|1|||{PV1-2}", "PV1|1|I"), rules, now=NOW)
    assert mapped.fields["searching_tags"] == ["{PV1-2}-I"]


@pytest.mark.parametrize(
    "address",
    ["OBX[foo]-5", "OBX[]-5", "PID-0", "PID-3[0].1", "PID-3[x=1].1", "PID-3.0", "PID[0]-3", "PID-٣", "PID-3.1.2.3"],
)
def test_an_address_that_no_reader_understands_is_refused_with_the_rules(address):
    with pytest.raises(SettingsError, match="not an HL7 address"):
        load_rules({"fields": {"investigation_id": {"hl7": [address]}}})


@pytest.mark.parametrize(
    "address",
    ["PID-8", "PID-3.1", "PID-3[2].4.1", "PID-3[5=MR].1", "PID-3[4.1=HOSP].1", "OBX[3.1=8302-2]-5", "OBX[2]-6",
     "NTE[4.1=1R]-3", "OBX[3.2=Body Height]-5.1.2", "ZDS-1", "@sender"],
)  # fmt: skip
def test_every_form_of_address_that_found_names_is_taken(address):
    assert load_rules({"fields": {"investigation_id": {"hl7": [address]}}}).fields.investigation_id.hl7 == (address,)
