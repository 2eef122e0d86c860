"""`bridge map` shows of an object what the bridge makes of it: each is mapped, stored, and compared."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import root
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_groups import CHEST, THREE, an_object, rhythm
from tests.unit.dicom.ecg_factory import BIG, Group, sines


def mapped(folder: Path, *files: Path, **environment: str) -> list[dict[str, Any]]:
    (folder / "empty.toml").write_text("")
    ran = CliRunner().invoke(
        root,
        ["map", "--json", "--calling", "TESTCART", "--config", str(folder / "empty.toml"), *map(str, files)],
        env=environment,
    )
    assert ran.exit_code == 0, ran.output
    shown: list[dict[str, Any]] = json.loads(ran.output)
    return shown


def beyond_its_bits() -> Group:
    values = sines(500, 3, peak=900)
    values[100, 0] = 0x0FFF
    return Group(values, bits_stored=12, leads=(1, 2, 61))


OBJECTS: dict[str, tuple[tuple[Group, ...], dict[str, Any]]] = {
    "one group": ((rhythm(1),), {}),
    "three groups": (THREE, {}),
    "a group twice": ((rhythm(1), rhythm(1)), {}),
    "a group again later": ((rhythm(1), rhythm(1, offset_ms="60000")), {}),
    "of an order": ((rhythm(1), rhythm(2, offset_ms="60000")), {"AccessionNumber": "ACCPL-1"}),
    "of another's order": ((rhythm(1),), {"AccessionNumber": "ACCPL-1", "PatientID": "0815"}),
    "another person": ((rhythm(1),), {"PatientName": "Anders^Anna", "PatientBirthDate": "19810202"}),
    "groups that differ": ((rhythm(1), rhythm(2, leads=CHEST)), {}),
    "no sensitivity": ((rhythm(1, sensitivity=None),), {}),
    "beyond its bits": ((beyond_its_bits(),), {}),
    "one of two beyond its bits": ((rhythm(1), beyond_its_bits()), {}),
    "no patient": ((rhythm(1),), {"PatientID": ""}),
    "no whole steps": ((rhythm(1, baseline="1.25"),), {}),
    "cut short": ((rhythm(1, change_item=lambda i: setattr(i, "NumberOfWaveformSamples", 5000)),), {}),
}


EXPLAINED = {
    "of another's order": '"contradict"',
    "another person": '"contradict"',
    "groups that differ": "unlike leads",
    "no sensitivity": "its unit per sample is unknown",
    "beyond its bits": "12 bits",
    "one of two beyond its bits": "12 bits",
}


@pytest.mark.parametrize("name", OBJECTS)
async def test_what_map_shows_of_an_object_is_what_becomes_of_it(house: OpenHouse, tmp_path: Path, name: str) -> None:
    groups, header = OBJECTS[name]
    path = an_object(tmp_path, *groups, **header)
    first = tmp_path / "order.hl7"
    first.write_text(order(), newline="")
    async with house() as it:
        shown = (await asyncio.to_thread(mapped, tmp_path, first, path, **it.environment))[1]
        await it.hl7(order())
        status = await it.store(path)
        rows = await it.settled(2)
        found = await it.show(rows[1].id)
    assert shown["answer"] == f"{status:04X}"
    assert (shown["state"], shown["reason"]) == (rows[1].state, rows[1].reason)
    assert [without_ours(t["task"]) for t in shown.get("tasks", ())] == [
        without_ours(t["body"]) for t in found["tasks"]
    ]
    assert all(trace["rule"] for task in shown.get("tasks", ()) for trace in task["traces"])
    proofs = [e["detail"]["proof"] for e in found["history"] if "proof" in (e["detail"] or {})]
    sent = {p["samples_sha256"]: (p["form"], p["format"], p["instead"]) for p in proofs}
    told = {u["samples_sha256"]: (u["form"], u["format"], u["instead"]) for u in shown.get("uploads", ())}
    assert told == sent
    if name in EXPLAINED:
        assert EXPLAINED[name] in json.dumps([shown["why"], shown["warnings"]], ensure_ascii=False)


def without_ours(task: dict[str, Any]) -> dict[str, Any]:
    """A task but for what no dry run can know: the site's key, and the upload's id."""
    tags = [tag for tag in task["searching_tags"] if not tag.startswith("br1-")]
    assert len(tags) == len(task["searching_tags"]) - 1
    return {**task, "searching_tags": tags, "upload_id": bool(task.get("upload_id"))}


def test_map_prints_every_task_and_why_an_object_is_held(tmp_path: Path) -> None:
    several, held = an_object(tmp_path, *THREE), tmp_path / "held.dcm"
    held.write_bytes(an_object(tmp_path, beyond_its_bits()).read_bytes())
    several = an_object(tmp_path, *THREE)
    (tmp_path / "empty.toml").write_text("")
    ran = CliRunner().invoke(root, ["map", "--config", str(tmp_path / "empty.toml"), str(several), str(held)])
    assert ran.exit_code == 0, ran.output
    lines = [line.strip() for line in ran.output.splitlines()]
    assert [n for n in ("task 1", "task 2", "task 3", "task 4") if n in lines] == ["task 1", "task 2", "task 3"]
    assert sum("recording_start_time ← " in line for line in lines) == 3
    assert "upload  group 1 as wfdb, 16 bits" in ran.output
    assert "state   HELD cannot_convert" in lines
    assert any(line.startswith("because why ") and "12 bits" in line for line in lines)
    assert lines.count("0000") == 2


def test_map_of_what_cannot_be_read_names_the_place(tmp_path: Path) -> None:
    groups, _ = OBJECTS["cut short"]
    (shown,) = mapped(tmp_path, an_object(tmp_path, *groups))
    assert (shown["state"], shown["answer"]) == ("REJECTED", "C000")
    assert shown["error"].startswith("WaveformSequence[1].WaveformData: ")


def test_map_counts_objects_one_after_the_other_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = an_object(tmp_path, *THREE)
    monkeypatch.chdir(tmp_path)
    first, second = mapped(tmp_path, path, path)
    assert (first["state"], second["reason"]) == ("CREATED", "same_recording")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ecg.dcm", "empty.toml"]


def test_big_endian_in_wider_words_is_explained(tmp_path: Path) -> None:
    path = an_object(tmp_path, rhythm(1, interpretation="SL", bits=32), syntax=BIG)
    (shown,) = mapped(tmp_path, path)
    assert shown["reason"] == "cannot_scale"
    assert shown["answer"] == "none: its transfer syntax is not in dicom.transfer_syntaxes"
    assert any("byte order" in text for text in shown["warnings"])


def test_a_recording_behind_a_merge_that_is_held_waits(tmp_path: Path) -> None:
    move = tmp_path / "move.hl7"
    said = "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301120000+0100||ADT^A43|M1|P|2.5.1\rEVN|A43|20260301\r"
    move.write_text(said + "PID|1||4711^^^^MR||Muster^Max\rMRG|0815^^^^MR\r", newline="")
    held, shown = mapped(tmp_path, move, an_object(tmp_path, rhythm(1)))
    assert (held["state"], shown["state"], shown["tasks"]) == ("HELD", "READY", [])
