"""Long uploads, limits and lost sessions: what one recording meets costs the others no more than its place."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.dispatch import destination, policy
from bridge.dispatch.cardio.client import CardioClient
from bridge.domain.outcome import Outcome
from bridge.sandbox.cardio_uploads import Unknowns
from bridge.sandbox.ecg_object import build, write
from bridge.sandbox.ecg_signal import ecg
from tests.acceptance.scene import OpenHouse, gather, order
from tests.acceptance.test_ecg_to_task import MAX, START, recording
from tests.acceptance.virtual_clock import VirtualClock


def holter(folder: Path, seed: str) -> Path:
    """A recording of some length, of a patient of its own."""
    path = folder / f"{seed}.dcm"
    subject = type(MAX)(seed, "Muster^Max", "19700131", "M", issuer="TEST")
    write(path, build(ecg(seconds=60, rate=500, seed=7), rate=500, seed=seed, subject=subject, start=START))
    return path


class SlowUploads:
    """Uploads of long recordings whose chunks wait until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self._go = asyncio.Event()
        real = CardioClient.send_chunk

        async def slow(client: CardioClient, upload_id: str, offset: int, data: bytes) -> Outcome:
            if offset == 0 and len(data) > 300_000:
                self.waiting += 1
                await self._go.wait()
            return await real(client, upload_id, offset, data)

        monkeypatch.setattr(CardioClient, "send_chunk", slow)

    def go(self) -> None:
        self._go.set()


@pytest.mark.parametrize(("places", "holters"), [(2, 1), (3, 1), (8, 3)])
async def test_while_long_uploads_run_orders_and_short_recordings_go_their_way(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: int, holters: int
) -> None:
    """Of 8 places 3 are a long upload's at the most and 7 an upload's; of 2 one is an upload's and one is not."""
    monkeypatch.setattr(destination, "LARGE", 300_000)
    slow = SlowUploads(monkeypatch)
    async with house(BRIDGE_CARDIO__IN_FLIGHT=str(places)) as it:
        for n in range(places + 2):
            assert await it.store(holter(tmp_path, f"H{n}")) == 0
        await it.until(lambda _: slow.waiting == holters)
        for n in range(10):
            assert "task=" in await it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}"))
        if places > 2:  # else the only place of an upload's is taken
            await it.store(recording(tmp_path, seed="short"))
            await it.until(lambda rows: sum(row.kind == "dicom" and row.state == "CREATED" for row in rows) == 1)
        assert slow.waiting == holters
        slow.go()
        rows = await it.settled(places + 2 + 10 + (places > 2))
        assert {row.state for row in rows} == {"CREATED"}


