"""Faults behind the answer: holds, cuts, waits and refusals may cost a patient's line time, and never an order."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge import app
from bridge.dispatch import policy
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.cardio.response import Response, outcome_of, read_task_ids, read_upload_id
from bridge.dispatch.deciding import Deciding
from bridge.dispatch.recordings import UPLOADS, Recordings
from bridge.domain.outcome import NotSent, Outcome, Refused
from bridge.domain.recording import Recording
from bridge.errors import StoreError
from bridge.sandbox.peer import PeerError
from bridge.serving import open_socket, serving
from bridge.store.listing import Row
from tests.acceptance.receiver import acknowledge, field_of, receiving
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.virtual_clock import VirtualClock
from tests.ports import free_port

PENDING = "accepted, task pending"
HOLTER = "OBR|2|{number}^HIS||93224^Holter^CPT||||||||||||||{accession}\r"
SECOND = "ORC|NW|PL-2^HIS\r" + HOLTER.format(number="PL-2", accession="ACC-2")
"""A second order of the same message."""


class SteppedClock(VirtualClock):
    """Its time of day can be set back; `monotonic` knows nothing of that."""

    def __init__(self) -> None:
        super().__init__()
        self._back = timedelta()

    def now(self) -> datetime:
        return super().now() - self._back

    def set_back(self, seconds: float) -> None:
        """An operator, or NTP, corrects the time of day."""
        self._back += timedelta(seconds=seconds)


def change(control: str, control_id: str, number: str = "PL-1") -> str:
    """A later message about an order: HD puts it on hold, RL releases it."""
    return order(control_id, number).replace("ORC|NW", f"ORC|{control}").replace("20260301120000", "20260301120500")


def standings(rows: list[Row]) -> list[tuple[str, str]]:
    """State and reason of each message, oldest first."""
    return [(row.state, row.reason) for row in rows]


def numbers(it: House) -> list[str]:
    """The investigation of each task that was made, oldest first: nothing may be here twice."""
    return [task.request["investigation_id"] for task in it.sandbox.tasks.values()]


def as_time_flies(clock: VirtualClock, done: Callable[[list[Row]], bool]) -> Callable[[list[Row]], bool]:
    """The condition; each time that it does not hold yet, five seconds pass."""

    def look(rows: list[Row]) -> bool:
        if done(rows):
            return True
        clock.jump(5.0)
        return False

    return look


def stands(place: int, state: str, reason: str = "") -> Callable[[list[Row]], bool]:
    """Whether the message at that place is there and stands so."""
    return lambda rows: len(rows) > place and standings(rows)[place] == (state, reason)


async def unreachable(client: CardioClient, body: bytes) -> Outcome:
    """In place of `create_tasks`: nothing leaves the house."""
    return NotSent("refused")


# --- orders on hold, changed and cancelled (F33) ---------------------------------------------------------------------


async def test_f33_new_and_cancel_in_one_message_is_told_cancelled_and_makes_no_task(house: OpenHouse) -> None:
    cancel = "ORC|CA|PL-1^HIS\rOBR|2|PL-1^HIS||93000^12-lead ECG^CPT||||||||||||||ACCPL-1\r"
    async with house() as it:
        answer = await it.hl7(order() + cancel)
        assert [line[:7] for line in answer.split("\r") if line.startswith("ORC")] == ["ORC|OC|", "ORC|CR|"]
        assert standings(await it.settled(1)) == [("DONE", "order_cancelled")]
        assert numbers(it) == []


async def test_f33_new_and_change_in_one_message_makes_the_task_of_the_change(house: OpenHouse) -> None:
    changed = "ORC|XO|PL-1^HIS\r" + HOLTER.format(number="PL-1", accession="ACC-NEW")
    async with house() as it:
        answer = await it.hl7(order() + changed)
        assert "ORC|OK|PL-1^HIS|4711^CARDIO\r" in answer
        assert "ORC|XR|PL-1^HIS\r" in answer
        assert numbers(it) == ["ACC-NEW"]


async def test_f33_new_and_hold_in_one_message_waits_for_the_release(house: OpenHouse) -> None:
    hold = "ORC|HD|PL-1^HIS\rOBR|2|PL-1^HIS||93000^12-lead ECG^CPT||||||||||||||ACCPL-1\r"
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        assert field_of(await it.hl7(order() + hold), "MSA", 3) == PENDING
        await it.until(stands(0, "RETRY", "order_on_hold"))
        assert numbers(it) == []
        await it.hl7(change("RL", "C2"))
        assert [row.state for row in await it.settled(2)] == ["CREATED", "DONE"]
        assert numbers(it) == ["ACCPL-1"]


async def test_f33_a_recording_whose_order_comes_and_is_cancelled_at_once_waits_on(
    house: OpenHouse, tmp_path: Path
) -> None:
    cancel = "ORC|CA|PL-1^HIS\rOBR|2|PL-1^HIS||93000^12-lead ECG^CPT\r"
    async with house(BRIDGE_RECORDINGS__ORDER_WAIT="600") as it:
        assert await it.store(recording(tmp_path, accession="ACCPL-1")) == 0
        before = await it.until(stands(0, "RETRY", "awaiting_order"))
        await it.hl7(order("C2") + cancel)
        await it.until(lambda rows: rows[0].attempts > before[0].attempts and rows[0].reason != "")
        again = await it.hl7(order("C3", "PL-3", patient="4712"))  # behind it in the writer's line
        assert field_of(again, "MSA", 1) == "AA"
        assert standings(await it.messages())[0] == ("RETRY", "awaiting_order")
        await it.hl7(order("C4", "PL-4").replace("ACCPL-4", "ACCPL-1"))
        assert (await it.until(stands(0, "CREATED")))[0].task_ids


async def test_f33_an_order_that_waits_to_be_tried_again_is_put_on_hold_and_released(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        with monkeypatch.context() as patch:
            patch.setattr(CardioClient, "create_tasks", unreachable)
            await it.hl7(order())
            await it.until(stands(0, "RETRY", "unreachable"))
            await it.hl7(change("HD", "H1"))
        clock.jump(31)
        await it.until(stands(0, "RETRY", "order_on_hold"))
        await it.hl7(change("RL", "H2"))
        assert [row.state for row in await it.settled(3)] == ["CREATED", "DONE", "DONE"]
        assert numbers(it) == ["ACCPL-1"]


async def test_f33_a_recording_that_waits_to_be_tried_again_waits_for_the_release_of_its_order(
    house: OpenHouse, tmp_path: Path
) -> None:
    clock = VirtualClock()
    async with house(clock=clock) as it:
        await it.hl7(order())
        it.sandbox.faults.add("429", on="uploads", times=1, retry_after="20")
        await it.store(recording(tmp_path, accession="ACCPL-1"))
        await it.until(stands(1, "RETRY", "rate_limited"))
        await it.hl7(change("HD", "H1"))
        clock.jump(21)
        await it.until(stands(1, "RETRY", "order_on_hold"))
        await it.hl7(change("RL", "H2"))
        rows = await it.settled(4)
        assert [row.state for row in rows] == ["CREATED", "CREATED", "DONE", "DONE"]
        assert numbers(it) == ["ACCPL-1", "ACCPL-1"]  # the draft, and the recording's own


async def test_f32_an_order_on_hold_that_is_sent_once_more_makes_one_task_when_it_is_released(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.hl7(order("C0", "PL-0"))
        await it.until(stands(0, "RETRY", "rate_limited"))
        await it.hl7(order("C1"))  # of the same patient: it stands behind
        await it.hl7(change("HD", "H1"))
        clock.jump(21)
        await it.until(stands(1, "RETRY", "order_on_hold"))
        await it.hl7(order("C2"))
        await it.until(stands(3, "DONE", "order_on_hold"))
        await it.hl7(change("RL", "H2"))
        assert [row.state for row in await it.settled(5)] == ["CREATED", "CREATED", "DONE", "DONE", "DONE"]
        assert numbers(it) == ["ACCPL-0", "ACCPL-1"]


async def test_f32_an_order_that_was_refused_and_comes_again_while_on_hold_is_made_when_it_is_released(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits under a message of its own, which the order does not know."""

    async def refuse(self: CardioClient, body: bytes) -> Outcome:
        return Refused(400, "invented", None)

    async with house(BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        with monkeypatch.context() as patch:
            patch.setattr(CardioClient, "create_tasks", refuse)
            await it.hl7(order())
            await it.until(stands(0, "REJECTED", "api_refused"))
        await it.hl7(change("HD", "H1"))
        assert field_of(await it.hl7(order("C2")), "MSA", 3) == PENDING
        await it.until(stands(2, "RETRY", "order_on_hold"))
        await it.hl7(change("RL", "H2"))
        assert (await it.until(stands(2, "CREATED")))[2].task_ids
        assert numbers(it) == ["ACCPL-1"]


async def test_f24_a_recording_that_the_store_interrupts_is_taken_up_again_after_a_pause(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that refuses at once, or a full disk, was asked a hundred times a second, with two events each."""
    clock, tried = VirtualClock(), 0

    async def refuse(*_: Any) -> None:
        nonlocal tried
        tried += 1
        raise StoreError("invented")

    async with house(clock=clock) as it:
        with monkeypatch.context() as patch:
            patch.setattr(Recordings, "deliver", refuse)
            assert await it.store(recording(tmp_path)) == 0
            await it.until(stands(0, "RETRY", "interrupted"))
            clock.jump(4.0)
            assert field_of(await it.hl7(order("C2", "PL-2", patient="4712")), "MSA", 3) == "task=4711"
            assert tried == 1
            clock.jump(1.5)
            await it.until(lambda rows: rows[0].attempts == 2 and stands(0, "RETRY", "interrupted")(rows))
            assert tried == 2
        clock.jump(5.5)
        await it.until(stands(0, "CREATED"))


# --- ended in the middle of a POST (F10, F11) ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def cut_while_posting(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, message: str, *, applied: bool = True, **environment: str
) -> AsyncIterator[House]:
    """A bridge that ended while its first POST was under way, and is up again. `applied`: the task was made."""
    real = CardioClient.create_tasks

    async def never_answered(self: CardioClient, body: bytes) -> Outcome:
        if applied:
            await real(self, body)
        await asyncio.Event().wait()
        raise AssertionError

    def under_way(rows: list[Row]) -> bool:
        return stands(0, "INTENT")(rows) and len(it.sandbox.tasks) == applied

    with monkeypatch.context() as patch:
        patch.setattr(app, "DRAIN", 0.0)
        patch.setattr(CardioClient, "create_tasks", never_answered)
        async with house(BRIDGE_HL7__REPLY_BUDGET="0.1", **environment) as it:
            with contextlib.suppress(PeerError):  # where the answer is held, the connection is closed
                await it.hl7(message)
            await it.until(under_way)
    async with house(sandbox=it.sandbox, BRIDGE_HL7__REPLY_BUDGET="0.1", **environment) as again:
        yield again


@pytest.mark.parametrize("applied", [True, False])
async def test_f11_the_orders_behind_an_interrupted_one_go_on_and_it_is_never_sent_again(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    async with cut_while_posting(house, monkeypatch, order() + SECOND, applied=applied) as it:
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("IN_DOUBT", "interrupted")
        shown = await it.show(row.id)
        assert [task["state"] for task in shown["tasks"]] == ["IN_DOUBT", "CREATED"]
        await it.hl7(order() + SECOND)
        assert numbers(it) == (["ACCPL-1"] if applied else []) + ["ACC-2"]


async def test_f10_a_held_answer_is_given_to_the_resend_after_the_start(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cut_while_posting(house, monkeypatch, order(), BRIDGE_HL7__REPLY_LATE="hold") as it:
        await it.settled(1)
        answer = await it.hl7(order())
        assert (field_of(answer, "MSA", 1), field_of(answer, "MSA", 3)) == ("AA", PENDING)
        assert numbers(it) == ["ACCPL-1"]


async def test_f10_the_application_answer_of_enhanced_mode_follows_after_the_start(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = order().replace("|P|2.3.1", "|P|2.3.1|||AL|AL")
    async with receiving(lambda told, _: acknowledge(told, "CA")) as his:
        enhanced = {"BRIDGE_HL7__ACK_MODE": "enhanced", "BRIDGE_HL7__RETURN_ADDRESS": his.address}
        async with cut_while_posting(house, monkeypatch, message, **enhanced) as it:
            (told,) = await his.until(1, seconds=5)
            assert [field_of(told, "MSA", n) for n in (1, 2, 3)] == ["AA", "C1", PENDING]
            assert field_of(told, "ORC", 3) == ""  # whether there is a task is for a person to find out
            assert standings(await it.settled(1)) == [("IN_DOUBT", "interrupted")]


# --- what goes wrong with one message stays with it (F28) ------------------------------------------------------------


async def test_f28_a_recording_that_ends_its_sender_is_held_and_the_patients_next_message_goes_on(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unforeseen(*_: Any) -> Any:
        raise RuntimeError("unforeseen")

    async with house() as it:
        monkeypatch.setattr(Recording, "selected", _once_then(Recording.selected, unforeseen))
        assert await it.store(recording(tmp_path)) == 0
        await it.until(stands(0, "HELD", "poison"), 5)
        assert field_of(await it.hl7(order()), "MSA", 3) == "task=4711"
        assert not it.up.failed.is_set()


def _once_then(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """It is read for understanding without a fault, and then for sending."""
    calls = iter((first,))

    def call(*args: Any) -> Any:
        return next(calls, then)(*args)

    return call


async def test_f28_what_a_post_came_to_is_kept_where_the_order_behind_it_cannot_be_decided(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Deciding.draft

    def draft(self: Deciding, tx: Any, message_id: int, asked: Any) -> Any:
        if asked.position == 2:
            raise ValueError("the second order cannot be decided")
        return real(self, tx, message_id, asked)

    monkeypatch.setattr(Deciding, "draft", draft)
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        await it.hl7(order() + SECOND)
        (row,) = await it.until(stands(0, "HELD", "poison"), 5)
        assert row.task_ids == ["4711"]
        assert numbers(it) == ["ACCPL-1"]


async def test_f17_words_of_the_api_that_no_encoding_can_hold_are_kept_as_far_as_they_go(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(self: CardioClient, body: bytes) -> Outcome:
        return outcome_of(Response(400, b'"bad \\ud800 name"'), read_task_ids)

    monkeypatch.setattr(CardioClient, "create_tasks", refused)
    async with house() as it:
        assert field_of(await it.hl7(order()), "MSA", 1) == "AE"
        (row,) = await it.settled(1)
        assert (row.state, row.reason) == ("REJECTED", "api_refused")
        assert (await it.show(row.id))["tasks"][0]["api_text"] == "bad ? name"


def test_an_upload_id_that_no_encoding_can_hold_is_a_broken_answer() -> None:
    assert read_upload_id(b'{"upload_id": "\\ud800"}') is None


# --- waits (F14, F18, F21, F22, F25) ---------------------------------------------------------------------------------


async def test_f14_retry_after_is_waited_and_no_longer(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        await it.up.store.write(lambda tx: tx.notify("ready"))  # the sender has looked, and waits for half a minute
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.hl7(order())
        await it.until(stands(0, "RETRY", "rate_limited"))
        clock.jump(8)
        await it.hl7(order("C2", "PL-2", patient="4712"))  # whoever it is of, it waits as well
        assert numbers(it) == []
        clock.jump(12.5)
        await it.until(lambda rows: [row.state for row in rows] == ["CREATED", "CREATED"], 3)


async def test_f33_an_order_that_came_twice_and_waits_is_cancelled_with_its_twin(house: OpenHouse) -> None:
    clock, port = VirtualClock(), free_port()
    async with house(clock=clock, base_url=f"http://127.0.0.1:{port}", BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        await it.hl7(order())
        await it.until(stands(0, "RETRY", "unreachable"))
        await it.hl7(order("C2"))
        assert field_of(await it.hl7(order("C3").replace("ORC|NW|", "ORC|CA|")), "ORC", 1) == "CR"
        async with serving(it.sandbox.application(), open_socket("127.0.0.1", port, setting="sandbox")):
            clock.jump(400)
            rows = await it.settled(3)
        assert [row.state for row in rows] == ["CANCELLED", "CANCELLED", "DONE"]
        assert numbers(it) == []


async def test_f25_a_clock_set_back_an_hour_does_not_make_a_wait_an_hour_longer(house: OpenHouse) -> None:
    clock = SteppedClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        it.sandbox.faults.add("429", on="tasks", times=1, retry_after="20")
        await it.hl7(order())
        await it.until(stands(0, "RETRY", "rate_limited"))
        clock.set_back(3600)
        clock.jump(60)
        await it.until(stands(0, "CREATED"), 5)


async def test_f25_a_clock_set_back_an_hour_does_not_keep_ids_from_their_receiver(house: OpenHouse) -> None:
    clock = SteppedClock()

    def answering(message: str, nth: int) -> str | None:
        return acknowledge(message) if nth > 1 else None

    async with (
        receiving(answering) as his,
        house(clock=clock, BRIDGE_HL7__RETURN_ADDRESS=his.address, BRIDGE_HL7__REPLY_BUDGET="0.1") as it,
    ):
        it.sandbox.faults.add("latency", on="tasks", times=1, seconds=0.3)
        await it.hl7(order())
        (row,) = await it.settled(1)
        async with asyncio.timeout(5):
            while not any(told["attempts"] for told in (await it.show(row.id))["told_later"]):  # noqa: ASYNC110  as `until`
                await asyncio.sleep(0.02)
        clock.set_back(3600)
        clock.jump(60)
        assert len(await his.until(1, seconds=5)) == 1


async def test_f18_each_try_of_an_upload_waits_longer_than_the_one_before(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[int, float]] = []

    def at_once(attempt: int, jitter: float) -> float:
        asked.append((attempt, jitter))
        return 0.01

    monkeypatch.setattr(policy, "backoff", at_once)
    async with house() as it:
        it.sandbox.faults.add("5xx_before", on="uploads", status=500, times=5)
        await it.store(recording(tmp_path))
        await it.until(stands(0, "CREATED"))
        attempts = [attempt for attempt, _ in asked]
        assert len(attempts) == 5
        assert all(later > earlier for earlier, later in itertools.pairwise(attempts))
        assert len({jitter for _, jitter in asked}) > 1
    assert [policy.BACKOFF_FIRST, policy.BACKOFF_MOST] == [1.0, 300.0]


@pytest.mark.parametrize("fault", ["400", "forget_upload"])
async def test_f21_f22_upload_sessions_that_are_always_refused_are_held_after_some_tries(
    house: OpenHouse, tmp_path: Path, fault: str
) -> None:
    clock = VirtualClock()
    async with house(clock=clock, BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
        it.sandbox.faults.add(fault, on="chunks")
        await it.store(recording(tmp_path))
        await it.hl7(order())
        rows = await it.until(as_time_flies(clock, stands(0, "HELD", "upload_failed")), 10)
        assert rows[0].attempts <= UPLOADS + 1  # one attempt was the reading
        await it.until(stands(1, "CREATED"))
        assert numbers(it) == ["ACCPL-1"]
