"""The table of cases of hl7.md §3 and §6: headers, codes, versions, modes and bytes, by their clause."""

import asyncio

import pytest

from bridge.formats.hl7.lint import check_answer
from bridge.formats.hl7.mllp import encode
from bridge.settings import host_port
from bridge.store import listing
from tests.acceptance.receiver import field_of
from tests.acceptance.talk import Talk, every_row, order, pid, told_about, unchecked

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2")
# --- headers of answers (§3.3) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", ["C 1", "X" * 40, "a\\T\\b", "A^B", "ÄÖ", "0007 ", "{5E7B}-1"], ids=lambda n: n.encode().hex()[:12]
)
async def test_hl7_v2_2_9_2_msa2_echoes_msh10(talk: Talk, number: str) -> None:
    patient, own = talk.new()
    head = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|{number}|P|2.5.1||||||UNICODE UTF-8\r"
    answer = await talk.raw((head + "\r".join([pid(patient), *order("NW", own), ""])).encode())
    assert answer.split(b"\r")[1].split(b"|")[2] == number.encode()


async def test_hl7_v2_2_9_2_sender_and_receiver_change_places(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    assert [said.get("MSH", n) for n in (3, 4, 5, 6)] == ["CARDIO", "BRIDGE", "HIS", "TEST"]
    assert said.get("MSH", 10) not in {"", said.control_id}
    assert said.get("MSH", 7)[-5] in "+-"


@pytest.mark.parametrize("processing", ["T", "D"])
async def test_hl7_v2_2_9_2_2_a_test_message_is_answered_as_one(talk: Talk, processing: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), msh_11=processing)
    assert (said.code, said.error[:2], said.get("MSH", 11)) == ("AR", ("202", "MSH^1^11"), processing)
    taken = await talk.say("ORM^O01", pid(patient), *order("NW", own), msh_11=processing, listener="hl7.test")
    assert (taken.code, taken.get("MSH", 11)) == ("AA", processing)


@pytest.mark.parametrize("version", VERSIONS)
async def test_hl7_v2_3_4_the_order_response_is_of_the_version(talk: Talk, version: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), version=version)
    parts = said.get("MSH", 9).split("^")
    assert parts == (["ORR", "O02", "ORR_O02"] if version >= "2.4" else ["ORR", "O02"])
    assert (said.code, said.get("MSH", 12)) == ("AA", version)
    assert said.get("ORC", 3).endswith("^CARDIO")
    assert said.get("MSA", 3) == f"task={said.get('ORC', 3).split('^')[0]}"
    if version < "2.7":  # later versions have no ORM
        assert check_answer(said.text.encode()) == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_hl7_v2_3_4_err_is_of_the_version(talk: Talk, version: str) -> None:
    said = await talk.say("ADT^A08", "PID|1||||Muster^Max", version=version)
    assert said.code == "AE"
    if version >= "2.5":
        assert (said.get("ERR", 1), said.get("ERR", 3)) == ("", "101^Required field missing^HL70357")
        assert (said.get("ERR", 2), said.get("ERR", 4)) == ("PID^1^3", "E")
    else:
        assert said.get("ERR", 1) == "PID^1^3^101&Required field missing&HL70357"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("ORM^O01", "ORR^O02"), ("OMG^O19^OMG_O19", "ORG^O20"), ("OMI^O23^OMI_O23", "ORI^O24"), ("ADT^A08", "ACK^A08")],
)
async def test_hl7_3_4_reply_type_per_trigger(talk: Talk, kind: str, answer: str) -> None:
    patient, own = talk.new()
    ipc = ("IPC|ACC1^X|RP1^X|1.2.3^X|SPS1^X",) if kind.startswith("OMI") else ()
    segments = order("NW", own) if "ADT" not in kind else ()
    said = await talk.say(kind, pid(patient), *segments, *ipc)
    assert "^".join(said.get("MSH", 9).split("^")[:2]) == answer
    assert check_answer(said.text.encode()) == []


async def test_hl7_3_4_a_sender_that_takes_no_orr_gets_an_ack(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), listener="hl7.ack")
    assert (said.get("MSH", 9), said.count("ORC")) == ("ACK^O01^ACK", 0)
    assert said.get("MSA", 3).startswith("task=")


async def test_rules_of_one_sender_go_before_his_listeners(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), sender="OSLO|NORTH")
    assert said.get("MSH", 9) == "ACK^O01^ACK"


async def test_hl7_3_6_msh_13_is_echoed_in_msa_4(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), rest="|17")
    assert said.get("MSA", 4) == "17"


