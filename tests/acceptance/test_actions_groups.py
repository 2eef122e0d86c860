"""What a person decides of a recording with several groups: each is its own, and the message is told by the worst."""

from pathlib import Path

from tests.acceptance.acting_house import made_tags, messages, posts, seen
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_groups import an_object, peaks, rhythm

NO_QUIET = {"BRIDGE_CARDIO__QUIET_TIME": "0"}


async def two_doubts(it: House, tmp_path: Path) -> tuple[str, list[str]]:
    """A recording of three groups, of which the first and the third are in doubt; its message, and their tags."""
    it.sandbox.faults.add("lost_answer", on="tasks", times=1)
    it.sandbox.faults.add("drop_before", on="tasks", times=1, skip=1)
    three = [rhythm(n, offset_ms=str(60000 * n)) for n in (1, 2, 3)]
    await it.store(an_object(tmp_path, *three))
    (row,) = await it.settled(1)
    assert row.state == "IN_DOUBT"
    tags = [d["tag"] for d in (await seen(it, row.id))["doubts"]]
    assert len(tags) == 2
    return row.id, tags


async def test_f12_each_doubtful_group_is_settled_by_its_tag(house: OpenHouse, tmp_path: Path) -> None:
    async with house(**NO_QUIET) as it:
        doubtful, (first, third) = await two_doubts(it, tmp_path)
        unnamed = await messages(it, "resolve", doubtful, "--task", "4711")
        assert f"by its tag: {first}, {third}" in unnamed.out
        assert (await messages(it, "resolve", doubtful, "--task", "4711", "--tag", first)).status == 0
        assert [r.state for r in await it.messages()] == ["IN_DOUBT"]
        again = ("--resend", "--reason", "searched", "--confirm")
        settled = await messages(it, "resolve", doubtful, *again, first)
        assert (settled.status, third in settled.out) == (1, True)
        assert (await messages(it, "resolve", doubtful, *again, third)).status == 0
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert (len(posts(it)), made_tags(it)[-1]) == (4, f"{third}-g2")
        assert sorted(peaks(it)) == [1, 2, 3]
        assert sorted(row.task_ids) == ["4711", "4712", "4713"]


async def test_f12_the_last_doubtful_group_given_up_leaves_what_is_made(house: OpenHouse, tmp_path: Path) -> None:
    async with house(**NO_QUIET) as it:
        doubtful, (first, third) = await two_doubts(it, tmp_path)
        for tag in (first, third):
            done = await messages(it, "resolve", doubtful, "--give-up", "--reason", "not wanted", "--confirm", tag)
            assert done.status == 0, done.out
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert len(row.task_ids) == 1
        assert len(posts(it)) == 3


async def test_f35_a_released_recording_goes_to_its_order_with_every_group(house: OpenHouse, tmp_path: Path) -> None:
    two = (rhythm(1, offset_ms="0"), rhythm(2, offset_ms="60000"))
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        await it.store(an_object(tmp_path, *two, AccessionNumber="ACCPL-1", PatientName="Anders^Anna"))
        rows = await it.settled(2)
        assert rows[1].reason == "contradicts_order"
        await messages(it, "release", rows[1].id, "--order", "PL-1")
        await it.until(lambda rows: rows[1].state == "CREATED")
        made = [it.sandbox.tasks[n].request for n in (4712, 4713)]
        assert {m["patient_last_name"] for m in made} == {"Muster"}
        assert all("draft=4711" in m["searching_tags"] for m in made)


async def test_f17_of_several_groups_the_refused_one_alone_is_replayed(house: OpenHouse, tmp_path: Path) -> None:
    two = (rhythm(1, offset_ms="0"), rhythm(2, offset_ms="60000"))
    async with house() as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.store(an_object(tmp_path, *two))
        (row,) = await it.settled(1)
        assert (row.state, row.task_ids) == ("REJECTED", ["4711"])
        assert (await messages(it, "replay", row.id)).status == 0
        (row,) = await it.until(lambda rows: rows[0].state == "CREATED")
        assert sorted(row.task_ids) == ["4711", "4712"]
        assert sorted(peaks(it)) == [1, 2]
        assert [tag.endswith("-g2") for tag in made_tags(it)] == [False, True]
        assert len(posts(it)) == 3
