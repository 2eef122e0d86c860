"""The conformance report, and the traps of hl7apy that it must not fall into (hl7.md §7)."""

import hl7apy
import pytest

from bridge.formats.hl7.lint import FieldName, check_answer, field_names, lint
from bridge.formats.hl7.structure import Node, compare

HEAD = "MSH|^~\\&|HIS|KH|BRIDGE|CARDIO|20260419100000+0200||ORM^O01^ORM_O01|1|P|2.5.1\r"
GOOD = HEAD + "PID|1||4711^^^HIS||Testfrau^Erika\rORC|NW|A\rOBR|1|A||93000^ECG\r"


def found(text, severity=None):
    findings = lint(text.encode())
    assert not any("Testfrau" in f.text + f.where for f in findings)
    return [(f.where, f.text) for f in findings if severity in {None, f.severity}]


def test_a_good_message_has_no_findings():
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("name", "text", "severity", "where", "says"),
    [
        ("ZDS is dropped", GOOD + "ZDS|1\r", "info", "ZDS[1]", "site's own"),
        ("ZDS is dropped, said", GOOD + "ZDS|1\r", "info", "", "drops ZDS"),
        ("IPC in ORM", GOOD + "IPC|1|2|3|4\r", "error", "IPC[1]", "not in ORM_O01"),
        ("PRT before 2.7", GOOD + "PRT|1\r", "error", "PRT[1]", "no segment of version 2.5.1"),
        ("PRT, the parser", GOOD + "PRT|1\r", "info", "", "drops PRT"),
        ("TQ1 between ORC and OBR", GOOD.replace("OBR|", "TQ1|1\rOBR|"), "error", "TQ1[1]", "not in ORM_O01"),
        ("the parser refuses", GOOD.replace("^~\\&|", "^~|"), "info", "", "refuses the message"),
        ("LF", GOOD.replace("\r", "\n"), "info", "", "segments end in LF"),
        ("no version", GOOD.replace("2.5.1", ""), "warning", "MSH-12", "held against 2.5.1"),
        ("2.5.9", GOOD.replace("2.5.1", "2.5.9"), "warning", "MSH-12", "held against 2.5.1"),
        ("2.9", GOOD.replace("2.5.1", "2.9"), "warning", "MSH-12", "held against 2.8.2"),
        ("ORM in 2.7", GOOD.replace("2.5.1", "2.7"), "info", "MSH-9", "held against 2.6"),
        ("bad date", GOOD.replace("Erika\r", "Erika||1970-01-01\r"), "error", "PID[1]-7.1", "no valid DTM"),
        ("no structure", GOOD.replace("ORM^O01^ORM_O01", "XYZ^Z99"), "error", "MSH-9", "no message structure"),
        ("PID-5 missing", GOOD.replace("Testfrau^Erika", ""), "error", "PID[1]-5", "required, missing"),
        ("ORC missing", GOOD.replace("ORC|NW|A\r", ""), "error", "ORC", "required by ORM_O01_ORDER"),
        ("no order", HEAD, "error", "ORC", "required by ORM_O01"),
        ("order of segments", GOOD.replace("PID|", "ORC|NW\rPID|"), "error", "PID[1]", "not at this place"),
        ("two controls", GOOD.replace("ORC|NW", "ORC|NW~XO"), "error", "ORC[1]-1", "2 repeats, 1 allowed"),
        ("sex", GOOD.replace("Erika\r", "Erika|||W\r"), "warning", "PID[1]-8", "not in table HL70001"),
        ("field beyond", GOOD.replace("Erika\r", "Erika" + "|" * 40 + "x\r"), "warning", "PID[1]-45", "no field of"),
        ("unreadable", "hello", "error", "MSH", "no MSH"),
        ("batch count", "BHS|^~\\&\r" + GOOD + "BTS|4\r", "warning", "", "BTS-1"),
        ("batch inside", "BHS|^~\\&\r" + GOOD + "IPC|1|2|3|4\rBTS|1\r", "error", "IPC[1]", "message 1: not in"),
    ],
    ids=lambda v: v if isinstance(v, str) and len(v) < 30 else "",
)
def test_findings(name, text, severity, where, says):
    assert [t for w, t in found(text, severity) if w == where and says in t]


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_any_cut_message_is_reported_on(cut):
    lint(GOOD[:cut].encode())