# --- what cannot be taken (§3.2) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"hello", b"PID|1||4711\r", b"MSH\r", b"MSH|^^~\\&|A\r", b"MS"])
async def test_hl7_3_2_without_a_readable_header_the_answer_is_ar_100(talk: Talk, body: bytes) -> None:
    answer = await talk.raw(body) if b"MSH|" not in body else await unchecked(talk, body)
    assert b"\rMSA|AR||" in answer
    assert b"ERR||" in answer
    assert b"|100^" in answer


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *((kind, "200") for kind in ("MDM^T02", "ORU^R01", "OML^O21", "SIU^S12")),
        *((kind, "201") for kind in ("ADT^A14", "ADT^A60", "ORM^O99")),
    ],
)
async def test_hl7_3_2_what_is_not_handled_is_ar(talk: Talk, kind: str, code: str) -> None:
    said = await talk.say(kind, pid(talk.new()[0]))
    where = "MSH^1^9^^1" if code == "200" else "MSH^1^9^^2"
    assert (said.code, said.error[0], said.get("ERR", 2)) == ("AR", code, where)
    assert (await talk.row(said.control_id)).state == "REJECTED"


async def test_hl7_3_2_an_event_that_the_site_ignores_is_aa(talk: Talk) -> None:
    said = await talk.say("ADT^A60", pid(talk.new()[0]), listener="hl7.strict")
    assert (said.code, said.get("MSA", 3)) == ("AA", "not processed: this event is passed over here")
    assert (await talk.row(said.control_id)).state == "FILTERED"


@pytest.mark.parametrize(
    ("version", "listener", "code"), [("9.9", "hl7", "AA"), ("", "hl7", "AA"), ("9.9", "hl7.strict", "AR")]
)
async def test_hl7_3_2_an_unknown_version_is_read_with_a_warning_or_refused(
    talk: Talk, version: str, listener: str, code: str
) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), version=version, listener=listener)
    assert (said.code, said.error) == (code, ("203", "MSH^1^12", "W" if code == "AA" else "E"))


@pytest.mark.parametrize(
    ("who", "error"),
    [
        ("Muster^Max||19700131|Q", ("103", "PID^1^8^^1", "W")),
        ("Muster^Max||19700231|M", ("102", "PID^1^7^^1", "W")),
        ("Muster^Max||99999999|M", ("102", "PID^1^7^^1", "W")),
    ],
)
async def test_hl7_3_2_a_bad_value_is_dropped_with_a_warning_or_refused(
    talk: Talk, who: str, error: tuple[str, str, str]
) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient, who), *order("NW", own))
    assert (said.code, said.error) == ("AA", error)
    strict = await talk.say("ORM^O01", pid(patient, who), *order("NW", own + "S"), listener="hl7.strict")
    assert (strict.code, strict.error, strict.get("ORC", 1)) == ("AE", (*error[:2], "E"), "UA")
    assert (await talk.row(strict.control_id)).task_ids == []


@pytest.mark.parametrize(("listener", "code"), [("hl7", "AE"), ("hl7.strict", "AR")])
async def test_hl7_3_2_a_missing_patient_id_names_its_place(talk: Talk, listener: str, code: str) -> None:
    said = await talk.say("ORM^O01", "PID|1||||Muster^Max", *order("NW", talk.new()[1]), listener=listener)
    assert (said.code, said.error, said.get("ORC", 1)) == (code, ("101", "PID^1^3", "E"), "UA")


async def test_hl7_3_2_a_missing_order_number_names_its_place(talk: Talk) -> None:
    said = await talk.say("ORM^O01", pid(talk.new()[0]), "ORC|NW", "OBR|1|||93000^ECG^CPT")
    assert (said.code, said.error) == ("AE", ("101", "ORC^1^2", "E"))


async def test_hl7_3_2_an_order_number_used_for_something_else_is_205(talk: Talk) -> None:
    patient, own = talk.new()
    first = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    again = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    assert again.get("ORC", 3) == first.get("ORC", 3)
    other = await talk.say("ORM^O01", pid(patient), *order("NW", own, reason="other"))
    assert (other.code, other.error, other.get("ORC", 1)) == ("AE", ("205", "ORC^1^2", "E"), "UA")
    stranger = await talk.say("ORM^O01", pid(talk.new()[0]), *order("NW", own))
    assert stranger.error[0] == "205"


