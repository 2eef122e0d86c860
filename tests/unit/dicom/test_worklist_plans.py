"""What an HL7 order says of the ECG to come (hl7.md §5; IHE RAD TF-2 4.4, ZDS; HL7 v2.5.1 §4.5)."""

from datetime import UTC, datetime

import pytest

from bridge.dispatch.understand import understand_message
from bridge.domain.plan import Code, Plan, fits, short_number
from bridge.domain.task import NumberKind, OrderNumber
from bridge.formats.hl7.reader import read
from bridge.mapping.plans import plan_of
from bridge.mapping.rules import load_rules
from bridge.settings import Settings

RULES = load_rules(None)


def plan(orc: str = "ORC|NW|PL-1^HIS", obr: str = "OBR|1|PL-1^HIS", *more: str, name: str = "Muster^Max") -> Plan:
    """The plan of an ORM^O01 with these segments."""
    lines = ("MSH|^~\\&|HIS|TEST|||20260301120000||ORM^O01|C1|P|2.5", f"PID|1||4711||{name}", *more, orc, obr)
    (order,) = read("\r".join((*lines, "")).encode(), fallback_charset="utf-8").orders()
    return plan_of(order, RULES, time_zone="Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("orc", "obr", "more", "planned"),
    [
        ("ORC|NW|1", "OBR|1|1", "", None),
        ("ORC|NW|1|||||^^^20260302080000", "OBR|1|1", "", "202603020700"),
        ("ORC|NW|1", "OBR|1|1||||20260302080000+0300", "", "202603020500"),
        ("ORC|NW|1|||||^^^20260302080000", "OBR|1|1|" + "|" * 33 + "20260303090000", "", "202603020700"),
        ("ORC|NW|1", "OBR|1|1|" + "|" * 33 + "20260303090000", "", "202603030800"),
        ("ORC|NW|1|||||^^^soon", "OBR|1|1||||20260701080000", "", "202607010600"),
    ],
)
def test_the_planned_time_is_the_first_of_the_chain_in_the_sites_zone(
    orc: str, obr: str, more: str, planned: str | None
) -> None:
    assert plan(orc, obr).scheduled_at == (at(planned) if planned else None)


def test_tq1_7_goes_before_orc_7() -> None:
    message = (
        "MSH|^~\\&|HIS|TEST|||20260301120000||OMG^O19|C1|P|2.5\rPID|1||4711||Muster^Max\r"
        "ORC|NW|1|||||^^^20260305080000\rTQ1|1||||||20260304080000||S\rOBR|1|1\r"
    )
    (order,) = read(message.encode()).orders()
    found = plan_of(order, RULES, time_zone="UTC")
    assert (found.scheduled_at, found.priority) == (at("202603040800"), "STAT")


def test_both_triplets_of_obr_4_are_codes_and_one_without_a_scheme_is_text() -> None:
    found = plan(obr="OBR|1|1||93000^12-lead ECG^CPT^EKG^EKG 12^99HIS")
    assert found.codes == (Code("93000", "12-lead ECG", "CPT"), Code("EKG", "EKG 12", "99HIS"))
    assert found.description == "12-lead ECG"
    local = plan(obr="OBR|1|1||EKG")
    assert (local.codes, local.description) == ((), "EKG")


def test_hl7_v2_5_1_2_a_86_a_physician_is_a_name_of_dicom() -> None:
    asks = "55^Arzt^Anna^Maria^jun.^Dr."
    found = plan(f"ORC|NW|1||||||||||{asks}", "OBR|1|1", "PV1|1|I|W3^12^A|||||77^Haus^Hanna")
    assert found.requested_by == "Arzt^Anna^Maria^Dr.^jun."
    assert found.referred_by == "Haus^Hanna"
    assert found.location == "W3 12 A"
    assert plan(obr=f"OBR|1|1|{'|' * 13}{asks}").requested_by == "Arzt^Anna^Maria^Dr.^jun."


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Muster^Max^Karl^jun.^Dr.", "Muster^Max^Karl^Dr.^jun."),
        ("Müller^Jürgen", "Müller^Jürgen"),
        ("Muster, Max", "Muster^Max"),
        ("Maiden^Eva^^^^^M~Muster^Eva^^^^^L", "Muster^Eva"),
        ("Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("山田^太郎^^^^^L^I", "=山田^太郎"),
        ("Odd\\R\\Name=x^A\\E\\B", "Odd~Name x^A B"),
        ("", ""),
    ],
)
def test_ps3_5_6_2_1_the_patients_name_with_its_parts_and_groups(name: str, told: str) -> None:
    assert plan(name=name).name == told


