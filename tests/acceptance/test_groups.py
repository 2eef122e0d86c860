"""One object with several groups: an upload and a task each, none lost, none twice, whatever happens between them."""

import asyncio
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import CommitUnknown
from bridge.sandbox.cardio_api import Sandbox
from bridge.store.port import Transaction
from bridge.store.sqlite import SqliteStore
from tests.acceptance.scene import House, OpenHouse, order
from tests.unit.dicom.ecg_factory import Group, ecg, saved, sines

LIMBS, CHEST, REST = (1, 2, 61), (3, 4, 5), (6, 7, 8)
"""Numbers of leads (PS3.16 CID 3001)."""


def rhythm(n: int, *, seconds: float = 2, offset_ms: str | None = None, **more: Any) -> Group:
    """Three leads, recognisable by their size."""
    more.setdefault("leads", LIMBS)
    return Group(sines(round(seconds * 500), 3, peak=1000 + n), offset_ms=offset_ms, **more)


def an_object(folder: Path, *groups: Group, **header: Any) -> Path:
    said = {
        "PatientID": "4711",
        "PatientName": "Muster^Max",
        "PatientSex": "M",
        "AcquisitionDateTime": "20260301133000",
        **header,
    }
    return saved(folder, ecg(*groups, **said))


def in_upload(it: House, task_id: int) -> np.ndarray:
    """The samples that the API holds of a task: of one record, since an upload never has two (F37)."""
    upload = it.sandbox.uploads[it.sandbox.tasks[task_id].request["upload_id"]]
    with zipfile.ZipFile(io.BytesIO(bytes(upload.data))) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dat")]
        assert len(archive.namelist()) == 2
        return np.frombuffer(archive.read(name), "<i2").reshape(-1, 3)


def peaks(it: House) -> list[int]:
    """Which group each task has, by its size, in order of the tasks' ids."""
    return [int(np.abs(in_upload(it, number)).max()) - 1000 for number in sorted(it.sandbox.tasks)]


async def test_each_original_group_is_a_task_with_its_own_start_and_the_median_is_none(
    house: OpenHouse, tmp_path: Path
) -> None:
    groups = (
        rhythm(1, offset_ms="0"),
        Group(sines(300, 3), originality="DERIVED", label="MEDIAN BEAT", leads=LIMBS),
        rhythm(2, offset_ms="60000"),
        rhythm(3, offset_ms="120500.25", seconds=3),
    )
    async with house() as it:
        assert await it.store(an_object(tmp_path, *groups)) == 0
        (row,) = await it.settled(1)
        assert (row.state, row.task_ids) == ("CREATED", ["4711", "4712", "4713"])
        assert peaks(it) == [1, 2, 3]
        asked = [it.sandbox.tasks[n].request for n in (4711, 4712, 4713)]
        assert [a["recording_start_time"] for a in asked] == [
            "2026-03-01T12:30:00Z",
            "2026-03-01T12:31:00Z",
            "2026-03-01T12:32:00.50025Z",
        ]
        assert len({a["upload_id"] for a in asked}) == 3
        assert len({tag for a in asked for tag in a["searching_tags"] if tag.startswith("br1-")}) == 3
        assert {a["patient_id"] for a in asked} == {"4711"}
        found = await it.show(row.id)
        assert [t["state"] for t in found["tasks"]] == ["CREATED"] * 3
        assert [e["detail"]["group"] for e in found["history"] if e["state"] == "UPLOADING"] == [1, 3, 4]


async def test_groups_of_unlike_leads_are_one_recording_in_parts_and_are_held(house: OpenHouse, tmp_path: Path) -> None:
    parts = [
        rhythm(n, seconds=2.5, offset_ms=str(2500 * n), leads=leads)
        for n, leads in enumerate((LIMBS, (62, 63, 64), CHEST, REST))
    ]
    async with house() as it:
        assert await it.store(an_object(tmp_path, *parts)) == 0
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("HELD", "groups_differ")
        assert not it.sandbox.uploads


async def test_longest_uploads_one_and_says_what_it_left_out(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_RECORDINGS__SEVERAL_GROUPS="longest") as it:
        await it.store(an_object(tmp_path, rhythm(1), rhythm(2, seconds=4, offset_ms="9000"), rhythm(3)))
        (row,) = await it.settled(1)
        assert peaks(it) == [2]
        assert it.sandbox.tasks[4711].request["recording_start_time"] == "2026-03-01T12:30:09Z"
        said = [w for e in (await it.show(row.id))["history"] for w in (e["detail"] or {}).get("warnings", ())]
        assert "WaveformSequence[2] is uploaded alone, the longest; left out: 1, 3" in said


