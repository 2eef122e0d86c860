"""What a person does with held work: the whole bridge, from the command line (failures.md F29, F33 to F36)."""

from pathlib import Path

import pytest

from bridge.sandbox.ecg_object import Subject
from tests.acceptance.acting_house import ME, messages, posts, seen, trail
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f29_same_uid import of_another_order, of_somebody_else, with_one_sample_changed

ANNA = Subject("4711", "Anders^Anna", "19700131", "F", issuer="TEST")


async def held_beside_its_order(it: House, tmp_path: Path, subject: Subject = ANNA) -> str:
    """An order with its draft, and a recording with its number that contradicts it."""
    await it.hl7(order("C1", "PL-1"))
    assert await it.store(recording(tmp_path, accession="ACCPL-1", subject=subject)) == 0
    rows = await it.settled(2)
    assert (rows[1].state, rows[1].reason) == ("HELD", "contradicts_order")
    return rows[1].id


async def test_f35_held_work_shows_both_sides_and_what_can_be_done(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        await it.hl7(order("C2", "PL-2", name="Anders^Anna"))
        told = await seen(it, held)
        second, first = told["sides"]["candidates"]  # more agrees with the one that nobody named
        assert (first["side"]["last_name"], told["sides"]["recording"]["last_name"]) == ("Muster", "Anders")
        assert first["agree"] == ("order_number", "patient_id", "birth_date")
        assert first["contradict"] == ("name", "sex")
        assert (second["agree"], second["contradict"]) == (("patient_id", "name", "birth_date"), ("sex",))
        shown = await messages(it, "show", held)
        assert "an order has its number, and contradicts it" in shown.out
        assert f"bridge messages release {held} --order ORDER" in shown.out
        assert f"order id:{first['order_id']}" in shown.out


async def test_f36_candidates_are_ranked_by_what_agrees_and_never_by_time(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))  # has its number, contradicts it
        await it.hl7(order("C2", "PL-2", name="Andersen^Anna"))
        await it.hl7(order("C3", "PL-3", name="Muster^Max"))  # the newest, and the least like it
        await it.store(recording(tmp_path, accession="ACCPL-1", subject=ANNA))
        rows = await it.settled(4)
        ranked = (await seen(it, rows[3].id))["sides"]["candidates"]
        assert [c["side"]["numbers"][0] for c in ranked] == ["PL-1", "PL-2", "PL-3"]
        assert len(posts(it)) == 3, "none was chosen"


async def test_f35_released_to_its_order_it_is_one_task_with_the_orders_words(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        done = await messages(it, "release", held, "--order", "PL-1", "--reason", "name changed by marriage")
        assert done.status == 0, done.out
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].task_ids) == ("CREATED", ["4712"])
        task = it.sandbox.tasks[4712].request
        assert (task["patient_last_name"], task["patient_gender"]) == ("Muster", "MALE")
        assert "draft=4711" in task["searching_tags"]
        assert len(it.sandbox.tasks) == 2
        (act,) = await trail(it)
        assert (act.actor, act.action, act.outcome, act.message_id) == (ME, "release", "done", int(held))
        assert act.detail == {"why": "name changed by marriage", "order": "1", "state": "READY"}
        released = [e for e in (await it.show(held))["history"] if e["reason"] == "released"]
        assert [e["actor"] for e in released] == [ME]


