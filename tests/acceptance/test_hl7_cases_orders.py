"""The table of cases of hl7.md §4: each order control and each patient event, by its clause."""

import pytest

from bridge.domain.admission import EVENTS, Admission
from tests.acceptance.talk import Talk, anomalies_of, order, pid

pytestmark = pytest.mark.asyncio(loop_scope="module")

# --- order controls (§4.1) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", ["NW", "RO", "CH", "PA", "XO", "XX", "SC"])
async def test_hl7_4_1_what_makes_a_task_where_the_order_is_new(talk: Talk, control: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order(control, own))
    assert (said.code, said.get("ORC", 1)) == ("AA", "XR" if control[0] == "X" else "OK")
    assert said.get("ORC", 3).endswith("^CARDIO")


@pytest.mark.parametrize(
    ("control", "answer"),
    [("CA", "UC"), ("DC", "UD"), ("RP", "UM"), ("RU", "UM"), ("HD", "UH"), ("RL", "UR"), ("SS", "UA")],
)
async def test_hl7_4_1_an_unknown_order_is_204(talk: Talk, control: str, answer: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order(control, own))
    if control == "SS":
        answer = "UA"
    assert (said.code, said.error, said.get("ORC", 1)) == ("AE", ("204", "ORC^1^2", "E"), answer)
    lenient = await talk.say("ORM^O01", pid(patient), *order(control, own + "L"), listener="hl7.lenient")
    assert (lenient.code, lenient.error[2], lenient.get("ORC", 1)) == ("AA", "W", answer)


@pytest.mark.parametrize(
    ("control", "answer"),
    [("XO", "UX"), ("CA", "UC"), ("DC", "UD"), ("RP", "UM"), ("HD", "HR"), ("SS", "SR"), ("SC", "OK")],
)
async def test_hl7_4_1_once_the_draft_is_made(talk: Talk, control: str, answer: str) -> None:
    patient, own = talk.new()
    made = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    said = await talk.say("ORM^O01", pid(patient), *order(control, own, reason="changed"))
    assert (said.code, said.get("ORC", 1)) == ("AA", answer)
    if control in {"XO", "CA", "DC", "RP", "SC"}:
        row = await talk.row(made.control_id)
        shown = await talk.up.store.read(lambda conn: anomalies_of(conn, row.id))
        assert shown == ["changed_after_task" if control in {"XO", "SC"} else "cancelled_after_task"]


@pytest.mark.parametrize(
    ("control", "answer", "after"),
    [
        ("XO", "XR", "SC"),
        ("CA", "CR", "CA"),
        ("DC", "DR", "CA"),
        ("RP", "RQ", "CA"),
        ("HD", "HR", "HD"),
        ("RL", "OR", "SC"),
    ],
)
async def test_hl7_4_1_before_anything_is_sent(waiting: Talk, control: str, answer: str, after: str) -> None:
    patient, own = waiting.new()
    new = await waiting.say("ORM^O01", pid(patient), *order("NW", own))
    assert (new.code, new.get("ORC", 1)) == ("AA", "OK")
    for _ in range(2):  # an identical repeat is answered the same
        said = await waiting.say("ORM^O01", pid(patient), *order(control, own, reason="changed"))
        assert (said.code, said.get("ORC", 1)) == ("AA", answer)
    status = await waiting.say("ORM^O01", pid(patient), *order("SS", own))
    assert (status.get("ORC", 1), status.get("ORC", 5)) == ("SR", after)


@pytest.mark.parametrize(("status", "after"), [("CA", "CA"), ("HD", "HD"), ("IP", "SC"), ("CM", "SC")])
async def test_hl7_4_1_a_status_that_is_told_counts(waiting: Talk, status: str, after: str) -> None:
    patient, own = waiting.new()
    await waiting.say("ORM^O01", pid(patient), *order("NW", own))
    said = await waiting.say("ORM^O01", pid(patient), *order("SC", own, status=status))
    assert said.get("ORC", 1) == "OK"
    asked = await waiting.say("ORM^O01", pid(patient), *order("SS", own))
    assert asked.get("ORC", 5) == after


@pytest.mark.parametrize("control", ["CA", "XO", "HD", "RP", "SS"])
async def test_hl7_4_1_another_patients_order_is_204_and_nothing_is_done(waiting: Talk, control: str) -> None:
    patient, own = waiting.new()
    await waiting.say("ORM^O01", pid(patient), *order("NW", own))
    said = await waiting.say("ORM^O01", pid(waiting.new()[0]), *order(control, own))
    assert (said.code, said.error) == ("AE", ("204", "PID^1^3", "E"))
    status = await waiting.say("ORM^O01", pid(patient), *order("SS", own))
    assert status.get("ORC", 5) == "SC"


