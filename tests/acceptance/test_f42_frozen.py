"""F42: other settings at the next start change nothing of what is under way: not its way, not what it says."""

from pathlib import Path

import pytest

from bridge.dispatch.cardio.client import CardioClient
from bridge.domain.outcome import NotSent, Outcome
from bridge.store import line
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.two_apis import api, beside, goes_to, stands, to_north
from tests.acceptance.virtual_clock import VirtualClock

SOON = {"BRIDGE_HL7__REPLY_BUDGET": "0.1"}


async def unreachable(self: CardioClient, body: bytes) -> Outcome:
    """In place of `create_tasks`: nothing leaves the house."""
    return NotSent("refused")


async def no_upload(self: CardioClient, total_size: int, sha256: bytes) -> Outcome:
    """In place of `open_upload`: nothing leaves the house."""
    return NotSent("refused")


def out_of_reach(patch: pytest.MonkeyPatch) -> None:
    """No call reaches an API of any destination."""
    patch.setattr(CardioClient, "create_tasks", unreachable)
    patch.setattr(CardioClient, "open_upload", no_upload)


def numbers(it: House) -> list[str]:
    """The orders that the first organization has tasks of."""
    return [task.request.get("investigation_id", "") for task in it.sandbox.tasks.values()]


async def test_f42_the_way_of_a_message_is_the_one_that_it_had_when_it_was_understood(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as north:
        with monkeypatch.context() as patch:
            out_of_reach(patch)
            async with house(**beside(north), **SOON) as it:
                await it.hl7(order("C1", "PL-1"))
                await it.hl7(to_north("N1", "PL-N1", patient="4712"))
                await it.store(recording(tmp_path), calling="NORTHCART")
                await it.until(lambda rows: len(rows) == 3 and all(row.state != "RECEIVED" for row in rows))
                assert await goes_to(it) == ["cardio", "north", "north"]
        turned = [{"receiving_facility": "BRIDGE"}, {"calling_ae_title": "TESTCART"}]
        async with house(sandbox=it.sandbox, **beside(north, routes=turned)) as it:
            await it.settled(3)
            assert (numbers(it), sorted(north.numbers)) == (["ACCPL-1"], ["", "ACCPL-N1"])
            await it.hl7(order("C2", "PL-2", patient="4713"))  # what comes now goes the new way
            assert north.numbers[-1] == "ACCPL-2"


async def test_f42_the_mapping_of_a_message_is_the_one_that_it_was_understood_with(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[fields.investigation_id]\nhl7 = ["ORC-2.1"]\ndicom = ["StudyID"]\n', encoding="utf-8")
    with monkeypatch.context() as patch:
        out_of_reach(patch)
        async with house(**SOON) as it:
            await it.hl7(order("C1", "PL-1"))
            await it.store(recording(tmp_path, accession="ACC9"))
            await it.until(lambda rows: len(rows) == 2 and all(row.state != "RECEIVED" for row in rows))
    async with house(sandbox=it.sandbox, BRIDGE_MAPPING__FILE=str(rules)) as it:
        await it.settled(2)
        assert sorted(numbers(it)) == ["ACC9", "ACCPL-1"]
        await it.hl7(order("C2", "PL-2", patient="4712"))
        assert numbers(it)[-1] == "PL-2"


async def test_f42_what_may_have_left_the_house_is_sent_again_byte_for_byte(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by a rate limit, then the patient's identifier merged, then not reached, then the mapping changed."""
    clock, sent, real = VirtualClock(), list[bytes](), CardioClient.create_tasks
    rules = tmp_path / "rules.toml"
    rules.write_text('[fields.investigation_id]\nhl7 = ["ORC-2.1"]\n', encoding="utf-8")

    async def noted(self: CardioClient, body: bytes) -> Outcome:
        sent.append(body)
        return await real(self, body)

    monkeypatch.setattr(CardioClient, "create_tasks", noted)
    async with house(clock=clock, **SOON) as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.hl7(order("C1", "PL-1"))
        await it.until(stands("C1", "RETRY", "rate_limited"))
        merge = order("A1", patient="4799").split("\rORC")[0].replace("ORM^O01", "ADT^A40")
        await it.hl7(f"{merge}\rMRG|4711^^^TEST^MR\r")
        with monkeypatch.context() as patch:
            patch.setattr(CardioClient, "create_tasks", unreachable)
            clock.jump(21)
            await it.until(stands("C1", "RETRY", "unreachable"))
    async with house(sandbox=it.sandbox, clock=clock, **SOON, BRIDGE_MAPPING__FILE=str(rules)) as it:
        await it.until(stands("C1", "CREATED"))
        assert len(sent) == 2
        assert sent[0] == sent[1]


async def test_f42_a_message_waits_for_its_destination_and_goes_there_when_the_settings_name_it_again(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api() as north:
        with monkeypatch.context() as patch:
            out_of_reach(patch)
            async with house(**beside(north), **SOON) as it:
                await it.hl7(to_north("N1", "PL-N1"))
                await it.store(recording(tmp_path), calling="NORTHCART")
                await it.until(lambda rows: len(rows) == 2 and all(row.state != "RECEIVED" for row in rows))
        for _ in range(2):  # one start more makes no difference
            async with house(sandbox=it.sandbox, **SOON) as it:
                rows = await it.until(stands("N1", "RETRY", line.GONE))
                told = (await it.show(rows[0].id))["history"][-1]["detail"]
                assert told["destination"] == "north"
                assert "name a destination north in cardio.destinations again" in told["way_out"]
                await it.hl7(order("C1", "PL-1", patient="4712"))
                await it.until(stands("C1", "CREATED"))
                assert numbers(it) == ["ACCPL-1"]
        async with house(sandbox=it.sandbox, **beside(north), **SOON) as it:
            rows = await it.until(lambda rows: all(row.state == "CREATED" for row in rows))
            assert (len(rows), numbers(it), sorted(north.numbers)) == (3, ["ACCPL-1"], ["", "ACCPL-N1"])


async def test_f42_f25_what_waits_for_its_destination_is_left_alone_whatever_the_clock_says(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    async with api() as north:
        with monkeypatch.context() as patch:
            patch.setattr(CardioClient, "create_tasks", unreachable)
            async with house(clock=clock, **beside(north), **SOON) as it:
                await it.hl7(to_north("N1", "PL-N1"))
                await it.until(stands("N1", "RETRY", "unreachable"))
        async with house(sandbox=it.sandbox, clock=clock, **SOON) as it:
            (row,) = await it.until(stands("N1", "RETRY", line.GONE))
            for _ in range(10):
                clock.jump(600)
                await it.up.store.write(lambda tx: tx.notify("ready", 1))
                await it.up.store.write(lambda tx: tx.notify("ready", 1))  # the first was heard, and looked at
            assert (await it.messages())[0].attempts == row.attempts


async def test_f42_what_an_older_version_left_in_line_goes_to_the_first_destination(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knew of one destination alone, and wrote none down."""
    with monkeypatch.context() as patch:
        out_of_reach(patch)
        async with house(**SOON) as it:
            await it.hl7(order("C1", "PL-1"))
            await it.store(recording(tmp_path, accession="ACC9"))
            await it.until(lambda rows: len(rows) == 2 and {row.state for row in rows} <= {"RETRY", "READY"})
            await it.up.store.write(lambda tx: tx.conn.exec_driver_sql("UPDATE message SET destination = ''"))
    async with house(sandbox=it.sandbox) as it:
        await it.settled(2)
        assert sorted(numbers(it)) == ["ACC9", "ACCPL-1"]
        assert await goes_to(it) == ["cardio", "cardio"]
