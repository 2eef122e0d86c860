"""Answers: each one is also held against hl7apy's tables of its own version."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.verdict import AckCode, Condition, OrderReply, Problem, Verdict
from bridge.formats.hl7.answer import build, build_without_header
from bridge.formats.hl7.lint import check_answer
from bridge.formats.hl7.reader import read, read_header

NOW = datetime(2026, 4, 19, 10, 0, 0, tzinfo=timezone(timedelta(hours=2)))
VERSIONS = ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2"]
TYPES = {
    "ORM^O01^ORM_O01": ("ORR^O02", "ORR_O02"),
    "OMG^O19^OMG_O19": ("ORG^O20", "ORG_O20"),
    "OMI^O23^OMI_O23": ("ORI^O24", "ORI_O24"),
    "ADT^A08^ADT_A01": ("ACK^A08", "ACK"),
    "ORU^R01^ORU_R01": ("ACK^R01", "ACK"),
}
OLD = {"2.1", "2.2", "2.3", "2.3.1"}
BEFORE_ERL = OLD | {"2.4"}


def request(
    kind="ORM^O01^ORM_O01", version="2.5.1", orders=None, charset="UNICODE UTF-8", enc="^~\\&", control="MSG-1"
):
    head = f"MSH|{enc}|HIS^1^ISO|KH|BRIDGE|CARDIO|20260419||{kind}|{control}|P^T|{version}||||||{charset}\r"
    timing = "^^^20260420^^R"
    body = orders or [
        f"ORC|NW|PL-1^HIS|||||{timing}\rOBR|1|PL-1^HIS||93000^ECG^CPT{'|' * 23}{timing}\rIPC|ACC-1|RP-1|1.2.3|SPS-1\r"
    ]
    return (head + "PID|1||4711^^^HIS||Testfrau^Erika\r" + "".join(body)).encode()


def answer(raw, verdict, **more):
    more = {"control_id": "CB1", "now": NOW} | more
    return build(read(raw), verdict, **more)


def lines(raw):
    return [line.split("|") for line in raw.decode().rstrip("\r").split("\r")]


def segment(raw, name):
    return next(line for line in lines(raw) if line[0] == name)


OK = Verdict(AckCode.AA, "", (OrderReply("OK", (4711,)),))
PENDING = Verdict(AckCode.AA, "accepted, task pending")
MISSING = Problem(Condition.REQUIRED_FIELD_MISSING, "no patient identifier", "PID-3", diagnostic="see PID-3")
REFUSED = Verdict(AckCode.AE, "", (OrderReply("UA", (), "no patient|identifier"),), (MISSING,))
UNSUPPORTED = Verdict(AckCode.AR, "not P", (), (Problem(Condition.UNSUPPORTED_PROCESSING_ID, "not P", "MSH-11"),))
WARNED = Verdict(
    AckCode.AA, "", (OrderReply("OK", (1,)),), (Problem(Condition.TABLE_VALUE_NOT_FOUND, "x", "PID-8", "W"),)
)
TWO_ERRORS = Verdict(AckCode.AE, "bad", (), (MISSING, Problem(Condition.DATA_TYPE, "date", "PID[1]-7[2].1")))
VERDICTS = {
    "ok": OK,
    "pending": PENDING,
    "refused": REFUSED,
    "unsupported": UNSUPPORTED,
    "warned": WARNED,
    "two errors": TWO_ERRORS,
    "accept": Verdict(AckCode.CA),
}


# Senders mix versions, so all are tried; but not OMI (since 2.5) in 2.1, whose OBR wants specimen times.
@pytest.mark.parametrize(("kind", "version"), [(k, v) for k in TYPES for v in VERSIONS if (k[:3], v) != ("OMI", "2.1")])
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("order_response", ["response", "ack"])
def test_hl7_conformant_in_every_version(version, kind, verdict, order_response):
    raw = request(kind, version)
    made = answer(raw, VERDICTS[verdict], order_response=order_response)
    assert check_answer(made) == []
    msh = segment(made, "MSH")
    responds = order_response == "response" and verdict != "accept"
    expected, structure = TYPES[kind] if responds else ("ACK^" + kind.split("^")[1], "ACK")
    assert msh[8] == (expected if version in OLD else f"{expected}^{structure}")
    assert msh[11] == version


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verdict", ["unsupported", "two errors"])
def test_hl7_a_header_alone_is_enough_for_a_refusal(version, verdict):
    made = build(read_header(request(version=version)), VERDICTS[verdict], control_id="CB1", now=NOW)
    assert check_answer(made) == []
    assert segment(made, "MSA")[2] == "MSG-1"


def test_hl7_3_3_the_header_of_the_reply():
    msh = segment(answer(request(), OK), "MSH")
    assert msh[2:6] == ["BRIDGE", "CARDIO", "HIS^1^ISO", "KH"]
    assert msh[6] == "20260419100000+0200"
    assert msh[8:12] == ["ORR^O02^ORR_O02", "CB1", "P^T", "2.5.1"]
    assert msh[17] == "UNICODE UTF-8"


@pytest.mark.parametrize("control", [b"MSG-1", b" padded ", b"x" * 60, b"a\\T\\b", b"\xe4\xf6", b"^odd&~", b""])
def test_hl7_v2_2_9_2_msa2_echoes_msh10_byte_for_byte(control):
    raw = b"MSH|^~\\&|HIS|||||| ADT^A08|" + control + b"|P|2.5\rPID|1\r"
    for message in (read(raw), read_header(raw)):
        made = build(message, PENDING, control_id="CB1", now=NOW)
        assert made.split(b"\rMSA|AA|")[1].split(b"|")[0] == control


@pytest.mark.parametrize("version", ["2.5.1^DEU", "2.5.1^DEU&&ISO3166", "2.9", "2", "", "V2.4"])
def test_hl7_msh12_is_echoed_whatever_it_says(version):
    msh = segment(answer(request(version=version), OK), "MSH")
    assert msh[11] == version


def test_hl7_the_senders_delimiters_are_used():
    raw = request().decode().replace("|", "@").replace("^~\\&", "!~\\&").replace("^", "!").encode()
    made = answer(raw, Verdict(AckCode.AE, "a|b^c@d!e", (OrderReply("UA", (), "x@y"),), (MISSING,))).decode()
    assert made.startswith("MSH@!~\\&@BRIDGE@CARDIO@HIS!1!ISO@KH@")
    assert "\rMSA@AE@MSG-1@a|b^c\\F\\d\\S\\e\r" in made
    assert "\rERR@@PID!1!3@101!Required field missing!HL70357@E@@@see PID-3@no patient identifier\r" in made
    assert "\rORC@UA@PL-1!HIS@" in made
    assert "@!x\\F\\y\r" in made


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ((4711,), "task=4711"),
        ((4711, 4712), "task=4711,4712"),
        ((2**64 - 1,), "task=18446744073709551615"),
        (tuple(range(10**10, 10**10 + 6)), "task=" + ",".join(str(10**10 + i) for i in range(6))),
        (tuple(range(10**10, 10**10 + 9)), "task=" + ",".join(str(10**10 + i) for i in range(6)) + " +3"),
    ],
)
def test_design_answers_msa3_has_the_task_ids(ids, text):
    made = answer(request(), Verdict(AckCode.AA, "not this", (OrderReply("OK", ids),)))
    assert segment(made, "MSA")[3] == text
    assert len(text) <= 80
    assert check_answer(made) == []


def test_msa3_text_is_cut_at_80_and_never_inside_an_escape():
    text = segment(answer(request(), Verdict(AckCode.AA, "x" * 76 + "||||")), "MSA")[3]
    assert text == "x" * 76 + "\\F\\"


@pytest.mark.parametrize(
    ("orc", "obr", "orc_3", "obr_21"),
    [
        ("ORC|NW|P", "OBR|1|P||93000^ECG", "4711^CARDIO", ""),
        ("ORC|NW|P|F^HIS", "OBR|1|P|F^HIS|93000^ECG", "F^HIS", "4711"),
        ("ORC|NW|P", "OBR|1|P|F^HIS|93000^ECG", "F^HIS", "4711"),
        ('ORC|NW|P|""', "OBR|1|P||93000^ECG", "4711^CARDIO", ""),
        ("ORC|NW|P\\T\\Q^H", "OBR|1|P||93000^ECG", "4711^CARDIO", ""),
    ],
)
def test_design_answers_orc3_is_the_task_id_unless_the_sender_filled_it(orc, obr, orc_3, obr_21):
    made = answer(request(orders=[f"{orc}\r{obr}\r"]), OK)
    assert segment(made, "ORC")[1:4] == ["OK", orc.split("|")[2], orc_3]
    obr_made = segment(made, "OBR")
    assert obr_made[2:5] == [orc.split("|")[2], orc_3, "93000^ECG"]
    assert (obr_made[21] if len(obr_made) > 21 else "") == obr_21
    assert check_answer(made) == []


def test_an_orc_for_each_order_in_their_order_with_its_own_outcome():
    orders = [f"ORC|NW|P{n}\rOBR|1|P{n}||93000^ECG\r" for n in (1, 2, 3)]
    replies = (OrderReply("OK", (11,)), OrderReply("UA", (), "unknown code"), OrderReply("OK", (13,)))
    made = answer(request(orders=orders), Verdict(AckCode.AE, "", replies, (MISSING,)))
    orcs = [line for line in lines(made) if line[0] == "ORC"]
    assert [(o[1], o[2], o[3]) for o in orcs] == [
        ("OK", "P1", "11^CARDIO"),
        ("UA", "P2", ""),
        ("OK", "P3", "13^CARDIO"),
    ]
    assert orcs[1][16] == "^unknown code"
    assert segment(made, "MSA")[3] == "task=11,13"
    assert check_answer(made) == []


def test_an_order_without_orc_is_answered_with_the_number_of_its_obr():
    made = answer(request(orders=["OBR|1|P1||93000^ECG\r"]), OK)
    assert segment(made, "ORC")[1:4] == ["OK", "P1", "4711^CARDIO"]


def test_children_of_one_orc_are_answered_under_their_own_numbers():
    raw = request(orders=["ORC|PA|P0\rOBR|1|C1||93000^ECG\rOBR|2|C2||93000^ECG\r"])
    made = answer(raw, Verdict(AckCode.AA, "", (OrderReply("OK", (1,)), OrderReply("OK", (2,)))))
    assert [line[2:4] for line in lines(made) if line[0] == "ORC"] == [["P0", "1^CARDIO"], ["C2", "2^CARDIO"]]


def test_an_order_of_orc_alone_is_answered_with_orc_alone():
    made = answer(request(orders=["ORC|CA|P1^HIS\r"]), Verdict(AckCode.AA, "", (OrderReply("UC", (), "has a task"),)))
    assert [line[0] for line in lines(made)] == ["MSH", "MSA", "ORC"]
    # The tables of ORR demand an order detail; the request had none, and none is made up.
    assert check_answer(made) == ["one of ORR_O02_OBRRQDRQ1RXOODSODT_SUPPGRP: required by ORR_O02_ORDER, missing"]


def test_hl7_err_up_to_2_4_is_one_eld_and_from_2_5_one_segment_a_problem():
    old = answer(request("ADT^A08", "2.4"), TWO_ERRORS)
    assert [line[1:] for line in lines(old) if line[0] == "ERR"] == [
        ["PID^1^3^101&Required field missing&HL70357~PID^1^7^102&Data type error&HL70357"]
    ]
    new = answer(request("ADT^A08^ADT_A01", "2.5"), TWO_ERRORS)
    assert [line[1:] for line in lines(new) if line[0] == "ERR"] == [
        ["", "PID^1^3", "101^Required field missing^HL70357", "E", "", "", "see PID-3", "no patient identifier"],
        ["", "PID^1^7^2^1", "102^Data type error^HL70357", "E", "", "", "", "date"],
    ]


@pytest.mark.parametrize("version", sorted(BEFORE_ERL))
def test_hl7_a_warning_is_no_err_where_err_knows_no_severity(version):
    assert not [line for line in lines(answer(request("ADT^A08", version), WARNED)) if line[0] == "ERR"]


def test_hl7_2_1_has_no_orc16_so_the_reason_is_a_note():
    made = answer(request(version="2.1"), REFUSED)
    assert [line[0] for line in lines(made)] == ["MSH", "MSA", "ORC", "NTE"]
    assert segment(made, "NTE")[3] == "no patient\\F\\identifier"


def test_hl7_ori_gives_the_procedure_back():
    made = answer(request("OMI^O23^OMI_O23"), OK)
    assert segment(made, "IPC")[1:] == ["ACC-1", "RP-1", "1.2.3", "SPS-1"]


@pytest.mark.parametrize("kind", TYPES)
def test_no_patient_segment_goes_back(kind):
    made = answer(request(kind), OK)
    assert b"PID|" not in made
    assert b"Testfrau" not in made


@pytest.mark.parametrize(
    ("charset", "codec", "number"),
    [
        ("UNICODE UTF-8", "utf-8", "Ö-1"),
        ("8859/1", "latin-1", "Ö-1"),
        ("", "cp1252", "Š-1"),
        ("8859/1", "cp1252", "Š-1"),
    ],
)
def test_hl7_3_3_the_answer_is_in_the_senders_set_and_his_numbers_come_back_as_sent(charset, codec, number):
    raw = request(charset=charset, orders=[f"ORC|NW|{number}\rOBR|1|{number}||X^Y\r"]).decode().encode(codec)
    made = answer(raw, Verdict(AckCode.AA, "für später", (OrderReply("UA", (), "größer"),)))
    assert f"\rORC|UA|{number}|".encode(codec) in made
    assert "\rMSA|AA|MSG-1|für später\r".encode(codec) in made


def test_hl7_a_sender_of_the_wrong_set_is_answered_in_the_one_he_declares():
    raw = request(orders=["ORC|NW|Ö-1\rOBR|1|Ö-1||X^Y\r"]).decode().encode("cp1252")
    made = answer(raw, OK)
    assert "\rORC|OK|Ö-1|".encode() in made
    assert check_answer(made) == []


def test_hl7_v2_9_2_sequence_number_is_given_back():
    made = answer(request().replace(b"|2.5.1||||||", b"|2.5.1|17|||||"), OK)
    assert segment(made, "MSA")[4] == "17"


def test_hl7_357_100_without_a_header():
    made = build_without_header("no MSH|segment", control_id="CB1", now=datetime(2026, 4, 19, 8, tzinfo=UTC))
    assert lines(made) == [
        ["MSH", "^~\\&", "", "", "", "", "20260419080000+0000", "", "ACK", "CB1", "P", "2.5.1"],
        ["MSA", "AR", "", "no MSH\\F\\segment"],
        ["ERR", "", "", "100^Segment sequence error^HL70357", "E", "", "", "", "no MSH\\F\\segment"],
    ]
    assert check_answer(made) == ["MSA[1]-2: required, missing"]  # there is no MSH-10 to give back


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120), st.text(max_size=120), st.sampled_from(["UNICODE UTF-8", "8859/1", "ASCII", "", "BIG-5"]))
def test_no_text_of_ours_breaks_the_form(text, reason, charset):
    problem = Problem(Condition.APPLICATION_INTERNAL_ERROR, reason, "PID-3", diagnostic=text)
    made = answer(request(charset=charset), Verdict(AckCode.AE, text, (OrderReply("UA", (), reason),), (problem,)))
    message = read(made)
    assert [s.name for s in message.segments] == ["MSH", "MSA", "ERR", "ORC", "OBR"]
    assert len(message.segments[1].fields) <= 4
    assert message.header.control_id == "CB1"
    assert b"\x0b" not in made
    assert b"\x1c" not in made