async def test_hl7_4_1_a_cancel_finds_its_order_by_our_own_number(talk: Talk) -> None:
    patient, own = talk.new()
    made = await talk.say("ORM^O01", pid(patient), *order("NW", own))
    said = await talk.say("ORM^O01", pid(patient), *order("CA", "", filler=made.get("ORC", 3)))
    assert (said.code, said.get("ORC", 1)) == ("AA", "UC")


async def test_hl7_4_1_a_number_that_is_asked_for_is_given(talk: Talk) -> None:
    said = await talk.say("OMG^O19^OMG_O19", pid(talk.new()[0]), "ORC|SN", "OBR|1|||93000^ECG^CPT")
    assert (said.code, said.get("ORC", 1)) == ("AA", "NA")
    assert said.get("ORC", 3).endswith("^CARDIO")


@pytest.mark.parametrize("control", ["OK", "UA", "NA", "CR", "UC", "DR", "OC", "HR", "XR", "UX", "RE"])
async def test_hl7_4_1_answers_and_results_are_noted(talk: Talk, control: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order(control, own))
    assert (said.code, (await talk.row(said.control_id)).state) == ("AA", "FILTERED")
    assert (await talk.row(said.control_id)).task_ids == []


@pytest.mark.parametrize("control", ["AF", "DF", "FU", "RF", "OP", "ZZ", ""])
async def test_hl7_4_1_the_rest_is_refused_before_anything_is_written(talk: Talk, control: str) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order(control, own))
    assert (said.code, said.error, said.get("ORC", 1)) == ("AE", ("103", "ORC^1^1", "E"), "UA")
    assert (await talk.row(said.control_id)).task_ids == []


async def test_hl7_4_1_an_order_without_orc_is_new(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), f"OBR|1|{own}^HIS||93000^ECG^CPT")
    assert (said.code, said.get("ORC", 1)) == ("AA", "OK")


async def test_hl7_4_1_replaced_and_replacing_orders(waiting: Talk) -> None:
    patient, own = waiting.new()
    await waiting.say("ORM^O01", pid(patient), *order("NW", own))
    said = await waiting.say("ORM^O01", pid(patient), *order("RP", own), *order("RO", own + "B"))
    assert [said.get("ORC", 1, n) for n in range(2)] == ["RQ", "OK"]
    assert (await waiting.say("ORM^O01", pid(patient), *order("SS", own))).get("ORC", 5) == "CA"
    assert (await waiting.say("ORM^O01", pid(patient), *order("SS", own + "B"))).get("ORC", 5) == "SC"


async def test_hl7_3_5_several_orders_with_partial_success(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), *order("AF", own + "B"), *order("NW", own + "C"))
    assert (said.code, said.error) == ("AE", ("103", "ORC^1^1", "E"))
    assert [said.get("ORC", 1, n) for n in range(3)] == ["OK", "UA", "OK"]
    again = await talk.say("ORM^O01", pid(patient), *order("NW", own), *order("NW", own + "B"))
    assert (again.code, again.get("ORC", 3)) == ("AA", said.get("ORC", 3))
    assert again.get("ORC", 3, 1) not in {"", said.get("ORC", 3, 2)}


async def test_hl7_3_5_a_filled_orc_3_stays_and_the_id_is_in_obr_21(talk: Talk) -> None:
    patient, own = talk.new()
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own, filler="F1^LAB"))
    assert said.get("ORC", 3) == "F1^LAB"
    assert f"task={said.get('OBR', 21)}" == said.get("MSA", 3)


@pytest.mark.parametrize(
    ("cancelled_at", "ordered_at", "answer"),
    [
        ("20260301120000+0100", "20260301115900+0100", "OC"),
        ("20260301120000+0100", "20260301120000+0100", "OC"),
        ("20260301120000+0100", "", "OC"),
        ("20260301120000+0100", "20260301120100+0100", "OK"),
    ],
)
async def test_f33_an_order_that_was_cancelled_before_it_came(
    talk: Talk, cancelled_at: str, ordered_at: str, answer: str
) -> None:
    patient, own = talk.new()
    assert (await talk.say("ORM^O01", pid(patient), *order("CA", own), msh_7=cancelled_at)).code == "AE"
    said = await talk.say("ORM^O01", pid(patient), *order("NW", own), msh_7=ordered_at)
    assert (said.code, said.get("ORC", 1)) == ("AA", answer)
    state = (await talk.row(said.control_id)).state
    assert state == ("CANCELLED" if answer == "OC" else "CREATED")


