"""One HL7 order: its numbers, measures and reasons (hl7.md §5), each with its trace."""

from datetime import UTC, datetime

import pytest

from bridge.domain.task import NumberKind, OrderNumber
from bridge.mapping.orders import map_order, order_numbers
from bridge.mapping.rules import load_rules
from tests.unit.mapping.fake_source import Hl7

RULES = load_rules(None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PID = "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M"


def order(*lines, rules=RULES, time_zone="Europe/Berlin"):
    return map_order(Hl7(*lines), rules, time_zone=time_zone, now=NOW)


def obr(**fields):
    values = ["OBR", "1"] + [""] * 45
    for name, value in fields.items():
        values[int(name[1:])] = value
    return "|".join(values)


def obx(code, value, unit="", *, kind="NM", status="F", at="", text=""):
    return "|".join(["OBX", "1", kind, f"{code}^{text}", "", value, unit, "", "", "", "", status, "", "", at])


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "number", "where"),
    [
        (("IPC|ACC1^RIS", "ORC|NW|PL|FI", obr(_18="ACC2")), "ACC1", "IPC-1.1"),
        (("ORC|NW|PL|FI", obr(_2="PL", _3="FI", _18="ACC2")), "ACC2", "OBR-18.1"),
        (("ORC|NW|PL^HIS|FI^RIS", obr()), "FI", "ORC-3.1"),
        (("ORC|NW|PL^HIS", obr(_3="FO")), "FO", "OBR-3.1"),
        (("ORC|NW|PL^HIS", obr()), "PL", "ORC-2.1"),
        ((obr(_2="PO^HIS"),), "PO", "OBR-2.1"),
        ((obr(_20="STEP", _19="RP"),), None, None),
    ],
)
def test_investigation_id_chain_and_never_made_up(lines, number, where):
    mapped = order(PID, *lines)
    assert mapped.fields.get("investigation_id") == number
    assert [t.where for t in mapped.traces if t.field == "investigation_id"] == ([where] if where else [])


def test_numbers_by_kind_with_namespace_or_universal_id():
    source = Hl7(PID, "ORC|NW|P1^HIS|F1^^1.2.3^ISO", obr(_2="P1^HIS", _3="F2^RIS", _18="A1", _19="R1"), "IPC|A2|R2^X")
    assert order_numbers(source, RULES) == (
        OrderNumber("P1", NumberKind.PLACER, "HIS"),
        OrderNumber("F1", NumberKind.FILLER, "1.2.3"),
        OrderNumber("F2", NumberKind.FILLER, "RIS"),
        OrderNumber("A2", NumberKind.ACCESSION),
        OrderNumber("A1", NumberKind.ACCESSION),
        OrderNumber("R2", NumberKind.PROCEDURE, "X"),
        OrderNumber("R1", NumberKind.PROCEDURE),
    )
    assert map_order(source, RULES, now=NOW).numbers == order_numbers(source, RULES)


def test_a_site_says_what_its_numbers_are():
    rules = load_rules({"numbers": {"accession": {"hl7": ["ZDS-1.1 | unpadded"]}, "filler": {"hl7": []}}})
    numbers = order_numbers(Hl7("ORC|NW||F1", obr(_18="A1"), "ZDS|007^X"), rules)
    assert numbers == (OrderNumber("7", NumberKind.ACCESSION, "X"),)


def test_another_instruments_observation_does_not_name_the_ecg_device():
    scale = obx("29463-7", "80", "kg") + "||||SCALE-9"
    assert scale.split("|")[18] == "SCALE-9"
    assert "device_id" not in order(PID, "ORC|NW|P1", scale).fields
    rules = load_rules({"fields": {"device_id": {"hl7": ["OBX-18.1"]}}})
    assert order(PID, scale, rules=rules).fields["device_id"] == "SCALE-9"
    assert order(PID, "IPC|A1" + "|" * 8 + "CART1").fields["device_id"] == "CART1"


# --- measures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "cm"),
    [
        ("180", "cm", 180), ("1.8", "m", 180), ("1,8", "m^meter^UCUM", 180), ("1800", "mm", 180),
        ("70", "[in_i]", 178), ("70", "in", 178), ("5.9", "ft", 180), ("1.8", "", 180), ("180", "", 180),
        ("30", "", 30), ("260", "", 260), ("180 cm", "", 180), ("180.5", "cm", 181), ("=180", "cm", 180),
        ("29", "", None), ("3", "", None), ("2.99", "", None), ("261", "", None), ("180", "m", None),
        ("180", "furlong", None), ("<5", "cm", None), ("tall", "", None), ("0", "cm", None), ("-180", "cm", None),
    ],
)  # fmt: skip
def test_height_units_decide(value, unit, cm):
    mapped = order(PID, obx("8302-2", value, unit))
    assert mapped.fields.get("patient_height") == cm
    assert len(mapped.warnings) == (cm is None)
    assert value not in "".join(mapped.warnings).split()


