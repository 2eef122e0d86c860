"""Who it is: identifiers, names, gender, birth date (hl7.md §5), and what an ADT changes (§6, Null)."""

from datetime import UTC, datetime

import pytest

from bridge.domain.patient import Identifier
from bridge.mapping.orders import map_order
from bridge.mapping.patients import demographics, patient_identifiers, patient_update
from bridge.mapping.recordings import map_recording
from bridge.mapping.rules import load_rules
from tests.unit.mapping.fake_source import Dicom, Hl7

RULES = load_rules(None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def order(*lines, rules=RULES):
    return map_order(Hl7(*lines), rules, now=NOW)


def pid(field, value):
    fields = [""] * 31
    fields[0], fields[3] = "PID", "4711^^^TEST^MR"
    fields[field] = value
    return "|".join(fields)


def trace(mapped, field):
    return next(t for t in mapped.traces if t.field == field)


@pytest.mark.parametrize(
    ("document", "pid3", "value", "authority", "where", "why"),
    [
        ({}, "4711^^^TEST^MR", "4711", "TEST", "PID-3.1", "type MR"),
        ({}, "999^^^NHS^NI~4711^^^TEST^MR", "4711", "TEST", "PID-3[2].1", "type MR"),
        ({}, "4711^^^TEST^PI~4712^^^TEST^MR", "4712", "TEST", "PID-3[2].1", "type MR"),
        ({}, "00042~43", "00042", "", "PID-3[1].1", "the first"),
        ({}, "4711^5^M11^&1.2.3&ISO^MR", "4711", "1.2.3", "PID-3.1", "type MR"),
        ({}, "1^^^A^MR^^^20251231~2^^^A^MR", "2", "A", "PID-3[2].1", "type MR"),
        ({}, "1^^^A^MR^^^20260301~2^^^A^MR", "1", "A", "PID-3[1].1", "type MR"),
        ({}, "1^^^A^MR^^20270101~2^^^A^PI", "2", "A", "PID-3[2].1", "type PI"),
        ({}, '""~2^^^A^XX', "2", "A", "PID-3[2].1", "the first"),
        ({"authorities": ["b"]}, "1^^^A^MR~2^^^B^XX", "2", "B", "PID-3[2].1", "the site's authority"),
        ({"authorities": ["1.2.3"]}, "1^^^A^MR~2^^^B&1.2.3&ISO", "2", "B", "PID-3[2].1", "the site's authority"),
        ({"authorities": ["Z"], "types": ["PK"]}, "1^^^A^MR~2^^^B^pk", "2", "B", "PID-3[2].1", "type PK"),
    ],
)
def test_pid_3_choice(document, pid3, value, authority, where, why):
    mapped = order(f"PID|1||{pid3}", rules=load_rules({"patient": document}))
    told = trace(mapped, "patient_id")
    assert (mapped.fields["patient_id"], mapped.patient_authority, told.where) == (value, authority, where)
    assert told.rule.endswith(why)


def test_pid_2_and_pid_4_stand_in_and_pid_18_only_where_the_site_says_so():
    assert order("PID|1|77^^^EXT||88").fields["patient_id"] == "77"
    assert order("PID|1|||88").fields["patient_id"] == "88"
    visit = "PID|" + "|" * 16 + "|V1"
    assert "patient_id" not in order(visit).fields
    allowed = load_rules({"patient": {"account_number": True}})
    assert order(visit, rules=allowed).fields["patient_id"] == "V1"


def test_identifiers_come_best_first_without_the_expired_one_which_is_told():
    source = Hl7("PID|1|5^^^TEST|1^^^NHS^NI~2^^^TEST^MR~3^^^TEST^MR^^^20200101")
    expected = (Identifier("2", "TEST"), Identifier("1", "NHS"), Identifier("5", "TEST"))
    assert patient_identifiers(source, RULES, now=NOW) == expected
    (warning,) = map_order(source, RULES, now=NOW).warnings
    assert warning.startswith("PID-3[3].1: ")


@pytest.mark.parametrize(
    ("pid5", "last", "first"),
    [
        ("Testfrau^Erika", "Testfrau", "Erika"),
        ("Testfrau^Erika^Maria^jr^Dr.^MD^L", "Testfrau", "Erika Maria"),
        ("Alt^Erika^^^^^M~Neu^Erika^^^^^L", "Neu", "Erika"),
        ("Spitz^E^^^^^N~Neu^Erika", "Neu", "Erika"),
        ("Falsch^F^^^^^A", None, None),
        ("Doe, John", "Doe", "John"),
        ("Lüdenscheidt&von&Lüdenscheidt^Max", "Lüdenscheidt", "Max"),
        ("&von&Lüdenscheidt^Max", "von Lüdenscheidt", "Max"),
        ('Smith^""', "Smith", None),
        ('""', None, None),
        ("山田^太郎^^^^^L^I~Yamada^Taro^^^^^L^A", "Yamada", "Taro"),
        ("山田^太郎^^^^^L^I", "山田", "太郎"),
    ],
)
def test_pid_5_by_name_type(pid5, last, first):
    fields = order(pid(5, pid5)).fields
    assert (fields.get("patient_last_name"), fields.get("patient_first_name")) == (last, first)


@pytest.mark.parametrize(
    ("name", "group", "last", "first"),
    [
        ("Muster^Max^Test^Dr.^jr", "alphabetic", "Muster", "Max Test"),
        ("Muster", "alphabetic", "Muster", None),
        ("Doe, John", "alphabetic", "Doe", "John"),
        ("Yamada^Taro=山田^太郎=やまだ^たろう", "ideographic", "山田", "太郎"),
        ("Yamada^Taro=山田^太郎=やまだ^たろう", "alphabetic", "Yamada", "Taro"),
        ("=山田^太郎", "alphabetic", "山田", "太郎"),
        ("^^", "alphabetic", None, None),
        ("4711", "alphabetic", None, None),
    ],
)
def test_ps3_5_6_2_1_person_name(name, group, last, first):
    rules = load_rules({"name_group": group})
    mapped = map_recording(Dicom(PatientID="4711", PatientName=name), rules, time_zone="UTC", time_offset_ms=0)
    told = mapped.fields.get("patient_last_name"), mapped.fields.get("patient_first_name")
    assert told == (last, first)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("M", "MALE"), ("f", "FEMALE"), ("F^Female^HL70001", "FEMALE"), ("O", "UNDIFFERENTIATED"),
        ("A", "UNDIFFERENTIATED"), ("N", "UNDIFFERENTIATED"), ("U", None), ("female", None), ("1", None), ("", None),
    ],
)  # fmt: skip
def test_hl7_table_0001(code, word):
    mapped = order(pid(8, code))
    assert mapped.fields.get("patient_gender") == word
    assert len(mapped.warnings) == (1 if code and word is None else 0)