async def test_hl7_3_2_the_words_of_the_api_are_in_err_7(talk: Talk) -> None:
    patient, own = talk.new()
    talk.sandbox.faults.add("400", on="tasks", times=1)
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    assert (said.code, said.error[0], said.get("ORC", 1)) == ("AE", "207", "UA")
    assert said.get("ERR", 7)
    again = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    assert (again.code, again.get("ORC", 1)) == ("AA", "OK")


@pytest.mark.parametrize(
    ("obr_4", "obr_24", "ours"),
    [
        ("93000^ECG^CPT", "", True),
        ("L1^Local^L^93000^ECG^CPT", "", True),
        ("L1^Local^L", "EC", True),
        ("85025^CBC^CPT", "", False),
        ("", "LAB", False),
        ("", "", False),
    ],
)
async def test_hl7_5_orders_that_are_not_ecg_are_passed_over(talk: Talk, obr_4: str, obr_24: str, ours: bool) -> None:
    patient, own = talk.new()
    obr = f"OBR|1|{own}^HIS||{obr_4}{'|' * 20}{obr_24}"
    said = await talk.say("ORM^O01", pid(patient), f"ORC|NW|{own}^HIS", obr, listener="hl7.filter")
    assert said.code == "AA"
    assert said.get("MSA", 3).startswith("task=" if ours else "not processed: ")


async def test_hl7_3_1_an_acknowledgement_is_noted_and_never_answered(talk: Talk) -> None:
    before = len(await talk.up.store.read(every_row))
    body = b"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ACK|X1|P|2.5.1\rMSA|AA|Y1\r"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(unchecked(talk, body), 0.3)
    await talk.until(lambda conn: len(every_row(conn)) > before)
    assert (await talk.row("X1")).reason == "acknowledgement"


# --- modes (§3.1) ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", ["", "|||AL|NE", "|||NE|NE", "|||AL|AL", "|||ER|SU"])
async def test_hl7_3_1_original_mode_answers_once_whatever_is_asked(talk: Talk, fields: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), rest=fields)
    assert (said.code, said.get("MSH", 9)[:3]) == ("AA", "ORR")


@pytest.mark.parametrize(
    ("listener", "fields", "now", "later"),
    [
        ("auto", "", "AA", ""),
        ("auto", "|||AL|NE", "CA", "SC"),
        ("auto", "|||AL|AL", "CA", "AA"),
        ("auto", "|||AL|SU", "CA", "AA"),
        ("auto", "|||AL|ER", "CA", "SC"),
        ("auto", "|||SU|AL", "CA", "AA"),
        ("bare", "|||AL|NE", "CA", ""),
        ("bare", "|||AL|AL", "AA", ""),
        ("bare", "|||NE|SU", "AA", ""),
        ("enhanced", "", "CA", "AA"),
        ("enhanced", "|||AL|AL", "CA", "AA"),
    ],
)
async def test_hl7_2_9_3_modes_by_msh_15_and_16(talk: Talk, listener: str, fields: str, now: str, later: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), rest=fields, listener=f"hl7.{listener}")
    assert said.code == now
    if later:
        told = await told_about(talk, own)
        place = ("ORC", 1) if later == "SC" else ("MSA", 1)
        assert field_of(told, *place) == later
        assert field_of(told, "ORC", 3).endswith("^CARDIO")


@pytest.mark.parametrize("fields", ["|||NE|NE", "|||ER|NE"])
async def test_hl7_3_1_no_answer_where_none_is_asked(talk: Talk, fields: str) -> None:
    patient, own = talk.new()
    head = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|N{own}|P|2.5.1{fields}\r"
    body = (head + "\r".join([pid(patient), *order("NW", own), ""])).encode()

    reader, writer = await asyncio.open_connection(*host_port(talk.up.addresses["hl7.bare"]))
    writer.write(encode(body))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.4)
    writer.close()
    await talk.until(lambda conn: [r.state for r in listing.rows(conn, control_id=f"N{own}")] == ["CREATED"])


@pytest.mark.parametrize(("kind", "code"), [("MDM^T02", "CR"), ("ADT^A60", "CR")])
async def test_hl7_2_9_3_a_refusal_in_enhanced_mode_is_cr(talk: Talk, kind: str, code: str) -> None:
    said = await talk.say(kind, pid(talk.new()[0]), rest="|||AL|AL", listener="hl7.enhanced")
    assert (said.code, said.get("MSH", 9)[:3]) == (code, "ACK")