# --- patients (§4.2) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", sorted(EVENTS))
async def test_hl7_4_2_each_event_is_answered(talk: Talk, event: str) -> None:
    patient, _ = talk.new()
    mrg = (f"MRG|{patient}X^^^TEST^MR||||V1",) if EVENTS[event] not in {Admission.UPDATE, Admission.DELETE} else ()
    said = await talk.say(f"ADT^{event}", f"EVN|{event}", pid(patient), *mrg, "PV1|1|O|WARD||||||||||||||||V2")
    assert said.get("MSH", 9) == f"ACK^{event}^ACK"
    if EVENTS[event] is Admission.DELETE:
        assert (said.code, said.error) == ("AE", ("207", "EVN^1^1", "E"))
    else:
        assert said.code == "AA"
    held = (await talk.row(said.control_id)).state == "HELD"
    assert held == (EVENTS[event] is Admission.MOVE)


async def test_hl7_v2_2_5_3_null_clears_and_empty_keeps(talk: Talk) -> None:
    patient, own = talk.new()
    await talk.say("ADT^A04", pid(patient, "Muster^Max||19700131|M"))
    await talk.say("ADT^A08", pid(patient, 'Muster^Max|||""'))
    said = await talk.say("ORM^O01", f"PID|1||{patient}^^^TEST^MR", *order("NW", own))
    task = talk.sandbox.tasks[int(said.get("ORC", 3).split("^")[0])].request
    assert (task["patient_birth_date"], "patient_gender" in task) == ("1970-01-31", False)
    assert task["patient_last_name"] == "Muster"


async def merged(talk: Talk, gone: str, stays: str, event: str = "A40") -> tuple[str, str]:
    said = await talk.say(f"ADT^{event}", f"EVN|{event}", pid(stays), f"MRG|{gone}^^^TEST^MR")
    return said.code, said.error[0]


@pytest.mark.parametrize("event", ["A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47"])
async def test_f34_an_order_under_the_retired_id_is_the_survivors(talk: Talk, event: str) -> None:
    (gone, own), (stays, _) = talk.new(), talk.new()
    await talk.say("ADT^A28", pid(gone))
    assert await merged(talk, gone, stays, event) == ("AA", "")
    assert await merged(talk, gone, stays, event) == ("AA", "")  # an identical repeat
    said = await talk.say("ORM^O01", pid(gone), *order("NW", own))
    assert talk.sandbox.tasks[int(said.get("ORC", 3).split("^")[0])].request["patient_id"] == stays


async def test_f34_chains_are_followed_and_circles_refused(talk: Talk) -> None:
    a, b, c = (talk.new()[0] for _ in range(3))
    own = talk.new()[1]
    assert await merged(talk, a, b) == ("AA", "")
    assert await merged(talk, b, c) == ("AA", "")
    assert await merged(talk, c, a) == ("AE", "205")
    assert await merged(talk, b, a) == ("AE", "205")
    assert await merged(talk, a, a) == ("AE", "205")
    said = await talk.say("ORM^O01", pid(a), *order("NW", own))
    assert talk.sandbox.tasks[int(said.get("ORC", 3).split("^")[0])].request["patient_id"] == c


async def test_f34_a_retired_id_that_goes_elsewhere_is_205(talk: Talk) -> None:
    a, b, c = (talk.new()[0] for _ in range(3))
    assert await merged(talk, a, b) == ("AA", "")
    assert await merged(talk, a, c) == ("AE", "205")


async def test_hl7_4_2_a47_to_an_id_that_is_known_is_205(talk: Talk) -> None:
    a, b = talk.new()[0], talk.new()[0]
    for known in (a, b):
        await talk.say("ADT^A28", pid(known))
    assert await merged(talk, a, b, "A47") == ("AE", "205")


async def test_f34_a_merge_of_two_authorities_is_refused_at_its_place(talk: Talk) -> None:
    patient = talk.new()[0]
    said = await talk.say("ADT^A40", "EVN|A40", pid(patient), f"MRG|{patient}X^^^ELSEWHERE^MR")
    assert (said.code, said.error) == ("AE", ("101", "MRG^1^1", "E"))


async def test_f34_a_merge_after_the_task_is_listed(talk: Talk) -> None:
    (gone, own), (stays, _) = talk.new(), talk.new()
    made = await talk.say("ORM^O01", pid(gone), *order("NW", own))
    assert await merged(talk, gone, stays) == ("AA", "")
    row = await talk.row(made.control_id)
    assert await talk.up.store.read(lambda conn: anomalies_of(conn, row.id)) == ["merged_after_task"]


async def test_f34_a_retired_id_that_is_somebody_else_now_is_held(talk: Talk) -> None:
    (gone, own), (stays, _) = talk.new(), talk.new()
    await talk.say("ADT^A28", pid(stays))
    assert await merged(talk, gone, stays) == ("AA", "")
    said = await talk.say("ORM^O01", pid(gone, "Andere^Anna||19991231|F"), *order("NW", own))
    assert (said.code, said.get("MSA", 3)) == ("AA", "accepted, held for a person")
    row = await talk.row(said.control_id)
    assert (row.state, row.reason, row.task_ids) == ("HELD", "retired_identifier_reused", [])
