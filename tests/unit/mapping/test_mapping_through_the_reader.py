"""hl7.md §5 and §6 from bytes: the mapping over the reader that the bridge itself uses."""

from datetime import UTC, datetime

import pytest

from bridge.domain.found import OnConnection
from bridge.domain.patient import Identifier
from bridge.domain.task import NumberKind, OrderNumber
from bridge.formats.hl7.reader import read
from bridge.mapping.orders import map_order, order_numbers
from bridge.mapping.patients import patient_identifiers, patient_update
from bridge.mapping.rules import load_rules
from tests.unit.mapping.fake_source import Hl7

RULES = load_rules(None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MSH = "MSH|^~\\&|HIS|NORTH|BRIDGE|TEST|20260301120000||ORM^O01|M1|P|2.5.1|||||||UNICODE UTF-8"
ADT = MSH.replace("ORM^O01", "ADT^A08")
PID = "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M"
ORC, OBR = "ORC|NW|P1^HIS|F1^RIS", "OBR|1|P1^HIS|F1^RIS|ECG12^EKG^L"


def message(*lines, head=MSH):
    return read("\r".join((head, *lines, "")).encode())


def order(*lines, rules=RULES, zone="Europe/Berlin"):
    (view,) = message(*lines).orders()
    return map_order(view, rules, time_zone=zone, now=NOW)


def update(pid):
    return patient_update(message(pid, head=ADT), RULES, now=NOW)


@pytest.mark.parametrize(
    ("pid", "identifier", "where"),
    [
        ("PID|1||00042^5^M11^TEST&1.2.3&ISO^MR", Identifier("00042", "TEST"), "PID-3.1"),
        ("PID|1||999^^^NHS^NI~4711^^^TEST^MR", Identifier("4711", "TEST"), "PID-3[2].1"),
        ("PID|1||4711^^^&1.2.3&ISO", Identifier("4711", "1.2.3"), "PID-3.1"),
        ("PID|1||1^^^A^MR^^^20251231~2^^^A^MR", Identifier("2", "A"), "PID-3[2].1"),
        ('PID|1|77^^^EXT|""|88', Identifier("77", "EXT"), "PID-2.1"),
        ("PID|1|||88", Identifier("88"), "PID-4.1"),
    ],
)
def test_hl7_md_5_patient_id(pid, identifier, where):
    mapped = order(pid, ORC, OBR)
    assert Identifier(mapped.fields["patient_id"], mapped.patient_authority) == identifier
    assert next(t.where for t in mapped.traces if t.field == "patient_id") == where
    assert patient_identifiers(message(pid), RULES, now=NOW)[0] == identifier


@pytest.mark.parametrize(
    ("pid5", "name"),
    [
        ("Lüdenscheidt&von&Lüdenscheidt^Max^Otto^jr^Dr.", ("Lüdenscheidt", "Max Otto")),
        ("Doe, John", ("Doe", "John")),
        ("Alt^E^^^^^M~Alias^E^^^^^A~Neu^Erika^^^^^L", ("Neu", "Erika")),
        ("O\\T\\Muster^Zoë", ("O&Muster", "Zoë")),
        ("Γιώργος^Τεστ", ("Γιώργος", "Τεστ")),
        ('""', (None, None)),
    ],
)
def test_hl7_md_5_patient_name(pid5, name):
    fields = order(f"PID|1||4711||{pid5}", ORC, OBR).fields
    assert (fields.get("patient_last_name"), fields.get("patient_first_name")) == name


def test_hl7_md_5_measures_reasons_and_numbers_of_one_order():
    lines = (
        PID, ORC, OBR + "|" * 27 + "I48.0^Vorhofflimmern^I10~Schwindel",
        "NTE|1||Synkope|1R", "DG1|1||I480^VHF^I10GM|||W",
        "OBX|1|NM|GR^BODY HEIGHT||170|cm|||||F|||20250101",
        "OBX|2|SN|8302-2^Body height^LN||=^1,8|m|||||C|||20260101",
        "OBX|3|ST|29463-7^Body weight^LN||84,5 kg||||||P",
        "OBX|4|NM|3141-9^Body weight^LN||<5|kg|||||F",
    )  # fmt: skip
    mapped = order(*lines)
    assert mapped.fields["patient_height"] == 180
    assert mapped.fields["patient_weight"] == 84500
    assert mapped.fields["indications"] == ["Vorhofflimmern", "Schwindel", "Synkope"]
    assert mapped.fields["investigation_id"] == "F1"
    assert mapped.numbers == (
        OrderNumber("P1", NumberKind.PLACER, "HIS"),
        OrderNumber("F1", NumberKind.FILLER, "RIS"),
    )
    assert mapped.warnings == ("OBX[4]-5: not a number; left out",)


def test_of_two_orders_each_has_its_own_numbers_and_reasons_and_both_the_patient():
    both = message(
        PID,
        "ORC|NW|P1^HIS", "OBR|1|P1^HIS||ECG12" + "|" * 27 + "Schwindel",
        "ORC|NW|P2^HIS", "OBR|2|P2^HIS||ECG24" + "|" * 27 + "Synkope",
    ).orders()  # fmt: skip
    one, two = (map_order(view, RULES, now=NOW) for view in both)
    assert [m.fields["indications"] for m in (one, two)] == [["Schwindel"], ["Synkope"]]
    assert [[n.value for n in order_numbers(view, RULES)] for view in both] == [["P1"], ["P2"]]
    assert one.fields["patient_id"] == two.fields["patient_id"] == "4711"


@pytest.mark.parametrize(
    ("pid", "said"),
    [
        ("PID|1||4711", {}),
        (PID, {"last_name": "Muster", "first_name": "Max", "gender": "MALE", "birth_date": "1970-01-31"}),
        ('PID|1||4711||""||""|""', {"last_name": None, "first_name": None, "birth_date": None, "gender": None}),
        ('PID|1||4711||Muster^""', {"last_name": "Muster", "first_name": None}),
        ('PID|1||4711||""^Max', {"last_name": None, "first_name": "Max"}),
        ('PID|1||4711||Alt^""^^^^^M~Muster^Max', {"last_name": "Muster", "first_name": "Max"}),
        ('PID|1||4711||||""', {"birth_date": None}),
        ("PID|1||4711||||197001|U", {}),
    ],
)
def test_hl7_v2_5_3_null_clears_and_absence_keeps(pid, said):
    assert update(pid).said == said


@pytest.mark.parametrize("field", ["patient_name", "patient_gender", "patient_birth_date"])
def test_what_is_omitted_is_neither_set_nor_cleared(field):
    rules = load_rules({"fields": {field: {"omit": True}}})
    cleared = patient_update(message('PID|1||4711||""||""|""', head=ADT), rules, now=NOW).said
    gone = {"patient_name": {"last_name", "first_name"}}.get(field, {field.removeprefix("patient_")})
    assert cleared.keys() == {"last_name", "first_name", "gender", "birth_date"} - gone


def test_rules_of_a_sender_are_found_through_the_connection():
    rules = load_rules({"senders": {"HIS|NORTH": {"fields": {"investigation_id": {"hl7": ["ORC-2.1"]}}}}})
    (view,) = message(PID, ORC, OBR).orders()
    for sender, number in (("HIS|NORTH", "P1"), ("HIS|SOUTH", "F1")):
        source = OnConnection(view, {"@sender": sender})
        assert map_order(source, rules, now=NOW).fields["investigation_id"] == number


@pytest.mark.parametrize(
    "address",
    ["PID-3", "PID-3.1", "PID-3[2].4.1", "PID-3[5=MR].1", "PID-3[4.2=1.2.3].1", "PID-5.1.2", "PID-5.1", "PID-7",
     "PID-8", "OBX[3.1=8302-2]-5", "OBX[3.2=Body Height]-5", "OBX[2]-6.1", "OBX-5", "NTE-3", "PID-30"],
)  # fmt: skip
def test_the_written_down_source_of_these_tests_finds_what_the_reader_finds(address):
    lines = (
        'PID|1||1^^^A&1.2.3&ISO^MR~2^^^B^PI~""||Muster&von^""|||""|F',
        "OBX|1|NM|8302-2^Body height||180|cm^x",
        "OBX|2|NM|GR^BODY HEIGHT||170|mm",
        "NTE|1||nüchtern",
    )
    assert Hl7(*lines).find(address) == message(*lines).find(address)
