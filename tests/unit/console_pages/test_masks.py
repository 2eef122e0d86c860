"""What is shown to somebody who may not see whose it is: a list of what is none of a patient's, and nothing else."""

import json

import pytest
from markupsafe import escape

from bridge.console.access import masks
from bridge.console.access.hl7_masks import DOTS, is_number_place, is_open, masked_text
from bridge.console.access.masks import MASK, each, formed, hidden, record, shown
from bridge.console.access.reveals import Reveals
from bridge.console.access.visitor import Role, Visitor

MESSAGE = (
    "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|C1|P|2.3.1\r"
    "PID|1||4711^^^TEST^MR~0815||Muster^Max&Moritz||19700131|M\rORC|NW|PL-1^HIS||||Muster\r"
    "OBR|1|PL-1^HIS||93000^ECG\rOBX|1|TX|8302-2^Height||Muster is 180|cm|||||F\rZPD|Muster\rMuster\r"
)


def test_what_nobody_has_listed_is_hidden() -> None:
    rule = record("id state", names=each(record("kind")), tag=formed(r"br1-\w+"))
    document = {
        "id": 7,
        "state": "HELD",
        "born": "1970-01-31",
        "empty": "",
        "none": None,
        "names": [{"kind": "L", "text": "Muster"}],
        "tag": "br1-abc",
    }
    assert rule(document) == {
        "id": 7,
        "state": "HELD",
        "born": MASK,
        "empty": "",
        "none": None,
        "names": [{"kind": "L", "text": MASK}],
        "tag": "br1-abc",
    }
    assert rule({"tag": "Muster", "names": {"Muster": 1}}) == {"tag": MASK, "names": MASK}
    assert (rule("Muster"), rule(None), shown("a")) == (MASK, None, "a")


def test_a_mask_is_the_same_for_every_value_in_a_page_and_in_json() -> None:
    assert {hidden(v) for v in ("a", "a" * 99, 7, 0, False, ["a"], {"a": 1})} == {MASK}
    assert str(escape(MASK)) == (
        f'<span class="masked"><span aria-hidden="true">{DOTS}</span><span class="unseen">masked</span></span>'
    )
    assert json.loads(json.dumps({"a": MASK})) == {"a": DOTS}


def test_a_masked_message_keeps_its_structure_and_its_open_positions() -> None:
    masked = masked_text(MESSAGE)
    assert masked is not None
    assert masked.split("\r") == [
        "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|C1|P|2.3.1",
        f"PID|{DOTS}||{DOTS}^^^{DOTS}^{DOTS}~{DOTS}||{DOTS}^{DOTS}||{DOTS}|{DOTS}",
        f"ORC|NW|PL-1^HIS||||{DOTS}",
        "OBR|1|PL-1^HIS||93000^ECG",
        f"OBX|1|TX|{DOTS}^{DOTS}||{DOTS}|{DOTS}|||||F",
        f"ZPD|{DOTS}",
        DOTS,
    ]


@pytest.mark.parametrize("text", ["Muster is no message", "MSH|^~\\&|A\rMSH|^~\\&|Muster\r"])
def test_what_cannot_be_read_is_masked_whole(text: str) -> None:
    assert masked_text(text) == DOTS
    assert (masked_text(""), masked_text(None)) == ("", None)


@pytest.mark.parametrize(
    ("segment", "field", "text", "is_shown"),
    [
        ("ORC", 1, "NW", True),
        ("ORC", 1, "Muster", False),
        ("MSA", 3, "task=4711,4712", True),
        ("MSA", 3, "Muster is unknown", False),
        ("ERR", 3, "101", True),
        ("ERR", 8, "Muster", False),
        ("OBX", 5, "1", False),
        ("PID", 1, "1", False),
        ("ZZZ", 1, "1", False),
    ],
)
def test_open_positions(segment: str, field: int, text: str, is_shown: bool) -> None:
    assert is_open(segment, field, text) is is_shown


@pytest.mark.parametrize(
    ("where", "is_one"),
    [
        ("OBR-18.1", True),
        ("ORC-2.1, OBR-2.1", True),
        ("RequestAttributesSequence[1].AccessionNumber", True),
        ("(rules)", True),
        ("PID-18.1", False),
        ("OBR-18.1 + PID-3.1", False),
        ("PatientID", False),
        ("(patient record)", False),
        ("", False),
    ],
)
def test_an_investigation_is_shown_where_it_is_an_order_number(where: str, is_one: bool) -> None:
    assert is_number_place(where) is is_one
    trace = {"field": "investigation_id", "value": "A1", "where": where, "rule": "first", "note": ""}
    assert masks.fields({"investigation_id": "A1"}, [trace]) == {"investigation_id": "A1" if is_one else MASK}
    assert masks.traces([trace])[0]["value"] == ("A1" if is_one else MASK)


def test_tags_of_ours_are_shown_and_a_sites_own_are_not() -> None:
    tags = ["br1-" + "a" * 26, "br1-" + "a" * 26 + "-g2", "draft=4711", "Muster", "br1-Muster"]
    assert masks.fields({"searching_tags": tags}, []) == {"searching_tags": [*tags[:3], MASK, MASK]}


@pytest.mark.parametrize(("actor", "is_shown"), [("bridge", True), ("anna", False)])
def test_what_a_person_typed_is_hidden_and_what_the_bridge_says_is_not(actor: str, is_shown: bool) -> None:
    event = {"at": "x", "actor": actor, "state": "HELD", "reason": "r", "detail": {"why": "Muster", "order": "5"}}
    masked = masks._event(event)
    assert masked["detail"] == {"why": "Muster" if is_shown else MASK, "order": "5"}


@pytest.mark.parametrize(
    ("place", "is_shown"),
    [("AccessionNumber", True), ("SOPInstanceUID", True), ("PatientID", False), ("Unheard", False)],
)
def test_attributes_of_an_object(place: str, is_shown: bool) -> None:
    for where in (place, f"RequestAttributesSequence[1].{place}", f"{place}[2]"):
        assert masks.attribute(where, "x") == ("x" if is_shown else MASK)


def test_a_reveal_is_of_one_person_session_and_thing_for_a_while() -> None:
    reveals, otto = Reveals(), Visitor("otto", Role.OPERATOR, 1)
    reveals.open(otto, "message:1", at=0.0, idle=10.0)
    others = [
        (Visitor("otto", Role.OPERATOR, 2), "message:1"),
        (Visitor("anna", Role.OPERATOR, 1), "message:1"),
        (otto, "message:2"),
        (otto, "patient:1"),
        (Visitor("otto", Role.VIEWER, 1), "message:1"),
    ]
    for who, what in others:
        assert not reveals.is_open(who, what, at=1.0, idle=10.0)
    assert reveals.is_open(otto, "message:1", at=9.0, idle=10.0)
    assert reveals.is_open(otto, "message:1", at=18.0, idle=10.0, looks=False)
    assert not reveals.is_open(otto, "message:1", at=20.0, idle=10.0), "nobody looked since second 9"
    reveals.open(otto, "message:1", at=30.0, idle=10.0)
    reveals.close(otto, "message:1")
    assert not reveals.is_open(otto, "message:1", at=30.0, idle=10.0)