@pytest.mark.parametrize(
    ("value", "unit", "grams"),
    [
        ("84.5", "kg", 84500), ("84,5", "", 84500), ("84500", "g", 84500), ("186", "[lb_av]", 84368),
        ("186", "lb", 84368), ("120", "oz", 3402), ("3.4", "KG", 3400), ("0.2", "kg", 200), ("700", "kg", 700000),
        ("84.5 kg", "", 84500), ("700.1", "kg", None), ("0.1", "kg", None), ("84", "st", None),
    ],
)  # fmt: skip
def test_weight_in_grams(value, unit, grams):
    mapped = order(PID, obx("29463-7", value, unit))
    assert mapped.fields.get("patient_weight") == grams
    assert len(mapped.warnings) == (grams is None)


@pytest.mark.parametrize(("value", "cm"), [("^180", 180), ("=^180", 180), ("<^180", None), ("^170^-^180", None)])
def test_structured_numeric(value, cm):
    assert order(PID, obx("8302-2", value, "cm", kind="SN")).fields.get("patient_height") == cm


@pytest.mark.parametrize(
    ("observations", "cm", "where"),
    [
        ([("170", "F", "20260101"), ("180", "F", "20260201")], 180, "OBX[2]-5"),
        ([("180", "F", "20260201"), ("170", "F", "20260101")], 180, "OBX[1]-5"),
        ([("180", "F", "20260101"), ("170", "P", "20260201")], 180, "OBX[1]-5"),
        ([("180", "C", "20260201"), ("170", "F", "20260101")], 180, "OBX[1]-5"),
        ([("180", "P", ""), ("170", "X", "20260201"), ("171", "D", ""), ("172", "W", "")], 180, "OBX[1]-5"),
        # 12:30+0100 is before 11:45Z; without an offset it is the site's time
        ([("170", "F", "202602011230+0100"), ("180", "F", "202602011145+0000")], 180, "OBX[2]-5"),
        ([("170", "F", "202602011230"), ("180", "F", "202602011145+0000")], 180, "OBX[2]-5"),
        ([("<5", "F", "20260201"), ("180", "F", "20260101")], 180, "OBX[2]-5"),
    ],
)
def test_the_newest_final_observation_counts(observations, cm, where):
    mapped = order(PID, *(obx("8302-2", v, "cm", status=s, at=at) for v, s, at in observations))
    assert mapped.fields["patient_height"] == cm
    assert [t.where for t in mapped.traces if t.field == "patient_height"] == [where]


@pytest.mark.parametrize("line", [obx("3137-7", "180", "cm"), obx("GR", "180", "cm", text="body height")])
def test_height_by_other_codes_and_by_text(line):
    assert order(PID, line).fields["patient_height"] == 180


@pytest.mark.parametrize(
    ("value", "unit", "age"),
    [("42", "a", 42), ("42", "", 42), ("11", "mo", 0), ("25", "mo", 2), ("400", "d", 1), ("42", "x", None)],
)
def test_age_only_where_there_is_no_birth_date(value, unit, age):
    line = obx("30525-0", value, unit)
    bare = order("PID|1||4711", line)
    assert bare.fields.get("patient_age") == age
    assert len(bare.warnings) == (age is None)
    assert "patient_age" not in order(PID, line).fields


# --- reasons ---------------------------------------------------------------------------------------------------------


def test_indications_folded_by_code_and_by_text():
    mapped = order(
        PID,
        obr(_31="I48.0^Vorhofflimmern^I10~R07.4^Thoraxschmerz^I10~Schwindel", _13="Brystsmerter og dyspnø"),
        "DG1|1||I480^VHF^I10GM|||A",
        "DG1|2||R00.2|Palpitationen||W",
        "DG1|3||Z99^nicht^I10|||P",
        "PV2|||^schwindel",
        "NTE|1||nüchtern",
        "NTE|2||Synkope|1R",
        obx("10154-3", "Palpitationen.", kind="TX"),
    )
    assert mapped.fields["indications"] == [
        "Vorhofflimmern", "Thoraxschmerz", "Schwindel", "Palpitationen", "Brystsmerter og dyspnø", "Synkope",
    ]  # fmt: skip
    (told,) = [t for t in mapped.traces if t.field == "indications"]
    assert told.where == "OBR-31[1], OBR-31[2], OBR-31[3], DG1[2]-3, OBR-13, NTE[2]-3"


def test_a_code_alone_is_an_indication_and_nothing_is_none():
    assert order(PID, obr(_31="I48.0")).fields["indications"] == ["I48.0"]
    assert "indications" not in order(PID, obr()).fields


def test_a_site_may_take_every_note():
    rules = load_rules({"fields": {"indications": {"hl7": ["NTE-3"]}}})
    assert order(PID, "NTE|1||Synkope", rules=rules).fields["indications"] == ["Synkope"]


# --- the whole -------------------------------------------------------------------------------------------------------


def test_an_order_never_says_when_a_recording_began():
    mapped = order("MSH|^~\\&|||||20260301120000+0100", PID, obr(_7="20260301120000+0100", _36="20260301120000"))
    assert not {f for f in mapped.fields if f.startswith("recording")}


def test_every_field_has_its_trace_and_no_field_is_empty():
    mapped = order(PID, "ORC|NW|P1", obr(_31="^Schwindel"), obx("8302-2", "180", "cm"), obx("29463-7", "80", "kg"))
    assert {t.field for t in mapped.traces} == set(mapped.fields)
    assert all(mapped.fields[t.field] == t.value and t.where and t.rule for t in mapped.traces)
    assert all(v not in ("", [], None) for v in mapped.fields.values())
    assert mapped.warnings == ()
