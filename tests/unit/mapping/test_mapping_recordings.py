"""One recording: start and zone, measures, numbers (dicom_ecg.md §3.4)."""

from decimal import Decimal

import pytest

from bridge.domain.task import NumberKind, OrderNumber
from bridge.mapping.recordings import map_recording
from bridge.mapping.rules import load_rules
from tests.unit.mapping.fake_source import Dicom

RULES = load_rules(None)


def mapped(rules=RULES, *, zone="Europe/Berlin", offset_ms="0", duration_s=10.0, ae="CART1", **values):
    source = Dicom(values, ae=ae)
    return map_recording(source, rules, time_zone=zone, time_offset_ms=Decimal(offset_ms), duration_s=duration_s)


def start(**values):
    return mapped(**values).fields.get("recording_start_time")


def trace(of, field):
    return next(t for t in of.traces if t.field == field)


@pytest.mark.parametrize(
    ("values", "utc", "where"),
    [
        ({"AcquisitionDateTime": "20260301133000"}, "2026-03-01T12:30:00Z", "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260701133000"}, "2026-07-01T11:30:00Z", "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260301133000.25+0100"}, "2026-03-01T12:30:00.25Z", "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260301133000Z"}, "2026-03-01T13:30:00Z", "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "2026030113"}, "2026-03-01T12:00:00Z", "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260301133060"}, "2026-03-01T12:30:59Z", "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260301133000", "TimezoneOffsetFromUTC": "-0500"}, "2026-03-01T18:30:00Z",
         "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260301133000+0100", "TimezoneOffsetFromUTC": "-0500"}, "2026-03-01T12:30:00Z",
         "AcquisitionDateTime"),
        ({"AcquisitionDateTime": "20260301", "ContentDate": "20260302", "ContentTime": "0930"},
         "2026-03-02T08:30:00Z", "ContentDate, ContentTime"),
        ({"AcquisitionDate": "2026.03.01", "AcquisitionTime": "13:30:00", "StudyDate": "20200101",
          "StudyTime": "000000"}, "2026-03-01T12:30:00Z", "AcquisitionDate, AcquisitionTime"),
        ({"ContentDate": "20260301", "StudyDate": "20260301", "StudyTime": "133000.5"}, "2026-03-01T12:30:00.5Z",
         "StudyDate, StudyTime"),
        ({"AcquisitionDateTime": "00010101000000"}, None, None),
        ({"AcquisitionDateTime": "99991231235959-1200"}, None, None),
        ({"AcquisitionDateTime": "20260230120000"}, None, None),
        ({"AcquisitionDateTime": "20260301120000+9900"}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_the_start_in_utc_and_where_it_stood(values, utc, where):
    told = mapped(**values)
    assert told.fields.get("recording_start_time") == utc
    if utc:
        assert trace(told, "recording_start_time").where == where
    else:
        assert told.warnings
        assert "recording_time_zone" not in told.fields


def test_c_10_9_multiplex_group_time_offset_counts():
    said = {"AcquisitionDateTime": "20260301235959"}
    assert start(offset_ms="1500.25", **said) == "2026-03-01T23:00:00.50025Z"
    assert start(offset_ms="-1000", **said) == "2026-03-01T22:59:58Z"
    assert start(offset_ms="1e20", **said) is None


@pytest.mark.parametrize(
    ("local", "utc", "words"),
    [
        ("20251026023000", "2025-10-26T00:30:00Z", "comes twice"),
        ("20260329023000", "2026-03-29T01:30:00Z", "skipped"),
        ("20251026033000", "2025-10-26T02:30:00Z", ""),
        ("20260329033000", "2026-03-29T01:30:00Z", ""),
    ],
)
def test_the_two_nights_when_the_clocks_change(local, utc, words):
    told = mapped(AcquisitionDateTime=local)
    assert told.fields["recording_start_time"] == utc
    assert told.fields["recording_time_zone"] == "Europe/Berlin"
    assert any(words in w for w in told.warnings) if words else told.warnings == ()
    assert words in trace(told, "recording_start_time").note


def test_with_an_offset_the_hour_that_comes_twice_is_no_question():
    told = mapped(AcquisitionDateTime="20251026023000+0100")
    assert (told.fields["recording_start_time"], told.warnings) == ("2025-10-26T01:30:00Z", ())


def test_a_holter_over_the_change_of_the_clocks_is_told():
    told = mapped(AcquisitionDateTime="20251025120000", duration_s=86_400.0)
    assert "the clocks changed during the recording" in told.warnings[0]
    assert mapped(AcquisitionDateTime="20251025120000", duration_s=3600.0).warnings == ()


def test_the_zone_is_an_iana_name_and_left_out_where_the_object_disagrees():
    agreeing = mapped(AcquisitionDateTime="20260301133000+0100")
    assert (agreeing.fields["recording_time_zone"], agreeing.warnings) == ("Europe/Berlin", ())
    other = mapped(AcquisitionDateTime="20260301133000+0200")
    assert other.fields["recording_start_time"] == "2026-03-01T11:30:00Z"
    assert "recording_time_zone" not in other.fields
    assert "zone is left out" in other.warnings[0]


def test_an_ae_titles_zone_goes_before_the_sites():
    rules = load_rules({"ae_titles": {"CART9": {"time_zone": "America/New_York"}}})
    told = mapped(rules, ae="CART9", AcquisitionDateTime="20260301133000")
    assert told.fields["recording_start_time"] == "2026-03-01T18:30:00Z"
    assert told.fields["recording_time_zone"] == "America/New_York"
    assert start(rules=rules, AcquisitionDateTime="20260301133000") == "2026-03-01T12:30:00Z"


@pytest.mark.parametrize(
    ("size", "unit", "cm"),
    [
        ("1.8", "m", 180), ("1.79999995231628", "m", 180), ("0.2", "m", 20), ("2.6", "m", 260), ("2.61", "m", None),
        ("180", "m", None), ("0", "m", None), ("1,8", "m", None), ("NaN", "m", None), ("1e99999", "m", None),
        ("180", "cm", 180), ("1.8", "cm", None),
    ],
)  # fmt: skip
def test_patient_size_is_metres_and_centimetres_only_where_the_rules_say_it(size, unit, cm):
    told = mapped(load_rules({"ae_titles": {"CART1": {"height_unit": unit}}}), PatientSize=size)
    assert told.fields.get("patient_height") == cm
    assert any(w.startswith("PatientSize: ") for w in told.warnings) == (cm is None)


@pytest.mark.parametrize(
    ("weight", "grams"),
    [("68.9461222", 68946), ("0.2", 200), ("700", 700000), ("0.1", None), ("701", None), ("0", None), ("x", None)],
)
def test_patient_weight_is_kilograms(weight, grams):
    assert mapped(PatientWeight=weight).fields.get("patient_weight") == grams


@pytest.mark.parametrize(
    ("sent", "age"),
    [("042Y", 42), ("003M", 0), ("025M", 2), ("104W", 2), ("364D", 0), ("42Y", 42), ("999Y", None), ("042", None)],
)
def test_ps3_5_6_2_age_string(sent, age):
    assert mapped(PatientAge=sent).fields.get("patient_age") == age


def test_a_birth_date_takes_the_place_of_the_age_and_a_disagreement_is_told():
    said = {"AcquisitionDateTime": "20260130120000", "PatientBirthDate": "19700131"}
    for age, warnings in (("055Y", 0), ("056Y", 0), ("054Y", 0), ("053Y", 1), ("057Y", 1)):
        told = mapped(PatientAge=age, **said)
        assert "patient_age" not in told.fields
        assert len(told.warnings) == warnings, age


@pytest.mark.parametrize(
    ("born", "kept"), [("20260301", True), ("20260302", False), ("18891231", False), ("18900101", True)]
)
def test_a_birth_date_after_the_recording_or_before_1890_is_none(born, kept):
    told = mapped(AcquisitionDateTime="20260301133000", PatientBirthDate=born, PatientAge="042Y")
    assert ("patient_birth_date" in told.fields) == kept
    assert ("patient_age" in told.fields) == (not kept)
    (warning,) = told.warnings
    assert warning.startswith("PatientAge: more than a year" if kept else "PatientBirthDate: ")


def test_numbers_best_first_with_their_issuers_and_never_the_visit_or_the_study():
    told = mapped(
        AccessionNumber="A1",
        IssuerOfAccessionNumberSequence=[{"LocalNamespaceEntityID": "RIS"}],
        RequestAttributesSequence=[
            {"AccessionNumber": "A1"},
            {"AccessionNumber": "A2", "IssuerOfAccessionNumberSequence": [{"UniversalEntityID": "1.2"}]},
            {"RequestedProcedureID": "R1"},
        ],
        FillerOrderNumberImagingServiceRequest="F1^RIS",
        PlacerOrderNumberImagingServiceRequest="P1",
        OrderPlacerIdentifierSequence=[{"LocalNamespaceEntityID": "HIS"}],
        StudyID="S1",
        AdmissionID="V1",
    )
    assert told.numbers == (
        OrderNumber("A1", NumberKind.ACCESSION, "RIS"),
        OrderNumber("A2", NumberKind.ACCESSION, "1.2"),
        OrderNumber("R1", NumberKind.PROCEDURE),
        OrderNumber("F1", NumberKind.FILLER, "RIS"),
        OrderNumber("P1", NumberKind.PLACER, "HIS"),
    )
    assert told.fields["investigation_id"] == "A1"
    bare = mapped(StudyID="S1", AdmissionID="V1")
    assert (bare.numbers, bare.fields.get("investigation_id")) == ((), None)


def test_device_id_chain():
    chain = {
        "DeviceSerialNumber": "SN1", "DeviceUID": "1.2.3", "StationName": "ST1",
        "Manufacturer": "Acme", "ManufacturerModelName": "M1",
    }  # fmt: skip
    expected = ["SN1", "1.2.3", "ST1", "Acme M1", "M1", "CART1"]
    for value in expected:
        assert mapped(**chain).fields["device_id"] == value
        if chain:
            chain.pop(next(iter(chain)))
    assert "device_id" not in mapped(ae="").fields


def test_indications_of_an_object_once_each():
    coded = {"CodeValue": "I48.0", "CodeMeaning": "Vorhofflimmern"}
    told = mapped(
        RequestAttributesSequence=[
            {"ReasonForTheRequestedProcedure": "Synkope", "ReasonForRequestedProcedureCodeSequence": [coded]}
        ],
        AdmittingDiagnosesDescription="synkope\\Schwindel",
        AdmittingDiagnosesCodeSequence=[{"CodeValue": "I480", "CodeMeaning": "VHF"}],
        ReasonForVisit="Schwindel ",
    )
    assert told.fields["indications"] == ["Synkope", "Vorhofflimmern", "Schwindel"]


def test_the_identifier_keeps_its_issuer():
    told = mapped(PatientID="4711", IssuerOfPatientID="TEST", PatientName="Muster^Max", PatientSex="M")
    assert (told.fields["patient_id"], told.patient_authority) == ("4711", "TEST")
    assert {t.field for t in told.traces} == set(told.fields)