def test_a_sites_gender_table_lies_over_the_default():
    rules = load_rules({"tables": {"gender": {"female": "FEMALE", "o": ""}}})
    assert order(pid(8, "Female"), rules=rules).fields["patient_gender"] == "FEMALE"
    assert order(pid(8, "M"), rules=rules).fields["patient_gender"] == "MALE"
    silent = order(pid(8, "O"), rules=rules)
    assert "patient_gender" not in silent.fields
    assert silent.warnings == ()


@pytest.mark.parametrize(
    ("sent", "born"),
    [
        ("19700131", "1970-01-31"),
        ("197001312359", "1970-01-31"),
        ("19700131235959.999+1400", "1970-01-31"),
        ("19700131000000-1200", "1970-01-31"),
        ("1970-01-31", "1970-01-31"),
        ("18900101", "1890-01-01"),
        ("18891231", None),
        ("20260302", "2026-03-02"),  # it is the second of March already, at the other end of the world
        ("20260303", None),
        ("1970", None),
        ("197001", None),
        ("19700230", None),
        ("00000000", None),
        ("unknown", None),
    ],
)
def test_a_birth_date_is_a_date_and_never_moved_by_a_zone(sent, born):
    mapped = order(pid(7, sent))
    assert mapped.fields.get("patient_birth_date") == born
    assert len(mapped.warnings) == (born is None)
    assert sent not in "".join(mapped.warnings)


def test_omit_leaves_the_persons_fields_out():
    fields = ("patient_name", "patient_gender", "patient_birth_date")
    rules = load_rules({"fields": {f: {"omit": True} for f in fields}})
    line = "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M"
    assert order(line, rules=rules).fields == {"patient_id": "4711"}
    source = Dicom(PatientID="4711", PatientName="Muster^Max", PatientSex="M", PatientBirthDate="19700131")
    mapped = map_recording(source, rules, time_zone="UTC", time_offset_ms=0)
    assert set(mapped.fields) == {"patient_id", "device_id"}


# --- ADT -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("PID|1||4711||Muster^Max||19700131|M",
         {"last_name": "Muster", "first_name": "Max", "birth_date": "1970-01-31", "gender": "MALE"}),
        ("PID|1||4711", {}),
        ('PID|1||4711||""||""|""', {"last_name": None, "first_name": None, "birth_date": None, "gender": None}),
        ('PID|1||4711||Muster^""', {"last_name": "Muster", "first_name": None}),
        ('PID|1||4711||Alt^Anna^^^^^M~Muster^""', {"last_name": "Muster", "first_name": None}),
        ("PID|1||4711||Muster", {"last_name": "Muster"}),
        ("PID|1||4711||||1970|Q", {}),
    ],
)  # fmt: skip
def test_hl7_v2_5_3_null_clears_and_absence_keeps(line, said):
    update = patient_update(Hl7(line), RULES, now=NOW)
    assert update is not None
    assert update.identifier == Identifier("4711")
    assert update.said == said


def test_an_adt_without_a_usable_identifier_is_no_update():
    assert patient_update(Hl7("PID|1||||Muster^Max"), RULES, now=NOW) is None
    assert patient_update(Hl7("PID|1||4711^^^A^MR^^^20200101||Muster^Max"), RULES, now=NOW) is None


def test_demographics_are_those_of_the_mapping():
    known = demographics(order("PID|1||4711||Muster^Max||19700131"))
    assert (known.last_name, known.first_name, known.gender, known.birth_date) == ("Muster", "Max", "", "1970-01-31")
