"""`bridge messages` as people and scripts call it: beside a running service, and with the store in hand."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.console.asking import Wanted
from bridge.console.owner import path_of
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, reachable, serving
from bridge.settings import load
from tests.acceptance.acting_house import ME, messages, trail
from tests.acceptance.process import Service
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.virtual_clock import VirtualClock


async def bridge(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """`bridge WORDS` in a process of its own."""
    command = [sys.executable, "-c", "from bridge.cli import main; main()", *words]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_commands_act_through_the_service_and_with_the_store_once_it_is_stopped(
    house: OpenHouse, tmp_path: Path
) -> None:
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    sock = open_socket("127.0.0.1", 0, setting="sandbox")
    async with serving(api.application(), sock) as address:
        base_url = f"http://{address}"
        async with house(sandbox=api, base_url=base_url) as it:
            api.faults.add("lost_answer", on="tasks", times=2)
            await it.store(recording(tmp_path))
            await it.hl7(order("C1", "PL-1", patient="0815", name="Probe^Petra"))
            rows = await it.settled(2)
            assert [r.state for r in rows] == ["IN_DOUBT", "IN_DOUBT"]
            done = await bridge(it.environment, "messages", "resolve", rows[0].id, "--task", "4711", "--json")
            assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "CREATED"), done.stderr
            refused = await bridge(it.environment, "messages", "discard", rows[1].id, "--reason", "seen")
            assert (refused.returncode, refused.stdout) == (1, "")
            assert refused.stderr.startswith(f"bridge: message {rows[1].id} is IN_DOUBT (answer_lost): no discard: ")
        done = await bridge(it.environment, "messages", "resolve", rows[1].id, "--task", "4712", "--json")
        assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "CREATED"), done.stderr
        again = await bridge(it.environment, "messages", "resolve", rows[1].id, "--task", "4712")
        assert (again.returncode, "its task is made" in again.stderr) == (1, True)
        async with house(sandbox=api, base_url=base_url) as it:
            assert [r.state for r in await it.messages()] == ["CREATED", "CREATED"]
            assert "|task=4712" in await it.hl7(order("C1", "PL-1", patient="0815", name="Probe^Petra"))
            acts = await trail(it)
            assert [(a.actor, a.action, a.outcome) for a in acts] == [
                (ME, "resolve_found", "done"),
                (ME, "discard", "refused"),
                (ME, "resolve_found", "done"),
                (ME, "resolve_found", "refused"),
            ]
    assert len(api.tasks) == 2


async def test_a_command_acts_through_bridge_run_on_its_own_loop(house: OpenHouse, tmp_path: Path) -> None:
    """It runs on uvloop, which has sockets of its own: who asks must be told there too."""
    async with house() as it:
        environment = it.environment  # a bridge that ends here: the process takes its place
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.store(recording(tmp_path))
        (row,) = await it.settled(1)
    service = Service(environment, tmp_path / "log")
    await asyncio.to_thread(service.start)
    try:
        done = await bridge(environment, "messages", "discard", row.id, "--reason", "not wanted", "--json")
        assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "CANCELLED"), done.stderr
        shown = await bridge(environment, "messages", "show", row.id)
        assert f"CANCELLED  by {ME}: discarded" in shown.stdout
        assert shown.stderr == ""
        trail_told = await bridge(environment, "messages", "audit", "--verify")
        assert "the chain is whole" in trail_told.stdout
    finally:
        await asyncio.to_thread(service.end, signal.SIGTERM)
    shown = await bridge(environment, "messages", "show", row.id)
    assert (shown.returncode, "does not hold this look" in shown.stderr) == (0, True)


async def test_a_store_that_is_not_there_or_whose_socket_is_gone_is_not_made_or_taken(
    house: OpenHouse, tmp_path: Path
) -> None:
    nowhere = {"BRIDGE_STORE__URL": f"sqlite:///{tmp_path}/none/bridge.db"}
    done = await bridge(nowhere, "messages", "replay", "1")
    assert (done.returncode, "there is no store" in done.stderr) == (1, True)
    assert not (tmp_path / "none").exists()
    async with house() as it:
        path_of(load(None, it.environment)).unlink()
        done = await bridge(it.environment, "messages", "replay", "1")
        assert (done.returncode, "held by another running bridge" in done.stderr) == (1, True), done.stderr


async def posted(it: House, path: str, body: bytes) -> tuple[int, Any]:
    """A request to the control socket as any program could make it."""
    reader, writer = await asyncio.open_unix_connection(str(path_of(load(None, it.environment))))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: somebody\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    top, _, said = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(said) if said.startswith(b"{") else said


async def test_the_socket_is_its_owners_and_the_kernel_says_who_asks(house: OpenHouse) -> None:
    async with house() as it:
        path = path_of(load(None, it.environment))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(path.stat().st_mode)
        await it.hl7(order())
        await it.settled(1)
        status, said = await posted(it, "/api/messages/1/discard", b'{"reason": "x", "by": "somebody"}')
        assert (status, said) == (422, {"refused": "not understood: body.by"})
        status, said = await posted(it, "/api/messages/1/discard", b'{"reason": "x"}')
        assert (status, "its task is made" in said["refused"]) == (409, True)
        assert [a.actor for a in await trail(it)] == [ME]
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/messages/1/erase", b"{}", 422),
        ("/api/messages/1;2/replay", b"{}", 422),
        ("/api/messages/outbound:1/replay", b"{}", 409),
        ("/api/messages/elsewhere:1/release", b"{}", 422),
        ("/api/messages/1/replay", b'{"order": "PL-1"}', 409),
        ("/api/messages/1/resolve", b'{"resend": true, "give_up": true}', 409),
        ("/api/messages/1/resolve", b'{"resend": "yes"}', 422),
        ("/api/messages/1/replay", b"not JSON", 422),
        ("/api/messages/1/replay", b" " * 70_000, 413),
        ("/api/messages/99999999999999999999/replay", b"{}", 422),
    ],
)
async def test_what_makes_no_sense_is_refused_in_good_order(
    house: OpenHouse, path: str, body: bytes, status: int
) -> None:
    async with house() as it:
        assert (await posted(it, path, body))[0] == status
        assert await it.messages() == []


async def test_a_socket_in_a_deep_folder_can_be_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as mine, socket.socket(socket.AF_UNIX) as other:
        with reachable(deep / "control.sock") as name:
            mine.bind(name)
        mine.listen(1)
        with reachable(deep / "control.sock") as name:
            other.connect(name)
    assert (deep / "control.sock").exists()


async def test_list_narrows_by_what_people_know_and_goes_on_page_by_page(house: OpenHouse, tmp_path: Path) -> None:
    clock = VirtualClock()
    async with house(clock=clock) as it:
        for n in range(1, 6):
            await it.hl7(order(f"C{n}", f"PL-{n}", patient=f"P{n % 2}"))
        path = recording(tmp_path)
        await it.store(path)
        await it.settled(6)

        async def ids(*words: str) -> list[str]:
            found = await messages(it, "list", "--json", *words)
            assert found.status == 0, found.out
            return [r["id"] for r in found.json()]

        assert await ids() == ["6", "5", "4", "3", "2", "1"]
        assert await ids("--patient", "P1") == ["5", "3", "1"]
        assert await ids("--order", "PL-2") == ["2"]
        assert await ids("--order", "ACCPL-2") == ["2"], "by any of its numbers"
        assert await ids("--control-id", "C3") == ["3"]
        assert await ids("--state", "created", "--limit", "2") == ["6", "5"]
        assert await ids("--state", "created", "--limit", "2", "--before", "5") == ["4", "3"]
        assert await ids("--older-than", "0s") != []
        assert await ids("--older-than", "1d") == []
        row = (await messages(it, "list", "--json", "--limit", "1")).json()[0]
        assert list(row) == [
            "id", "state", "reason", "kind", "type", "received_at", "peer", "control_id", "sop_instance_uid", "order",
            "task_ids", "attempts",
        ]  # fmt: skip
        assert await ids("--sop-instance-uid", row["sop_instance_uid"]) == ["6"]
        assert await ids("--task-id", row["task_ids"][0]) == ["6"]
        assert await ids("--reason", "poison") == []
        page = await messages(it, "list", "--limit", "4")
        assert "perhaps more: --before 3" in page.out
        wrong = await messages(it, "list", "--older-than", "soon")
        assert (wrong.status, "10m, 2h or 3d" in wrong.out) == (2, True)


async def test_the_audit_trail_is_shown_verified_and_exported(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await it.hl7(order())
        await messages(it, "discard", "1", "--reason", "Muster^Max")
        await messages(it, "replay", "1")
        shown = await messages(it, "audit")
        assert [line.split()[3:5] for line in shown.out.splitlines()] == [["discard", "refused"], ["replay", "refused"]]
        assert "the chain is whole" in (await messages(it, "audit", "--verify")).out
        target = tmp_path / "audit.xml"
        assert "2 audit messages" in (await messages(it, "audit", "--export", str(target))).out
        assert target.read_text().count("<AuditMessage>") == 2
        assert "Muster" not in target.read_text()

        def forge(tx: Any) -> None:
            tx.conn.exec_driver_sql("UPDATE audit SET actor = 'somebody' WHERE id = 1")

        await it.up.store.write(forge)
        broken = await messages(it, "audit", "--verify")
        assert (broken.status, "row 1 of the audit trail" in broken.out) == (1, True)


def test_every_option_of_resolve_is_known_to_the_socket() -> None:
    assert {"task", "resend", "give_up", "anomaly", "tag", "confirm", "reason"} <= set(Wanted.model_fields)