@pytest.mark.parametrize(
    ("setting", "groups", "reason"),
    [
        ("hold", (rhythm(1), rhythm(2)), "several_groups"),
        ("each", (rhythm(1), rhythm(2, originality="")), "several_groups"),
        ("each", (rhythm(1), rhythm(2, leads=CHEST)), "groups_differ"),
        ("longest", (rhythm(1), rhythm(2, leads=CHEST)), "groups_differ"),
        ("each", (rhythm(1), rhythm(2, sensitivity=None)), "cannot_scale"),
    ],
)
async def test_what_a_person_must_look_at_is_held_before_anything_is_sent(
    house: OpenHouse, tmp_path: Path, setting: str, groups: tuple[Group, ...], reason: str
) -> None:
    async with house(BRIDGE_RECORDINGS__SEVERAL_GROUPS=setting) as it:
        assert await it.store(an_object(tmp_path, *groups)) == 0
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("HELD", reason)
        assert not it.sandbox.uploads


async def test_a_group_that_stands_twice_is_one_task_and_the_same_samples_later_are_two(
    house: OpenHouse, tmp_path: Path
) -> None:
    twice = (rhythm(1, offset_ms="0"), rhythm(1, offset_ms="0"), rhythm(1, offset_ms="60000"))
    async with house() as it:
        await it.store(an_object(tmp_path, *twice))
        (row,) = await it.settled(1)
        assert (row.state, row.task_ids) == ("CREATED", ["4711", "4712"])
        starts = [it.sandbox.tasks[n].request["recording_start_time"] for n in (4711, 4712)]
        assert starts == ["2026-03-01T12:30:00Z", "2026-03-01T12:31:00Z"]
        found = await it.show(row.id)
        assert len({t["key"] for t in found["tasks"]}) == 2
        assert [e["detail"] for e in found["history"] if e["reason"] == "same_group"] == [{"group": 2, "same_as": 1}]


async def test_every_group_goes_with_its_order_and_the_order_hears_of_every_task(
    house: OpenHouse, tmp_path: Path
) -> None:
    two = (rhythm(1, offset_ms="0"), rhythm(2, offset_ms="60000"))
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
        await it.store(an_object(tmp_path, *two, AccessionNumber="ACCPL-1"))
        rows = await it.settled(2)
        assert rows[1].task_ids == ["4712", "4713"]
        for number in (4712, 4713):
            assert "draft=4711" in it.sandbox.tasks[number].request["searching_tags"]


