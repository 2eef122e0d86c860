"""Several organizations: what goes to which, and that none of them holds up another."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import root
from bridge.domain.states import State
from bridge.sandbox import dicom_sender
from bridge.sandbox.cardio_api import Sandbox
from bridge.settings import host_port
from bridge.store import inbox
from tests.acceptance.receiver import field_of
from tests.acceptance.scene import House, OpenHouse, gather, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.two_apis import api, beside, destination_row, goes_to, stands, to_north

PENDING = "accepted, task pending"
SECOND = "ORC|NW|PL-2^HIS\rOBR|2|PL-2^HIS||93224^Holter^CPT||||||||||||||ACC-2\r"


def numbers(it: House) -> list[str]:
    """The orders that the first organization has tasks of."""
    return [task.request.get("investigation_id", "") for task in it.sandbox.tasks.values()]


async def release(it: House, message_id: str) -> None:
    """As a person does it."""
    number = int(message_id)
    now = datetime.now(UTC)
    moved = await it.up.store.write(
        lambda tx: inbox.move(tx, number, State.HELD, State.READY, at=now, actor="test", reason="released")
    )
    assert moved


# --- routes ----------------------------------------------------------------------------------------------------------


async def test_an_order_goes_to_the_organization_of_its_receiving_facility_and_the_rest_to_the_first(
    house: OpenHouse,
) -> None:
    async with api() as north, house(**beside(north)) as it:
        assert field_of(await it.hl7(order()), "MSA", 3) == "task=4711"
        assert field_of(await it.hl7(to_north()), "MSA", 3) == "task=9001"
        assert (numbers(it), north.numbers) == (["ACCPL-1"], ["ACCPL-N1"])
        assert await goes_to(it) == ["cardio", "north"]
        history = (await it.show("2"))["history"]
        told = {"destination": "north", "route": ["receiving_facility"]}
        assert told in [event["detail"] for event in history]


@pytest.mark.parametrize(
    ("route", "calling"),
    [({"calling_ae_title": "NORTHCART"}, "NORTHCART"), ({"called_ae_title": "CARDIONORTH"}, "TESTCART")],
)
async def test_a_recording_goes_to_the_organization_of_its_ae_titles(
    house: OpenHouse, tmp_path: Path, route: dict[str, str], calling: str
) -> None:
    titles = {"BRIDGE_DICOM__OTHER_AE_TITLES": '["CARDIONORTH"]'}
    async with api() as north, house(**beside(north, routes=[route]), **titles) as it:
        host, port = host_port(it.up.addresses["dicom"])
        called = route.get("called_ae_title", "CARDIOBRIDGE")
        for path, title in ((recording(tmp_path, seed="a"), "CARDIOBRIDGE"), (recording(tmp_path, seed="b"), called)):
            mine = calling if path.stem == "b" else "OTHERCART"
            stored = await asyncio.to_thread(dicom_sender.store, host, port, [path], calling=mine, called=title)
            assert stored == [0]
        await it.settled(2)
        assert await goes_to(it) == ["cardio", "north"]
        assert (len(it.sandbox.tasks), len(north.sandbox.tasks)) == (1, 1)
        assert next(iter(north.sandbox.tasks.values())).record is not None


async def test_the_sites_mapping_may_say_where_a_task_goes(house: OpenHouse, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[destination]\nhl7 = ["PV1-3.4"]\ndicom = ["InstitutionName"]\n', encoding="utf-8")
    ward = "\rPV1|1|I|W1^^^NORTHHOUSE\rORC"
    async with (
        api() as north,
        house(**beside(north, routes=[{"mapped": "NORTHHOUSE"}]), BRIDGE_MAPPING__FILE=str(rules)) as it,
    ):
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(order("C2", "PL-2").replace("\rORC", ward))
        assert (numbers(it), north.numbers) == (["ACCPL-1"], ["ACCPL-2"])


async def test_what_no_route_fits_is_held_where_the_site_wants_it_so_and_goes_its_way_when_it_has_one(
    house: OpenHouse, tmp_path: Path
) -> None:
    hold = {"BRIDGE_CARDIO__UNROUTED": "hold"}
    async with api() as north:
        async with house(**beside(north), **hold) as it:
            answer = await it.hl7(order())
            assert (field_of(answer, "MSA", 1), field_of(answer, "MSA", 3)) == ("AA", "accepted, held for a person")
            await it.store(recording(tmp_path))
            held = await it.settled(2)
            assert [(row.state, row.reason) for row in held] == [("HELD", "no_route")] * 2
            await release(it, held[0].id)
            await it.until(stands("C1", "HELD", "no_route"))  # there still is none
            assert (numbers(it), north.numbers) == ([], [])
        routes = [{"receiving_facility": "BRIDGE"}, {"listener": "dicom"}]
        async with house(sandbox=it.sandbox, **beside(north, routes=routes), **hold) as it:
            await release(it, held[0].id)
            await it.until(stands("C1", "CREATED"))
            await release(it, held[1].id)
            await it.until(lambda rows: rows[1].state == "CREATED")
            assert (numbers(it), len(north.sandbox.tasks)) == ([], 2)


async def test_two_orders_of_one_message_that_go_to_two_organizations_are_held_and_are_in_the_book(
    house: OpenHouse, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[destination]\nhl7 = ["OBR-4.1"]\n', encoding="utf-8")
    async with (
        api() as north,
        house(**beside(north, routes=[{"mapped": "93224"}]), BRIDGE_MAPPING__FILE=str(rules)) as it,
    ):
        assert field_of(await it.hl7(order() + SECOND), "MSA", 1) == "AA"
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("HELD", "routes_differ")
        assert (numbers(it), north.numbers) == ([], [])
        cancel = order("C2").replace("ORC|NW|", "ORC|CA|")
        assert field_of(await it.hl7(cancel), "ORC", 1) == "CR"  # so it was there to be cancelled


async def test_a_recording_whose_draft_is_at_another_organization_is_held(house: OpenHouse, tmp_path: Path) -> None:
    async with api() as north, house(**beside(north)) as it:
        await it.hl7(order())
        await it.store(recording(tmp_path, accession="ACCPL-1"), calling="NORTHCART")
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].reason) == ("HELD", "order_elsewhere")
        assert (numbers(it), north.numbers) == (["ACCPL-1"], [])


async def test_the_same_order_for_two_organizations_has_two_keys_and_the_first_ones_is_as_without_the_second(
    house: OpenHouse,
) -> None:
    async with api() as first:
        keys = []
        for further in (False, True):
            async with api() as north, house(base_url=first.url, **(beside(north) if further else {})) as it:
                await it.hl7(order("C1", f"PL-{further}"))
                keys.append(await it.up.store.read(lambda c: c.exec_driver_sql("SELECT key FROM task").scalar()))
                await it.hl7(to_north("N1", f"PL-{further}", patient="4712"))
    assert len(set(keys)) == 1


# --- none holds up another -------------------------------------------------------------------------------------------


async def test_f13_an_organization_that_is_down_is_answered_for_at_once_and_holds_up_no_other(house: OpenHouse) -> None:
    async with api() as north:
        closed = beside(north)
    sandbox = Sandbox(token="north-token", organization="north-hospital", first_task_id=9001)
    async with house(**closed, BRIDGE_HL7__REPLY_BUDGET="30") as it:
        await it.hl7(to_north("N0", "PL-N0"))
        await it.until(stands("N0", "RETRY", "unreachable"))
        assert await destination_row(it, "north") == (True, "unreachable")
        assert await destination_row(it, "cardio") == (False, "")
        told = await gather(
            *(it.hl7(to_north(f"N{n}", f"PL-N{n}", patient=f"N{n}")) for n in range(1, 20)),
            *(it.hl7(order(f"C{n}", f"PL-{n}", patient=f"C{n}")) for n in range(1, 20)),
        )
        assert [field_of(answer, "MSA", 3) for answer in told[:19]] == [PENDING] * 19
        assert all(field_of(answer, "MSA", 3).startswith("task=") for answer in told[19:])
    async with api(sandbox=sandbox) as north, house(sandbox=it.sandbox, **beside(north)) as it:
        rows = await it.settled(39)
        assert {row.state for row in rows} == {"CREATED"}
        assert (len(it.sandbox.tasks), len(north.sandbox.tasks)) == (19, 20)


async def test_an_organization_that_does_not_answer_holds_up_no_other(house: OpenHouse) -> None:
    async with api() as north, house(**beside(north, in_flight=2), BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        north.sandbox.faults.add("silent", on="tasks")
        await gather(*(it.hl7(to_north(f"N{n}", f"PL-N{n}", patient=f"N{n}")) for n in range(6)))
        await it.until(lambda rows: sum(row.state == "INTENT" for row in rows) == 2)  # its places, and no more
        for n in range(20):
            await it.hl7(order(f"C{n}", f"PL-{n}", patient=f"C{n}"))
        await it.until(lambda rows: sum(row.state == "CREATED" for row in rows) == 20, 15)
        assert sum(row.state == "INTENT" for row in await it.messages()) == 2
        north.sandbox.faults.clear()
        north.sandbox.hang_up()


async def test_the_messages_of_one_patient_stay_in_order_whichever_organization_they_go_to(house: OpenHouse) -> None:
    async with api() as north, house(**beside(north), BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        north.sandbox.faults.add("latency", on="tasks", times=1, seconds=2)
        await it.hl7(to_north())
        await it.until(stands("N1", "INTENT"))
        await it.hl7(order("C1", "PL-1"))  # of the same patient, to another organization
        await it.hl7(order("C2", "PL-2", patient="4712"))
        await it.until(stands("C2", "CREATED"))
        assert stands("N1", "INTENT")(await it.messages())
        assert stands("C1", "READY")(await it.messages())
        await it.until(stands("C1", "CREATED"))  # at once behind it, though nothing else happens
        assert numbers(it) == ["ACCPL-2", "ACCPL-1"]


async def test_each_organization_gets_its_own_token_and_form(house: OpenHouse, tmp_path: Path) -> None:
    own = {"upload_format": "edf", "auto_complete": True, "chunk_size": 10_000}
    async with api() as north, house(**beside(north, **own)) as it:
        await it.store(recording(tmp_path, seed="n"), calling="NORTHCART")
        await it.settled(1)
        (task,) = north.sandbox.tasks.values()
        assert task.request["auto_complete"] is True
        assert bytes(north.sandbox.uploads[task.request["upload_id"]].data[:8]).strip() == b"0"  # EDF's own version
        assert len(north.calls("chunks")) > 5
        await it.hl7(order())
        assert "auto_complete" not in it.sandbox.tasks[4711].request


# --- looking ----------------------------------------------------------------------------------------------------------


async def run(house: House, *command: str) -> list[str]:
    """What `bridge …` prints, with the house's settings."""
    done = await asyncio.to_thread(CliRunner().invoke, root, command, env=house.environment)
    return done.output.splitlines()


async def test_check_looks_at_every_destination(house: OpenHouse) -> None:
    async with api() as north, api("south-hospital") as south, house(**beside(north, south)) as it:
        south.sandbox.token = "another"
        told = [" ".join(line.split()) for line in await run(it, "check")]
        first = it.environment["BRIDGE_CARDIO__BASE_URL"]
        assert f"ok api {first} answers and takes the token" in told
        assert f"ok api of north {north.url} answers and takes the token" in told
        (wrong,) = [line for line in told if "api of south" in line]
        assert wrong.startswith("error")
        assert "see cardio.destinations.south.token_file" in wrong


async def test_map_says_where_a_message_would_go(house: OpenHouse, tmp_path: Path) -> None:
    path = tmp_path / "order.hl7"
    async with api() as north, house(**beside(north)) as it:
        for text, name in ((to_north(), "north"), (order(), "cardio")):
            await asyncio.to_thread(path.write_text, text)
            assert f"  goes to {name}" in await run(it, "map", str(path))
        ecg = await asyncio.to_thread(recording, tmp_path)
        assert "  goes to north" in await run(it, "map", "--calling", "NORTHCART", str(ecg))
