"""The samples are tests: each maps to its recorded answer, states and tasks."""

import json
from pathlib import Path

import pytest

from bridge.cli.demo_scene import compared, play, samples_in, send, stage
from bridge.formats.hl7.lint import check_answer

NOT_OURS = {"ORC[1]-7: required, missing", "OBR[1]-27: required, missing"}
"""HL7 v2.3 asks for quantity and timing, which an answer echoes: where the order had none, none is made up."""
SAMPLES = Path(__file__).parent.parent.parent / "sample_messages"


async def test_the_whole_story_comes_out_as_recorded(tmp_path: Path) -> None:
    async with stage(tmp_path) as (up, sandbox, _):
        differences = {}
        for sample in samples_in(SAMPLES):
            difference = compared(sample.with_name(sample.name + ".outcome.json"), await send(sample, up, sandbox))
            if difference:
                differences[sample.name] = difference
    assert differences == {}


async def test_a_changed_outcome_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = SAMPLES / "02_orm_o01_order.hl7"
    (tmp_path / sample.name).write_bytes(sample.read_bytes())
    recorded = (SAMPLES / f"{sample.name}.outcome.json").read_text(encoding="utf-8")
    (tmp_path / f"{sample.name}.outcome.json").write_text(recorded.replace("EKG260914002", "X"), encoding="utf-8")
    assert not await play(tmp_path, stay=False)
    out = capsys.readouterr().out
    assert "differs in tasks" in out
    assert "Müller" not in out
    assert "4711001" not in out


def test_there_are_enough_samples_and_each_has_its_outcome() -> None:
    names = [p.name for p in samples_in(SAMPLES)]
    assert sum(n.endswith(".hl7") for n in names) >= 14
    assert sum(n.endswith(".dcm") for n in names) >= 5
    assert [n for n in names if not (SAMPLES / f"{n}.outcome.json").exists()] == []


def test_the_recorded_answers_are_conformant() -> None:
    checked = 0
    for path in sorted(SAMPLES.glob("*.hl7.outcome.json")):
        answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
        if answer[0].startswith("MSH"):
            text = "\r".join([*answer, ""]).replace("(time)", "20260301120000+0100").replace("(id)", "CB1")
            wrong = [w for w in check_answer(text.encode()) if not (w in NOT_OURS and "|2.3" in answer[0])]
            assert wrong == [], path.name
            checked += 1
    assert checked >= 14