ACK = "MSH|^~\\&|A|B|C|D|20260419100000+0200||ACK^A08^ACK|X|P|2.5.1\rMSA|AA|1|text\r"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("conformant", ACK, None),
        ("no offset", ACK.replace("+0200", ""), "MSH-7"),
        ("no last CR", ACK[:-1], "CR"),
        ("LF", ACK.replace("\r", "\n"), "line feed"),
        ("no MSA", ACK.split("MSA", maxsplit=1)[0], "MSA"),
        ("no MSH-10", ACK.replace("|X|", "||"), "MSH[1]-10"),
        ("MSA-1 unknown", ACK.replace("|AA|", "|XX|"), "MSA[1]-1"),
        ("MSA-2 empty", ACK.replace("|AA|1|", "|AA||"), "MSA[1]-2"),
        ("MSA-3 long", ACK.replace("text", "x" * 81), "MSA-3"),
        ("structure missing", ACK.replace("A08^ACK", "A08"), "MSH-9"),
        ("structure too early", ACK.replace("2.5.1", "2.3"), "MSH-9"),
        ("ERR-1 in 2.5", ACK + "ERR|PID^1^3^101\r", "ERR[1]-3"),
        ("Z segment", ACK + "ZTK|1\r", "ZTK"),
        ("strange segment", ACK + "PV1|1|I\r", "PV1"),
        ("declared set", ACK.replace("2.5.1", "2.5.1||||||ASCII").replace("text", "ü"), "MSH-18"),
        ("unreadable", "x", "MSH"),
    ],
    ids=lambda v: v if isinstance(v, str) and len(v) < 30 else "",
)
def test_check_answer_finds_what_is_wrong(name, text, says):
    faults = check_answer(text.encode())
    assert bool(faults) is (says is not None)
    assert says is None or any(says in fault for fault in faults)


TREE = Node(
    "M",
    children=(
        Node("A"),
        Node("P", 0, 1, (Node("B"), Node("N", 0, -1))),
        Node("O", 1, -1, (Node("C"), Node("D", 0, 1, (Node("E"), Node("F")), choice=True), Node("N", 0, -1))),
    ),
)


@pytest.mark.parametrize(
    ("names", "misfits"),
    [
        ("A C", []),
        ("A B N N C E N C F", []),
        ("A C C C", []),
        ("A", [("missing", "C")]),
        ("A B", [("missing", "C")]),
        ("A B C E F", [("missing", "C")]),
        ("A X C", [("unknown", "X")]),
        ("C A", [("missing", "A"), ("misplaced", "A")]),
        ("A E N C", [("missing", "C")]),
        ("A N C", [("missing", "C")]),
        ("A B C B", [("misplaced", "B")]),
        ("", [("missing", "A"), ("missing", "C")]),
    ],
)
def test_structure_misfits(names, misfits):
    found = compare(names.split(), TREE)
    assert sorted((m.kind, m.name) for m in found) == sorted(misfits)


@pytest.mark.parametrize("version", ["2.1", "2.3.1", "2.5.1", "2.7", "2.8.2"])
def test_every_segment_of_the_tables_is_reported_on_and_named(version):
    """The tables have odd entries: ORO in 2.1, TQ1-1 in 2.7."""
    for segment in hl7apy.load_library(version).SEGMENTS:
        field_names(segment, version)
        body = "|".join([segment, *("x" for _ in range(40))])
        assert found(HEAD.replace("2.5.1", version) + body + "\r"), segment


def test_fields_and_their_components_have_names():
    names = field_names("PID", "2.5.1")
    assert names[2].name == "Patient identifier list"
    assert names[2].components[:2] == ("Id number", "Check digit")
    assert field_names("MSH", "2.99")[9] == FieldName("Message control id")
    assert field_names("ZPD", "2.5.1") == field_names("", "2.5.1") == ()
