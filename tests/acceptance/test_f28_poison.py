"""A message that ends its reader is held, and its neighbours flow (F28)."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.dispatch import apart
from bridge.dispatch.entering import Entering
from bridge.errors import StoreError
from bridge.settings import Settings
from bridge.store import line
from bridge.store.payloads import Payloads
from bridge.store.port import Transaction
from bridge.store.schema import message
from tests.acceptance.scene import OpenHouse, order


def leave_unread(folder: Path, *orders: tuple[str, str], attempts: int = 0) -> None:
    """Orders that were received and not understood before the service ended, each by its control id."""
    engine = sa.create_engine(f"sqlite:///{folder}/bridge.db")
    with engine.begin() as conn:
        for control_id, raw in orders:
            conn.execute(sa.insert(message).values(
                kind="hl7", type="ORM^O01", state="RECEIVED", received_at=0, sender="HIS|TEST", listener="hl7",
                control_id=control_id, raw=raw.encode(), attempts=attempts,
            ))  # fmt: skip
    engine.dispose()


async def test_f28_a_message_whose_reader_ended_is_tried_apart_before_it_is_read_again(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))

    second = ("C2", order("C2", "PL-2", patient="4712"))
    leave_unread(it.folder, second)
    async with house() as again:
        rows = await again.settled(2)
        assert [(r.control_id, r.state) for r in rows] == [("C1", "CREATED"), ("C2", "CREATED")]
    leave_unread(it.folder, second, attempts=3)
    async with house() as third:
        rows = await third.settled(3)
        assert (rows[-1].state, rows[-1].reason) == ("HELD", "poison")


async def test_f28_what_cannot_be_read_within_the_limits_is_held_and_its_neighbours_flow(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
    leave_unread(it.folder, *((f"C{n}", order(f"C{n}", f"PL-{n}", patient=f"471{n}")) for n in (2, 3)))
    tried: list[list[str]] = []

    async def survive(claimed: list[Any], payloads: Any, settings: Any) -> bool:
        tried.append([c.raw.decode().split("|")[9] for c in claimed])
        return all("PL-2" not in c.raw.decode() for c in claimed)

    monkeypatch.setattr("bridge.dispatch.reading.survive", survive)
    async with house() as again:
        rows = await again.settled(3)
        assert [(r.control_id, r.state, r.reason) for r in rows[1:]] == [
            ("C2", "HELD", "poison"),
            ("C3", "CREATED", ""),
        ]
    assert tried == [["C2", "C3"], ["C2"], ["C3"]]


async def test_f28_a_trial_reads_by_the_settings_of_the_sender(tmp_path: Path) -> None:
    """What a sender has otherwise than its listener, and what it leaves to it, counts in the trial as in service."""
    senders = {"HIS|TEST": {"reply_late": "hold"}}
    settings = Settings.model_validate({"hl7": {"senders": senders}})
    raw = order(name="Müster^Max").encode("latin-1")  # no MSH-18: the listener's own character set is left to it
    values = {"kind": "hl7", "raw": raw, "sender": "HIS|TEST", "listener": "hl7"}
    claimed = line.Claimed(**dict.fromkeys(line.Claimed.__slots__, "") | values)
    assert await apart.survive([claimed], Payloads(tmp_path, min_free=0), settings)


async def test_f28_a_trial_that_hangs_or_takes_too_much_does_not_survive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    payloads = Payloads(tmp_path, min_free=0)
    claimed = line.Claimed(**dict.fromkeys(line.Claimed.__slots__, "") | {"kind": "hl7", "raw": order().encode()})
    assert await apart.survive([claimed], payloads, Settings())
    monkeypatch.setattr(apart, "PATIENCE", 0.3)
    for program in ("sleep 30", "exit 1", "kill -9 $$"):
        hanging = tmp_path / "python"
        hanging.write_text(f"#!/bin/sh\n{program}\n")
        hanging.chmod(0o700)
        monkeypatch.setattr(apart.sys, "executable", str(hanging))
        assert not await apart.survive([claimed], payloads, Settings())


async def test_what_came_behind_a_message_that_could_not_be_kept_waits_for_it(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read together, and each is entered by itself: of one patient, an older word must not be the last."""
    async with house() as it:
        await it.hl7(order("C1", "PL-1"))
    leave_unread(it.folder, *((f"C{n}", order(f"C{n}", f"PL-{n}")) for n in range(2, 8)))
    real, failed = Entering.enter, list[int]()

    def enter(self: Entering, tx: Transaction, claimed: line.Claimed, *more: Any) -> Any:
        if b"PL-3" in (claimed.raw or b"") and not failed:
            failed.append(claimed.id)
            raise StoreError("invented")
        return real(self, tx, claimed, *more)

    monkeypatch.setattr(Entering, "enter", enter)
    async with house(sandbox=it.sandbox) as again:
        rows = await again.settled(7)
    assert {row.state for row in rows} == {"CREATED"}
    assert len(failed) == 1
    made = [again.sandbox.tasks[number].request["investigation_id"] for number in sorted(again.sandbox.tasks)]
    assert made == [f"ACCPL-{number}" for number in range(1, 8)]
