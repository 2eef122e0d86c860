"""The site's rules: what may be written, what is refused with which words, who they apply to."""

import zoneinfo

import pytest

from bridge.errors import SettingsError
from bridge.mapping import rules as rules_module
from bridge.mapping.orders import map_order
from bridge.mapping.recordings import map_recording
from bridge.mapping.rules import Fields, load_rules
from tests.unit.mapping.fake_source import Dicom, Hl7

PID = "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M"


def refused(document, *words):
    with pytest.raises(SettingsError) as caught:
        load_rules(document, name="site.toml")
    text = str(caught.value)
    assert text.startswith("site.toml: ")
    for word in words:
        assert word in text
    return text


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"feilds": {}}, ("feilds", "did you mean fields?")),
        ({"fields": {"investigation": {"hl7": ["ORC-2"]}}}, ("fields.investigation", "investigation_id?")),
        ({"fields": {"device_id": {"omitt": True}}}, ("fields.device_id.omitt", "did you mean omit?")),
        ({"fields": {"investigation_id": {"hl7": ["accession"]}}}, ("fields.investigation_id.hl7.0", "PID-3.1")),
        ({"fields": {"investigation_id": {"dicom": ["OBR-18"]}}}, ("fields.investigation_id.dicom.0", "keyword")),
        ({"fields": {"investigation_id": {"hl7": ["ORC-2 | shout"]}}}, ("'shout' is no transform", "upper")),
        ({"fields": {"investigation_id": {"constant": "X1"}}}, ("fields.investigation_id.constant",)),
        ({"fields": {"patient_id": {"omit": True}}}, ("fields.patient_id.omit",)),
        ({"fields": {"searching_tags": {"hl7": ["PID-5.1"]}}}, ("fields.searching_tags.hl7.0", "PID-5.1")),
        ({"fields": {"searching_tags": {"hl7": ["ward={PV1-3.2}"]}}}, ("did you mean PV1-3.",)),
        ({"fields": {"searching_tags": {"dicom": ["{PatientName}"]}}}, ("PatientName", "not an address")),
        ({"tables": {"gender": {"X": "OTHER"}}}, ("tables.gender.X", "UNDIFFERENTIATED")),
        ({"senders": {"HIS": {}}}, ("senders.HIS", "MSH-3|MSH-4")),
        ({"senders": {"HIS|A": {"time_zon": "Europe/Berlin"}}}, ("senders.HIS|A.time_zon", "time_zone?")),
        ({"senders": 3}, ("senders",)),
        ({"ae_titles": {"CART1": 3}}, ("ae_titles.CART1",)),
        ({"ae_titles": {"CART1": {"height_unit": "ft"}}}, ("ae_titles.CART1.height_unit",)),
        ({"fields": 3}, ("fields",)),
        ({"time_zone": "Europe/Berln"}, ("time_zone", "did you mean Europe/Berlin?")),
        ({"time_zone": "Europe"}, ("time_zone", "not an IANA time zone")),
        ({"time_zone": "../etc/passwd"}, ("not an IANA time zone",)),
    ],
)
def test_what_is_wrong_is_told_with_file_key_and_nearest_name(document, words):
    refused(document, *words)


def test_a_mistake_of_the_site_is_told_once_and_not_for_each_peer():
    text = refused({"fieldz": {}, "senders": {"A|B": {}, "C|D": {}}})
    assert text.count("fieldz") == 1


def test_a_machine_without_time_zones_is_told_so(monkeypatch):
    def none(_):
        raise zoneinfo.ZoneInfoNotFoundError

    monkeypatch.setattr(rules_module, "ZoneInfo", none)
    monkeypatch.setattr(rules_module, "available_timezones", set)
    refused({"time_zone": "Europe/Berlin"}, "tzdata")


def test_f42_the_version_changes_with_every_rule_and_with_nothing_else():
    assert load_rules(None).version == load_rules({}).version == load_rules({"patient": {}}).version
    documents = [
        {},
        {"patient": {"authorities": ["TEST"]}},
        {"time_zone": "Europe/Berlin"},
        {"senders": {"A|B": {"time_zone": "Europe/Berlin"}}},
        {"ae_titles": {"CART1": {"height_unit": "cm"}}},
        {"tables": {"gender": {"Q": "UNDIFFERENTIATED"}}},
        {"numbers": {"accession": {"hl7": ["ZDS-1"]}}},
    ]
    versions = {load_rules(d).version for d in documents}
    assert len(versions) == len(documents)
    assert all(len(v) == 12 for v in versions)