async def test_f35_released_to_another_patients_order_the_task_is_that_patients(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        stranger = Subject("0815", "Muster^Max", "19700131", "M", issuer="TEST")
        held = await held_beside_its_order(it, tmp_path, stranger)
        assert (await messages(it, "release", held, "--order", "ACCPL-1")).status == 0
        await it.settled(2)
        task = it.sandbox.tasks[4712].request
        assert (task["patient_id"], task["patient_last_name"]) == ("4711", "Muster")
        assert [r.id for r in await it.messages() if "0815" in str((await it.show(r.id))["understood"])] == [held]
        listed = (await messages(it, "list", "--patient", "4711", "--json")).json()
        assert [r["id"] for r in listed] == [held, "1"]


async def test_f35_released_without_order_it_is_a_task_of_its_own_words(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        assert (await messages(it, "release", held, "--without-order")).status == 0
        await it.settled(2)
        task = it.sandbox.tasks[4712].request
        assert (task["patient_last_name"], task["patient_gender"]) == ("Anders", "FEMALE")
        assert not [tag for tag in task["searching_tags"] if tag.startswith("draft=")]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "say which order it belongs to"),
        (("--order", "PL-2"), "no candidate"),
        (("--order", "id:99"), "no candidate"),
        (("--order", "PL-1", "--without-order"), "say which order it belongs to"),
    ],
)
async def test_f36_a_choice_is_of_what_is_listed(
    house: OpenHouse, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        await it.hl7(order("C2", "PL-2", patient="0815", name="Anders^Anna"))
        before = await it.show(held)
        refused = await messages(it, "release", held, *words)
        assert (refused.status, why in refused.out) == (1, True), refused.out
        assert f"message {held} is HELD (contradicts_order)" in refused.out
        assert await it.show(held) == before
        assert [a.outcome for a in await trail(it)] == ["refused"]


async def test_f35_an_order_that_changes_after_the_persons_word_is_looked_at_again(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
        it.sandbox.faults.add("429", on="uploads", times=1, retry_after=1)
        assert (await messages(it, "release", held, "--order", "PL-1")).status == 0
        await it.until(lambda rows: rows[1].state == "RETRY")
        changed = order("C2", "PL-1", name="Ganz^Anders").replace("ORC|NW", "ORC|XO").replace("12-lead ECG", "ECG")
        await it.hl7(changed)
        rows = await it.settled(3)
        assert (rows[1].state, rows[1].reason) == ("HELD", "order_changed_since")
        assert [t.request.get("upload_id") for t in it.sandbox.tasks.values()] == [None]


async def test_f35_a_recording_without_a_patient_identifier_needs_an_order(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        await it.store(recording(tmp_path, accession="ACCPL-1", subject=Subject("", "Muster^Max", "19700131", "M")))
        rows = await it.settled(2)
        assert rows[1].reason == "no_patient_id"
        refused = await messages(it, "release", rows[1].id, "--without-order")
        assert "nobody could tell whose task it is" in refused.out
        assert (await messages(it, "release", rows[1].id, "--order", "PL-1")).status == 0
        rows = await it.settled(2)
        assert it.sandbox.tasks[int(rows[1].task_ids[0])].request["patient_id"] == "4711"


async def test_f29_another_object_under_a_known_uid_is_released_as_one_more(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        path = recording(tmp_path)
        await it.store(path)
        await it.settled(1)
        with_one_sample_changed(path)
        await it.store(path)
        rows = await it.settled(2)
        assert rows[1].reason == "uid_conflict"
        assert (await messages(it, "release", rows[1].id)).status == 0
        rows = await it.settled(2)
        assert (rows[1].state, len(it.sandbox.tasks)) == ("CREATED", 2)


async def test_f34_a_recording_under_a_reused_identifier_is_released_as_it_reads(
    house: OpenHouse, tmp_path: Path
) -> None:
    """Its identifier was merged into another patient's: the task must not be his."""
    merge = (
        "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ADT^A40|A1|P|2.5.1\rEVN|A40|20260301\r"
        "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M\rMRG|4712^^^TEST^MR\r"
    )
    async with house() as it:
        await it.hl7(merge)
        await it.store(recording(tmp_path, subject=Subject("4712", "Anders^Anna", "19810202", "F", issuer="TEST")))
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].reason) == ("HELD", "contradicts_patient_record")
        assert (await messages(it, "release", rows[1].id, "--without-order")).status == 0
        await it.settled(2)
        (task,) = it.sandbox.tasks.values()
        assert (task.request["patient_id"], task.request["patient_last_name"]) == ("4712", "Anders")


async def test_f29_the_same_samples_under_another_identity_are_no_second_task(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        path = recording(tmp_path)
        await it.store(path)
        await it.settled(1)
        of_somebody_else(path)
        await it.store(path)
        rows = await it.settled(2)
        assert rows[1].reason == "identity_update"
        assert (await messages(it, "release", rows[1].id)).status == 0
        rows = await it.until(lambda rows: rows[1].reason == "same_recording")
        refused = await messages(it, "release", rows[1].id)
        assert "that one counts, and this one can be discarded" in refused.out
        assert len(posts(it)) == 1


async def test_f29_a_corrected_object_takes_the_place_of_one_that_the_api_refused(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        path = recording(tmp_path)
        await it.store(path)
        await it.settled(1)
        of_another_order(path)
        await it.store(path)
        rows = await it.settled(2)
        assert [(r.state, r.reason) for r in rows] == [("REJECTED", "api_refused"), ("HELD", "identity_update")]
        await messages(it, "release", rows[1].id)
        await it.until(lambda rows: rows[1].state == "CREATED")
        refused = await messages(it, "replay", rows[0].id)
        assert f"sent again by message {rows[1].id}" in refused.out
        assert len(it.sandbox.tasks) == 1