async def test_the_places_of_uploads_are_a_setting(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowUploads(monkeypatch)
    async with house(BRIDGE_CARDIO__UPLOADS_IN_FLIGHT="2") as it:
        for n in range(4):
            await it.store(holter(tmp_path, f"H{n}"))
        await it.until(lambda _: slow.waiting == 2)
        await it.hl7(order())
        assert slow.waiting == 2
        slow.go()
        await it.settled(5)


def moments(monkeypatch: pytest.MonkeyPatch, clock: VirtualClock) -> list[float]:
    """When each task was posted, as it goes on."""
    at, real = list[float](), CardioClient.create_tasks

    async def noted(self: CardioClient, body: bytes) -> Outcome:
        at.append(clock.monotonic())
        return await real(self, body)

    monkeypatch.setattr(CardioClient, "create_tasks", noted)
    return at


async def test_a_rate_is_kept_by_orders_and_recordings_together(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    at = moments(monkeypatch, clock)
    began = clock.monotonic()
    async with house(clock=clock, BRIDGE_CARDIO__RATE="0.1", BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        for n in range(5):
            await it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n}"))
            if n == 1:
                await it.store(recording(tmp_path))

        def flies(rows: list[Any]) -> bool:
            clock.jump(0.5)
            return len(rows) == 6 and all(row.state == "CREATED" for row in rows)

        await it.until(flies)
    assert len(at) == 6
    assert all(moment >= began + 10 * number for number, moment in enumerate(sorted(at)))


async def test_recordings_behind_a_rate_go_out_at_its_pace(house: OpenHouse, tmp_path: Path) -> None:
    """The token that lets the next one go is awaited, and not the look at the line that comes twice a minute."""
    paths = [recording(tmp_path, seed=f"r{n}", subject=replace(MAX, id=f"P{n}")) for n in range(8)]
    async with house(BRIDGE_CARDIO__RATE="2", BRIDGE_CARDIO__IN_FLIGHT="2") as it:
        assert await gather(*(it.store(path) for path in paths)) == [0] * 8
        assert {row.state for row in await it.settled(8)} == {"CREATED"}


async def test_the_orders_of_one_message_go_out_together_and_those_behind_it_wait_for_their_turn(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    at = moments(monkeypatch, clock)
    second = "ORC|NW|PL-2^HIS\rOBR|2|PL-2^HIS||93224^Holter^CPT||||||||||||||ACC-2\r"
    async with house(clock=clock, BRIDGE_CARDIO__RATE="0.1", BRIDGE_HL7__REPLY_BUDGET="5") as it:
        began = clock.monotonic()
        assert "task=4711,4712" in await it.hl7(order() + second)

        def flies(rows: list[Any]) -> bool:
            clock.jump(0.5)
            return len(rows) == 2 and all(row.state == "CREATED" for row in rows)

        sending = asyncio.create_task(it.hl7(order("C2", "PL-3", patient="4712")))
        await it.until(flies)
        await sending
    assert at[2] >= began + 20


# --- sessions and chunks (F18, F21, F22) -----------------------------------------------------------------------------


RESENT_AFTER = (1.0123, 2.0456)


class Noting(VirtualClock):
    """It notes the sleeps of whoever sends a chunk again, and they are over at once."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        if seconds in RESENT_AFTER:
            self.slept.append(seconds)
        else:
            await super().sleep(seconds)


@pytest.mark.parametrize("status", [500, 503])
async def test_f18_f21_a_chunk_is_sent_again_at_its_own_offset_and_not_at_once(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    clock = Noting()
    monkeypatch.setattr(policy, "backoff", lambda attempt, jitter: RESENT_AFTER[attempt - 1])
    async with house(clock=clock, BRIDGE_CARDIO__CHUNK_SIZE="50000") as it:
        it.sandbox.faults.add("5xx_before", on="chunks", status=status, skip=1, times=2)
        await it.store(recording(tmp_path))
        (row,) = await it.settled(1)
        assert row.state == "CREATED"
        chunks = it.sandbox.journal.select("chunks")
        assert [c["query"] for c in chunks][:5] == ["offset=0", *["offset=50000"] * 3, "offset=100000"]
        assert len(it.sandbox.journal.select("uploads")) == 1
        assert clock.slept == list(RESENT_AFTER)


async def test_f21_a_chunk_whose_answer_was_lost_is_sent_again_at_its_offset(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_CARDIO__CHUNK_SIZE="50000") as it:
        it.sandbox.faults.add("lost_answer", on="chunks", skip=1, times=1)
        await it.store(recording(tmp_path))
        assert (await it.settled(1))[0].state == "CREATED"
        assert len(it.sandbox.journal.select("uploads")) == 1
        assert [c["query"] for c in it.sandbox.journal.select("chunks")].count("offset=50000") == 2


async def test_f21_an_api_that_does_not_take_the_same_chunk_twice_gets_a_new_session_from_its_first_byte(
    house: OpenHouse, tmp_path: Path
) -> None:
    async with house(BRIDGE_CARDIO__CHUNK_SIZE="50000") as it:
        it.sandbox.unknowns = Unknowns(resent_chunk="refuse")
        it.sandbox.faults.add("lost_answer", on="chunks", skip=1, times=1)
        await it.store(recording(tmp_path))
        assert (await it.settled(1))[0].state == "CREATED"
        assert len(it.sandbox.journal.select("uploads")) == 2
        offsets = [c["query"] for c in it.sandbox.journal.select("chunks")]
        assert offsets[:4] == ["offset=0", "offset=50000", "offset=50000", "offset=0"]


@pytest.mark.parametrize("lost_at", [0, 2])
async def test_f22_a_session_that_is_gone_is_opened_anew_with_its_hash_and_sent_from_its_first_byte(
    house: OpenHouse, tmp_path: Path, lost_at: int
) -> None:
    async with house(BRIDGE_CARDIO__CHUNK_SIZE="50000") as it:
        it.sandbox.faults.add("forget_upload", on="chunks", skip=lost_at, times=1)
        await it.store(recording(tmp_path))
        (row,) = await it.settled(1)
        assert (row.state, row.attempts) == ("CREATED", 1)
        first, second = it.sandbox.journal.select("uploads")
        assert first["body"] == second["body"]
        offsets = [c["query"] for c in it.sandbox.journal.select("chunks")]
        assert offsets[lost_at + 1] == "offset=0"
        assert it.sandbox.tasks[4711].request["upload_id"] == second["applied"]["upload_id"]


async def test_f22_once_its_task_was_asked_for_no_other_upload_takes_a_sessions_place(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task was refused by a rate limit, and the session is over when it is asked for again: a person looks."""
    clock, sent, real = VirtualClock(), list[bytes](), CardioClient.create_tasks

    async def noted(self: CardioClient, body: bytes) -> Outcome:
        sent.append(body)
        return await real(self, body)

    monkeypatch.setattr(CardioClient, "create_tasks", noted)
    async with house(clock=clock) as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.store(recording(tmp_path))
        await it.until(lambda rows: rows[0].reason == "rate_limited")
        it.sandbox.faults.add("forget_upload", on="tasks", times=1)
        clock.jump(21)
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("REJECTED", "api_refused")
        assert len(it.sandbox.journal.select("uploads")) == 1
        assert len(sent) == 2
        assert sent[0] == sent[1]
