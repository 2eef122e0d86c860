"""By which words a message is found once it has gone through the bridge: those that people have at hand."""

from pathlib import Path

from bridge.store import search, terms
from tests.acceptance.acting_house import messages
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_actions_replay import refused_late
from tests.acceptance.test_ecg_to_task import Subject, recording


async def found(it: House, text: str) -> list[str]:
    """The messages of a search, oldest first."""
    page = await it.up.store.read(lambda conn: search.find(conn, text))
    return [row.id for row in reversed(page.rows)]


async def test_an_order_its_patient_s_record_and_its_recording_are_found(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.hl7(order("CTRL-1", "PL-1", patient="4711", name="Müller-Lüdenscheidt^Zoë"))
        await it.hl7(
            "MSH|^~\\&|ADM|NORTH|||20260301120000||ADT^A40|CTRL-2|P|2.5\rEVN|A40\r"
            "PID|1||4711^^^TEST^MR||Müller^Zoë\rMRG|0815^^^TEST^MR\r"
        )
        path = recording(
            tmp_path, subject=Subject("4711", "Müller-Lüdenscheidt^Zoë", issuer="TEST"), accession="ACCPL-1"
        )
        assert await it.store(path, calling="CART7") == 0
        rows = await it.settled(3)
        made = {row.task_ids[0] for row in rows if row.task_ids}
        assert {(row.kind, row.state) for row in rows} == {("hl7", "CREATED"), ("hl7", "DONE"), ("dicom", "CREATED")}
        wanted = {
            "4711": ["1", "2", "3"],
            "muller": ["1", "2", "3"],
            "LUDENSCHEIDT zoe": ["1", "3"],
            "zoë müller": ["1", "2", "3"],
            "0815": ["2"],  # the identifier that was merged
            "pl-1": ["1"],
            "accpl-1": ["1", "3"],
            "ctrl": ["1", "2"],
            "adm|north": ["2"],
            "north": ["2"],
            "cart7": ["3"],
            rows[2].sop_instance_uid: ["3"],
            "127.0.0.1": ["1", "2", "3"],
            "pl-1 4711 his": ["1"],
        }
        assert {text: await found(it, text) for text in wanted} == wanted
        assert len(made) == 2
        for row in rows:
            for task_id in row.task_ids:
                named = await it.up.store.read(lambda conn, t=task_id: search.named(conn, t))  # type: ignore[misc]
                assert named == (int(row.id), "task")


async def test_what_was_refused_is_found_by_what_its_head_says(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7("MSH|^~\\&|HIS|TEST|||20260301120000||ORM^O01|NOBODY|P|2.5\rORC|NW|PL-1\rOBR|1|PL-1\r")
        await it.hl7("MSH|^~\\&|HIS|TEST|||20260301120000||SIU^S12|OTHER|P|2.5\r")
        await it.hl7("no message at all")
        assert await found(it, "nobody") == ["1"]
        assert await found(it, "pl-1") == ["1"]
        assert await found(it, "other") == ["2"]
        assert await found(it, "127.0.0.1") == ["1", "2", "3"]


async def test_understood_anew_a_message_is_found_by_what_it_says_now(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.3") as it:
        await refused_late(it)
        # As if the rules of that day had read it otherwise.
        stale = [*terms.of_patient(["99"], ["Wrong"]), *terms.of_orders(["PL-9"])]
        await it.up.store.write(lambda tx: terms.note(tx, 1, stale))
        assert await found(it, "99 wrong pl-9") == ["1"]
        assert (await messages(it, "replay", "1", "--reason", "mended")).status == 0
        await it.until(lambda rows: rows[0].state == "CREATED")
        assert [await found(it, text) for text in ("99", "wrong", "pl-9")] == [[], [], []]
        assert await found(it, "4711 muster pl-1 c1") == ["1"]