def test_a_peer_overrides_the_site_and_keeps_what_it_does_not_name():
    rules = load_rules(
        {
            "fields": {"investigation_id": {"hl7": ["OBR-19.1"]}},
            "senders": {
                "LAB|HOSP": {"fields": {"investigation_id": {"hl7": ["ORC-2.1 | unpadded"]}}},
                "*|SOUTH": {"tables": {"gender": {"m": "FEMALE"}}},
                "OLD|*": {"patient": {"types": ["PK"]}},
            },
        }
    )
    lines = ("MSH|", PID, "ORC|NW|0042", "OBR|1|||93000|" + "|" * 13 + "|RP7")
    number = {
        sender: map_order(Hl7(*lines, sender=sender), rules).fields.get("investigation_id")
        for sender in ("HIS|TEST", "LAB|HOSP", "X|SOUTH", "OLD|Y")
    }
    assert number == {"HIS|TEST": "RP7", "LAB|HOSP": "42", "X|SOUTH": "RP7", "OLD|Y": "RP7"}
    assert map_order(Hl7(*lines, sender="X|SOUTH"), rules).fields["patient_gender"] == "FEMALE"
    assert map_order(Hl7(*lines, sender="LAB|HOSP"), rules).fields["patient_gender"] == "MALE"


OMITTED = sorted(set(Fields.model_fields) - {"patient_id"})


@pytest.mark.parametrize("field", OMITTED)
def test_omit_leaves_out_every_field_but_the_patient_id_of_orders_and_of_recordings(field):
    order_source = Hl7(
        "PID|1||4711||Muster^Max||" + ("" if field == "patient_age" else "19700131") + "|M", "ORC|NW|P1",
        "OBR|1||||||||||||Schwindel", "OBX|1|NM|8302-2||180|cm", "OBX|2|NM|29463-7||80|kg", "OBX|3|NM|30525-0||56|a",
        "IPC|||||||||CART1",
    )  # fmt: skip
    object_source = Dicom(
        PatientID="4711", PatientName="Muster^Max", PatientSex="M", PatientAge="056Y", PatientSize="1.8",
        PatientBirthDate="" if field == "patient_age" else "19700131", PatientWeight="80", AccessionNumber="A1",
        DeviceSerialNumber="SN1", ReasonForVisit="Schwindel", Modality="ECG",
    )  # fmt: skip
    tags = {"searching_tags": {"hl7": ["ORC-2.1"], "dicom": ["Modality"]}}

    def made(rules):
        yield set(map_order(order_source, rules).fields)
        yield set(map_recording(object_source, rules, time_zone="UTC", time_offset_ms=0).fields)

    site = tags | {field: {**tags.get(field, {}), "omit": True}}
    parts = {"patient_name": {"patient_last_name", "patient_first_name"}}.get(field, {field})
    for there, left in zip(made(load_rules({"fields": tags})), made(load_rules({"fields": site})), strict=True):
        assert parts <= there
        # The age stands in for a birth date that is left out.
        assert left == (there - parts) | ({"patient_age"} if field == "patient_birth_date" else set())


@pytest.mark.parametrize("field", [f for f in OMITTED if f.startswith(("patient_", "investigation"))])
def test_promise_3_no_patients_field_and_no_number_is_the_same_for_everybody(field):
    refused({"fields": {field: {"constant": "X1"}}}, f"fields.{field}.constant")


def test_constants_joins_and_what_lifts_them():
    rules = load_rules(
        {
            "fields": {
                "device_id": {"constant": "ECG-ROOM-1"},
                "indications": {"omit": True},
                "investigation_id": {"omit": True},
            },
            "ae_titles": {
                "CART1": {
                    "fields": {
                        "device_id": {"dicom": ["Manufacturer + ManufacturerModelName | upper"]},
                        "indications": {"constant": "screening"},
                    }
                },
                "CART2": {"fields": {"device_id": {"omit": True}}},
            },
        }
    )
    values = {"Manufacturer": "Acme", "ManufacturerModelName": "Cart 3", "AccessionNumber": "A1"}

    def mapped(ae):
        return map_recording(Dicom(values, ae=ae), rules, time_zone="UTC", time_offset_ms=0)

    one, two, three = (mapped(ae) for ae in ("CART1", "CART2", "CART3"))
    assert one.fields == {"device_id": "ACME CART 3", "indications": ["screening"]}
    assert [t.where for t in one.traces if t.field == "device_id"] == ["Manufacturer + ManufacturerModelName"]
    assert two.fields == {}
    assert three.fields == {"device_id": "ECG-ROOM-1"}


def test_tags_are_made_of_texts_and_addresses_and_left_out_where_a_place_is_empty():
    rules = load_rules(
        {
            "fields": {
                "searching_tags": {
                    "hl7": ["ward={PV1-3.1}", "OBR-4.1", "{PV1-2}/{PV1-10}", "{OBR-4.1 | lower}"],
                    "dicom": ["site={InstitutionName}"],
                    "constant": "ecg",
                }
            }
        }
    )
    order = map_order(Hl7(PID, "PV1|1|I|CARD3^12", "OBR|1|A||ECG12^EKG"), rules)
    assert order.fields["searching_tags"] == ["ecg", "ward=CARD3", "ECG12", "ecg12"]
    recording = map_recording(Dicom(InstitutionName="Test"), rules, time_zone="UTC", time_offset_ms=0)
    assert recording.fields["searching_tags"] == ["ecg", "site=Test"]
    assert "searching_tags" not in map_order(Hl7(PID, "PV1|1|I|CARD3"), load_rules(None)).fields
