"""Processes of one bridge on one PostgreSQL: who receives, who sends, who shows, and nobody twice."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.app import running
from bridge.domain.states import State
from bridge.errors import SettingsError, StoreRefused
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.settings import load
from bridge.store import workers
from bridge.store.grouped import GroupedStore
from tests.acceptance.scene import House, OpenHouse, order, surroundings
from tests.acceptance.test_ecg_to_task import recording
from tests.postgres_server import Server

pytestmark = pytest.mark.peer


class Group:
    """The processes of a group of hospitals, each in a folder of its own."""

    def __init__(self, address: sa.URL, folder: Path, api: Sandbox, base_url: str) -> None:
        self.api = api
        self._folder = folder
        (folder / "site.key").write_text(secrets.token_hex(32))
        self._environment = {
            **surroundings(folder, base_url),
            "BRIDGE_SITE__KEY_FILE": str(folder / "site.key"),
            "BRIDGE_SITE__ASSIGNING_AUTHORITY": "TEST",
            "BRIDGE_STORE__URL": address.render_as_string(hide_password=False),
            "BRIDGE_STORE__LEASE": "60",
            "BRIDGE_STORE__POLL": "0.2",
        }

    @contextlib.asynccontextmanager
    async def process(self, name: str, *roles: str, **more: str) -> AsyncIterator[House]:
        values = {**self._environment, "BRIDGE_STORE__FOLDER": str(self._folder / name), **more}
        async with running(load(None, values), roles=frozenset(roles)) as up:
            yield House(up, self.api, self._folder, values)


OpenGroup = Callable[[], contextlib.AbstractAsyncContextManager[Group]]


@pytest.fixture
def group(postgres: Server, tmp_path: Path) -> OpenGroup:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Group]:
        api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
        sock = open_socket("127.0.0.1", 0, setting="sandbox")
        async with serving(api.application(), sock) as address:
            yield Group(postgres.database(f"roles_{secrets.token_hex(4)}"), tmp_path, api, f"http://{address}")

    return opened


async def test_a_receiver_answers_with_the_task_that_a_dispatcher_made(group: OpenGroup) -> None:
    async with (
        group() as it,
        it.process("r", "receive") as receiver,
        it.process("d", "dispatch") as dispatcher,
    ):
        answer = await receiver.hl7(order())
        assert "MSA|AA|C1|task=4711" in answer
        assert set(dispatcher.up.addresses) == {"console"}
        there = await dispatcher.up.store.read(workers.there)
        assert sorted(one.roles for one in there) == [("dispatch",), ("receive",)]
    assert [task.request["patient_id"] for task in it.api.tasks.values()] == ["4711"]


async def test_a_resend_to_another_receiver_gets_the_same_answer_and_no_second_task(group: OpenGroup) -> None:
    async with (
        group() as it,
        it.process("r1", "receive") as one,
        it.process("r2", "receive") as other,
        it.process("d1", "dispatch"),
        it.process("d2", "dispatch"),
    ):
        first = await one.hl7(order())
        assert await other.hl7(order()) == first
        await one.settled(1)
    assert len(it.api.tasks) == 1


async def test_an_admission_at_one_receiver_counts_for_the_order_at_another(group: OpenGroup) -> None:
    merge = (
        "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301115900+0100||ADT^A40|M1|P|2.3.1\rEVN|A40|20260301115900\r"
        "PID|1||4711^^^TEST^MR||Muster^Max||19700131|M\rMRG|0815^^^TEST^MR\r"
    )
    async with (
        group() as it,
        it.process("r1", "receive") as one,
        it.process("r2", "receive") as other,
        it.process("d", "dispatch"),
    ):
        assert "MSA|AA|M1" in await one.hl7(merge)
        assert "MSA|AA|C1|task=" in await other.hl7(order(patient="0815"))
        await one.settled(2)
    (task,) = it.api.tasks.values()
    assert task.request["patient_id"] == "4711", "the patient who stayed"


async def test_an_object_at_a_receiver_becomes_a_task_elsewhere(group: OpenGroup, tmp_path: Path) -> None:
    path = recording(tmp_path)
    async with (
        group() as it,
        it.process("r", "receive") as receiver,
        it.process("d1", "dispatch"),
        it.process("d2", "dispatch"),
    ):
        assert await receiver.store(path) == 0x0000
        (row,) = await receiver.settled(1, seconds=60)
        assert row.state == State.CREATED
    assert len(it.api.tasks) == 1


async def test_what_is_done_by_one_is_done_by_one_and_goes_over_when_it_ends(group: OpenGroup) -> None:
    async with group() as it, it.process("d1", "dispatch") as first:
        async with it.process("d2", "dispatch") as second:
            duties = await all_done_by(first, seen_by=second)
        assert {"reading", "telling", "watching", "alarms", "announcing"} <= duties
    async with it.process("d3", "dispatch") as third:
        assert await all_done_by(third, seen_by=third) == duties


async def all_done_by(one: House, *, seen_by: House) -> set[str]:
    """Wait until whatever one process does at a time is this one's; what that is."""
    deadline = time.monotonic() + 60
    while True:
        found = await seen_by.up.store.read(workers.duties)
        if set(found.values()) == {one.up.store.worker}:
            return set(found)
        if time.monotonic() > deadline:
            pytest.fail(f"not reached: {found}")
        await asyncio.sleep(0.02)


async def test_roles_need_a_store_that_can_be_shared(house: OpenHouse) -> None:
    async with house() as it:
        settings = load(None, it.environment)
    with pytest.raises(SettingsError, match="PostgreSQL"):
        async with running(settings, roles=frozenset({"receive"})):
            pass


async def test_hosts_with_different_secrets_are_refused(group: OpenGroup, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_text(secrets.token_hex(32))
    async with group() as it, it.process("d1", "dispatch"):
        with pytest.raises(SettingsError, match=r"site\.key_file: the store was written with another secret"):
            async with it.process("d2", "dispatch", BRIDGE_SITE__KEY_FILE=str(other)):
                pass
        with pytest.raises(SettingsError, match=r"site\.key_file: hosts that share a store share this secret"):
            async with it.process("d3", "dispatch", BRIDGE_SITE__KEY_FILE=""):
                pass


async def test_a_folder_is_one_processs(group: OpenGroup) -> None:
    async with group() as it, it.process("d", "dispatch"):
        with pytest.raises(StoreRefused, match=r"store\.folder: .* is another running bridge's"):
            async with it.process("d", "dispatch"):
                pass


async def test_f40_who_stood_still_behind_an_intention_sends_nothing_of_it(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes did not leave, and that is known: it is sent once, when its process is sure of its place again."""
    asked = iter((False, True))
    monkeypatch.setattr(GroupedStore, "may_send", lambda _: next(asked))
    async with house() as it:
        assert "task=4711" in await it.hl7(order())
        (row,) = await it.settled(1)
        reasons = [event["reason"] for event in (await it.show(row.id))["history"]]
    assert "stood_still" in reasons
    assert len(it.sandbox.tasks) == 1
    assert next(asked, None) is None