async def test_an_order_after_its_recording_gets_every_task_of_it(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.store(an_object(tmp_path, rhythm(1), rhythm(2, offset_ms="60000"), AccessionNumber="ACCPL-1"))
        await it.settled(1)
        assert "|task=4711,4712" in await it.hl7(order("C1", "PL-1"))
        assert sorted(it.sandbox.tasks) == [4711, 4712]


async def test_a_cancel_after_the_recording_lists_every_task_of_it(house: OpenHouse, tmp_path: Path) -> None:
    two = (rhythm(1, offset_ms="0"), rhythm(2, offset_ms="60000"))
    async with house(BRIDGE_ORDERS__CREATE="on_recording") as it:
        await it.hl7(order("C1", "PL-1"))
        await it.store(an_object(tmp_path, *two, AccessionNumber="ACCPL-1"))
        rows = await it.settled(2)
        await it.hl7(order("C2", "PL-1").replace("ORC|NW", "ORC|CA"))
        (listed,) = (await it.show(rows[1].id))["anomalies"]
        assert (listed["reason"], listed["task_ids"]) == ("cancelled_after_task", rows[1].task_ids)
        assert len(rows[1].task_ids) == 2


# --- one of them fails ------------------------------------------------------------------------------------------


THREE = (rhythm(1, offset_ms="0"), rhythm(2, offset_ms="60000"), rhythm(3, offset_ms="120000"))


@pytest.mark.parametrize(
    ("fault", "state", "reason", "rows", "made"),
    [
        ({"kind": "400"}, "REJECTED", "api_refused", ["CREATED", "REJECTED", "CREATED"], [1, 3]),
        ({"kind": "5xx_before"}, "IN_DOUBT", "server_error", ["CREATED", "IN_DOUBT", "CREATED"], [1, 3]),
        ({"kind": "lost_answer"}, "IN_DOUBT", "answer_lost", ["CREATED", "IN_DOUBT", "CREATED"], [1, 2, 3]),
        ({"kind": "429", "retry_after": "1"}, "CREATED", "", ["CREATED", "CREATED", "CREATED"], [1, 2, 3]),
        ({"kind": "drop_at_once"}, "IN_DOUBT", "answer_lost", ["CREATED", "IN_DOUBT", "CREATED"], [1, 3]),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
async def test_what_becomes_of_one_task_leaves_the_others_sane(
    house: OpenHouse, tmp_path: Path, fault: dict[str, Any], state: str, reason: str, rows: list[str], made: list[int]
) -> None:
    async with house() as it:
        it.sandbox.faults.add(on="tasks", skip=1, times=1, **fault)
        await it.store(an_object(tmp_path, *THREE))
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == (state, reason)
        assert [t["state"] for t in (await it.show(row.id))["tasks"]] == rows
        assert peaks(it) == made
        assert len({it.sandbox.tasks[n].request["upload_id"] for n in it.sandbox.tasks}) == len(made)


async def test_an_upload_that_is_refused_leaves_the_others_sane(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        it.sandbox.faults.add("400", on="uploads", skip=1, times=1)
        await it.store(an_object(tmp_path, *THREE))
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("REJECTED", "api_refused")
        assert peaks(it) == [1, 3]
        refused = [e["detail"] for e in (await it.show(row.id))["history"] if e["reason"] == "api_refused"]
        assert refused[0]["step"] == "open_upload"


async def test_a_group_that_no_form_holds_leaves_the_others_sane(house: OpenHouse, tmp_path: Path) -> None:
    values = sines(1000, 3, peak=1002)
    values[990, 1] = 0x0FFF  # -1 of 12 bits, its sign not extended
    bad = Group(values, bits_stored=12, leads=LIMBS, offset_ms="60000")
    async with house() as it:
        await it.store(an_object(tmp_path, THREE[0], bad, THREE[2]))
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("HELD", "cannot_convert")
        assert peaks(it) == [1, 3]
        (why,) = [e["detail"] for e in (await it.show(row.id))["history"] if "why" in (e["detail"] or {})]
        assert why["group"] == 2
        assert "WaveformBitsStored" in why["why"]


def dying(at: int, *, kept: bool) -> Callable[..., Any]:
    """A store whose process ends at so many commits of a delivery: that one is kept or not, and nothing after it."""
    write = SqliteStore.write
    done = 0

    async def written(store: SqliteStore, work: Callable[[Transaction], Any]) -> Any:
        nonlocal done
        task = asyncio.current_task()
        if task is None or not task.get_name().startswith("deliver-"):
            return await write(store, work)
        done += 1
        if done <= at:
            return await write(store, work)
        if done == at + 1 and kept:
            await write(store, work)
        raise CommitUnknown("the process is no more")

    return written


STEPS = ("begin", "intend 1", "settle 1", "intend 2", "settle 2", "intend 3", "settle 3")


@pytest.mark.parametrize("kept", [False, True], ids=["lost", "kept"])
@pytest.mark.parametrize("at", range(len(STEPS)), ids=STEPS)
async def test_f10_ended_at_any_commit_it_goes_on_behind_what_is_settled(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, kept: bool
) -> None:
    sandbox = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    ended = asyncio.Event()
    writing = dying(at, kept=kept)

    async def written(store: SqliteStore, work: Callable[[Transaction], Any]) -> Any:
        try:
            return await writing(store, work)
        except CommitUnknown:
            ended.set()
            raise

    async with house(sandbox) as it:
        monkeypatch.setattr(SqliteStore, "write", written)
        await it.store(an_object(tmp_path, *THREE))
        async with asyncio.timeout(20):
            await ended.wait()
        before = [t["state"] for t in (await it.show("1"))["tasks"]]
    monkeypatch.undo()
    async with house(sandbox) as it:
        (row,) = await it.settled(1)
        found = [t["state"] for t in (await it.show(row.id))["tasks"]]
    in_doubt = before.index("INTENT") if "INTENT" in before else None
    assert [n for n, state in enumerate(found) if state != "CREATED"] == ([] if in_doubt is None else [in_doubt])
    assert row.state == ("CREATED" if in_doubt is None else "IN_DOUBT")
    # What was intended, and the process did not live to send, is in doubt too: it is not sent again.
    unsent = in_doubt + 1 if in_doubt is not None and kept and STEPS[at].startswith("intend") else None
    sent = [n for n in (1, 2, 3) if n != unsent]
    assert peaks(it) == sent
    assert len(sandbox.tasks) == len(sent)
