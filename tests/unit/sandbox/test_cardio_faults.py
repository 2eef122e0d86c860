"""Faults: which call plays which, and how often; the journal's numbers."""

import json

import pytest

from bridge.sandbox.cardio_faults import KINDS, Faults
from bridge.sandbox.cardio_journal import Journal


def kinds(faults: Faults, calls: str, count: int) -> list[str]:
    return [fault.kind if (fault := faults.take(calls)[1]) else "-" for _ in range(count)]


def test_a_fault_is_played_so_often_and_then_never() -> None:
    faults = Faults()
    faults.add("429", on="tasks", times=2)
    faults.add("401", on="tasks", times=1)
    assert kinds(faults, "uploads", 1) == ["-"]
    assert kinds(faults, "tasks", 4) == ["429", "429", "401", "-"]
    assert faults.listed() == []


def test_skip_and_every_let_calls_pass() -> None:
    faults = Faults()
    faults.add("400", on="*", skip=2, times=1)
    assert kinds(faults, "tasks", 4) == ["-", "-", "400", "-"]
    faults.add("5xx_before", on="chunks", every=2)
    assert kinds(faults, "chunks", 5) == ["-", "5xx_before", "-", "5xx_before", "-"]
    assert faults.listed()[0]["played"] == 2


def test_latency_adds_up_and_leaves_room_for_another_fault() -> None:
    faults = Faults()
    faults.add("latency", seconds=0.25)
    faults.add("latency", seconds=1, on="tasks", times=1)
    faults.add("silent", on="tasks", times=1)
    latency, fault = faults.take("tasks")
    assert (latency, fault and fault.kind) == (1.25, "silent")
    assert faults.take("tasks") == (0.25, None)


def test_wrong_ids_are_for_tasks_alone() -> None:
    faults = Faults()
    faults.add("wrong_ids", ids=[1, 2])
    assert kinds(faults, "chunks", 1) == ["-"]
    assert kinds(faults, "tasks", 1) == ["wrong_ids"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "teapot"},
        {"kind": "429", "on": "everything"},
        {"kind": "429", "times": 0},
        {"kind": "429", "times": "3"},
        {"kind": "429", "colour": "red"},
        {"kind": "latency", "seconds": -1},
        {"kind": "status", "status": 99},
        {},
        [],
    ],
)
def test_an_unknown_fault_is_refused_and_changes_nothing(wanted: object) -> None:
    faults = Faults()
    faults.add("401")
    with pytest.raises(ValueError, match="validation error"):
        faults.replace(json.dumps([{"kind": "429"}, wanted]).encode())
    assert [f["kind"] for f in faults.listed()] == ["401"]
    faults.replace(json.dumps([{"kind": kind} for kind in KINDS]).encode())
    assert len(faults.listed()) == len(KINDS)


def test_the_journal_keeps_the_newest_and_its_numbers_go_on() -> None:
    journal = Journal(most=3)
    for n in range(5):
        journal.add("POST", "tasks" if n % 2 else "uploads", "", f"/v3/{n}", "")
    assert [e["number"] for e in journal] == [3, 4, 5]
    assert [e["number"] for e in journal.select("uploads")] == [3, 5]
    assert [e["number"] for e in journal.select(since=4)] == [5]
    assert [e["number"] for e in journal.select("/v3/3")] == [4]
    journal.clear()
    assert journal.add("POST", "tasks", "", "/v3", "").number == 6