async def test_hl7_2_9_3_what_can_never_be_used_is_ca_then_ae(talk: Talk) -> None:
    own = talk.new()[1]
    said = await talk.say("ORM^O01", "PID|1||||Muster^Max", *order("NW", own), rest="|||AL|AL", listener="hl7.enhanced")
    assert said.code == "CA"
    told = await told_about(talk, own)
    assert (field_of(told, "MSA", 1), field_of(told, "MSA", 2)) == ("AE", said.control_id)


# --- bytes (§6) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r", b"\n\n"])
async def test_hl7_6_line_ends(talk: Talk, end: bytes) -> None:
    patient, own = talk.new()
    head = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|E{own}|P|2.5.1"
    body = end.join(line.encode() for line in (head, pid(patient), *order("NW", own)))
    answer = await talk.raw(body)
    assert b"\rMSA|AA|E" + own.encode() + b"|task=" in answer
    assert b"\n" not in answer


async def test_hl7_6_byte_order_mark_and_missing_last_cr(talk: Talk) -> None:
    patient, own = talk.new()
    head = f"\ufeffMSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|B{own}|P|2.5.1"
    answer = await talk.raw("\r".join([head, pid(patient), *order("NW", own)]).encode())
    assert b"|AA|B" in answer
    row = await talk.row(f"B{own}")

    shown = await talk.up.store.read(lambda conn: listing.whole(conn, int(row.id)))
    assert shown is not None
    assert {"byte order mark before MSH", "the last segment does not end in CR"} <= set(shown["understood"]["warnings"])


async def test_hl7_6_delimiters_are_echoed(talk: Talk) -> None:
    patient, own = talk.new()
    text = "\r".join(
        [f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|D{own}|P|2.5.1", pid(patient), *order("NW", own), ""]
    )
    swapped = text.translate(str.maketrans("|^~\\&", "#*!$%"))
    answer = (await talk.raw(swapped.encode())).decode()
    assert answer.startswith("MSH#*!$%#CARDIO#")
    assert f"#AA#D{own}#task=" in answer
    assert "*CARDIO" in answer


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("8859/1", "latin-1"),
        ("UNICODE UTF-8", "utf-8"),
        ("8859/15", "iso8859-15"),
        ("8859/2", "iso8859-2"),
        ("", "utf-8"),
        ("", "cp1252"),
    ],
)
async def test_hl7_6_the_character_set_is_echoed(talk: Talk, declared: str, codec: str) -> None:
    patient, own = talk.new()
    name = "Łącki" if codec == "iso8859-2" else "Müßter"
    head = f"MSH|^~\\&|HIS|TÄST|CARDIO|BRIDGE|20260301||ORM^O01|S{own}|P|2.5.1||||||{declared}"
    text = "\r".join([head, pid(patient, f"{name}^Max||19700131|M"), *order("NW", own), ""])
    answer = await talk.raw(text.encode(codec))
    assert "TÄST".encode(codec) in answer
    task = talk.sandbox.tasks[int(answer.split(b"task=")[1].split(b"\r")[0])].request
    assert task["patient_last_name"] == name


async def test_hl7_6_escapes_are_read_and_written(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own, reason="Druck \\T\\ Atemnot \\X41\\"))
    task = talk.sandbox.tasks[int(said.get("ORC", 3).split("^")[0])].request
    assert task["indications"] == ["Druck & Atemnot A"]


async def test_hl7_6_a_batch_is_answered_as_one_in_order(talk: Talk) -> None:
    (one, first), (two, second) = talk.new(), talk.new()
    inner = [
        "\r".join([f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ORM^O01|{n}|P|2.5.1", pid(p), *order("NW", o), ""])
        for n, p, o in ((f"G{first}", one, first), (f"G{second}", two, second))
    ]
    text = "FHS|^~\\&|HIS|TEST\rBHS|^~\\&|HIS|TEST\r" + "".join(inner) + "BTS|2\rFTS|1\r"
    answer = (await talk.raw(text.encode())).decode()
    assert [line[:3] for line in answer.split("\r") if line[:3] in {"FHS", "BHS", "MSH", "BTS", "FTS"}] == [
        "FHS", "BHS", "MSH", "MSH", "BTS", "FTS",
    ]  # fmt: skip
    assert answer.index(f"|G{first}|") < answer.index(f"|G{second}|")
    assert "BTS|2\r" in answer


async def test_hl7_6_segments_that_nobody_knows_are_kept(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), "ZPI|1|x", *order("NW", own), "ZDS|1.2.3^^Application^DICOM")
    assert said.code == "AA"