@pytest.mark.parametrize(
    ("ipc", "uid"), [("1.2.276.0.1", "1.2.276.0.1"), ("1.2..3", ""), ("study", ""), ("1." + "2" * 70, "")]
)
def test_a_study_that_the_sender_planned_is_used_where_it_is_a_uid(ipc: str, uid: str) -> None:
    message = (
        "MSH|^~\\&|HIS|TEST|||20260301120000||OMI^O23|C1|P|2.5\rPID|1||4711||Muster^Max\rORC|NW|1\rOBR|1|1\r"
        f"IPC|ACC1|RP1|{ipc}|SPS1|ECG||Cart 1||CART1\r"
    )
    (order,) = read(message.encode()).orders()
    found = plan_of(order, RULES, time_zone="UTC")
    assert (found.study_uid, found.step_id, found.station, found.station_name) == (uid, "SPS1", "CART1", "Cart 1")


def test_a_plan_is_the_same_after_it_was_kept() -> None:
    whole = plan("ORC|NW|1|||||^^^20260302080000^^S|||||55^Arzt^Anna", "OBR|1|1||93000^ECG^CPT", "PV1|1|I|W3").said_by(
        7
    )
    assert Plan.from_json(whole.as_json()) == whole
    assert Plan.from_json(Plan().as_json()) == Plan()


def test_a_later_plan_keeps_what_it_does_not_say() -> None:
    earlier = Plan(name="Muster^Max", location="W3", message_id=1)
    assert Plan(location="W4", message_id=2).over(earlier) == Plan(name="Muster^Max", location="W4", message_id=2)


@pytest.mark.parametrize(
    ("value", "can"),
    [("A" * 16, True), ("A" * 17, False), ("", False), (" ", False), ("A\\B", False), ("A\tB", False), ("Ä-1", True)],
)
def test_ps3_5_6_2_a_number_that_does_not_fit_16_characters_is_never_cut(value: str, *, can: bool) -> None:
    assert fits(OrderNumber(value, NumberKind.PLACER)) is can


def test_a_short_number_follows_from_the_orders_own_and_is_made_only_where_none_fits() -> None:
    long = OrderNumber("7d9f0e52-6f0a-4a52-9d0f-2d1f6a7c9b11", NumberKind.PLACER, "HIS")
    made = short_number(long, [long])
    assert made is not None
    assert made == short_number(long, [long])
    assert fits(made)
    assert made != short_number(OrderNumber(long.value, NumberKind.PLACER, "LAB"), [long])
    assert short_number(long, [long, OrderNumber("ACC1", NumberKind.ACCESSION)]) is None
    assert short_number(OrderNumber("HIS|C1|1", NumberKind.FILLER, "SN"), []) is not None


@pytest.mark.parametrize(
    ("numbers", "accession", "warning"),
    [
        ("PL-1", "ACC1", ""),
        ("PL-1", "A" * 17, "order 1 has an accession number that no cart can carry: another is told"),
        ("P" * 17, "A" * 17, "order 1 has no number that a cart can carry: CB"),
    ],
)
def test_a_number_that_no_cart_can_carry_is_told_to_the_operator(numbers: str, accession: str, warning: str) -> None:
    settings = Settings.model_validate({"dicom": {"calling_ae_titles": ["CART1"], "worklist": {"enabled": True}}})
    text = (
        "MSH|^~\\&|HIS|TEST|||20260301120000||ORM^O01|C1|P|2.5\rPID|1||4711||Muster^Max\r"
        f"ORC|NW|{numbers}\rOBR|1|{numbers}{'|' * 16}{accession}\r"
    )
    listener = settings.hl7.all()["hl7"]
    understood = understand_message(read(text.encode()), "HIS|TEST", RULES, settings, at("202603011200"), listener)
    assert [w for w in understood.warnings if "cart" in w and w.startswith(warning)] == [
        w for w in understood.warnings if "cart" in w
    ]
    assert any("cart" in w for w in understood.warnings) is bool(warning)
    assert not [d for d in understood.doubts if "cart" in d.text]  # the operator's, not the sender's
    assert understood.orders[0].plan.name == "Muster^Max"
