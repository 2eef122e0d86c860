"""Each fault as a client sees it, and what the sandbox did behind it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.cardio_faults import KINDS
from tests.protocol.sandbox_client import TASKS, Client, Got, Noticed, client, record


async def played(api: Client, kind: str, **options: Any) -> Got:
    """A task POST that meets the fault, once."""
    api.sandbox.faults.add(kind, on="tasks", times=1, **options)
    got = await api.post(TASKS, {"patient_id": "4711"}, patience=0.5 if kind == "silent" else 5)
    assert [e["fault"] for e in await api.journal("?path=tasks")][-1] == kind
    return got


@pytest.mark.parametrize("status", [400, 401, 403, 415, 429])
async def test_f14_to_f17_a_documented_refusal_applies_nothing(status: int) -> None:
    async with client() as api:
        got = await played(api, str(status))
        assert (got.status, type(got.json)) == (status, str)
        assert "retry-after" not in got.headers
        assert not api.sandbox.tasks
        assert (await api.post(TASKS, {})).status == 201


@pytest.mark.parametrize("after", ["2", 0, "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999", "soon"])
async def test_f14_429_with_any_retry_after(after: str | int) -> None:
    async with client() as api:
        assert (await played(api, "429", retry_after=after)).headers["retry-after"] == str(after)


@pytest.mark.parametrize(("kind", "tasks"), [("5xx_before", 0), ("5xx_after", 1)])
async def test_f19_5xx_before_and_after_it_was_applied(kind: str, tasks: int) -> None:
    async with client() as api:
        got = await played(api, kind, status=503)
        assert (got.status, type(got.json), len(api.sandbox.tasks)) == (503, str, tasks)


async def test_any_status_with_a_location() -> None:
    async with client() as api:
        got = await played(api, "status", status=307, location=TASKS, applied=False)
        assert (got.status, got.headers["location"], len(api.sandbox.tasks)) == (307, TASKS, 0)
        assert (await played(api, "status", status=409)).status == 409
        assert len(api.sandbox.tasks) == 1


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("kind", "tasks"), [("lost_answer", 1), ("drop_before", 0)])
async def test_f12_a_closed_connection_without_a_byte(
    kind: str, tasks: int, reset: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async with client() as api:
        got = await played(api, kind, reset=reset)
        assert (got.raw, got.end) == (b"", "reset" if reset else "fin")
        assert len(api.sandbox.tasks) == tasks
        entry = (await api.journal("?path=tasks"))[-1]
        assert (entry["status"], bool(entry["applied"])) == (None, bool(tasks))
    assert capfd.readouterr().err == ""


async def test_f12_a_connection_that_ends_before_the_body_was_read() -> None:
    async with client() as api:
        got = await played(api, "drop_at_once")
        assert (got.raw, len(api.sandbox.tasks)) == (b"", 0)


@pytest.mark.parametrize("applied", [True, False])
async def test_f12_a_silent_api_says_nothing_until_the_client_leaves(
    applied: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async with client() as api:
        got = await played(api, "silent", applied=applied)
        assert (got.raw, got.end) == (b"", "silent")
        assert len(api.sandbox.tasks) == applied
    assert capfd.readouterr().err == ""


async def test_a_server_that_stops_hangs_up_on_a_silent_call(capfd: pytest.CaptureFixture[str]) -> None:
    async with client() as api:
        tasks = api.sandbox.tasks = Noticed()
        api.sandbox.faults.add("silent", on="tasks")
        waiting = asyncio.create_task(api.post(TASKS, {}, patience=30))
        await asyncio.wait_for(tasks.there.wait(), 5)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert (await waiting).raw == b""
    assert capfd.readouterr().err == ""


async def test_f12_2xx_with_a_broken_or_cut_body() -> None:
    async with client() as api:
        broken = await played(api, "broken_body")
        assert broken.status == 201
        with pytest.raises(ValueError, match="Unterminated"):
            _ = broken.json
        assert (await played(api, "broken_body", body="<html/>")).body == b"<html/>"
        cut = await played(api, "cut_body")
        assert (cut.status, cut.end) == (201, "fin")
        assert 0 < len(cut.body) < int(cut.headers["content-length"])
        assert (await played(api, "cut_body", reset=True)).end == "reset"
        assert len(api.sandbox.tasks) == 4


async def test_an_answer_that_is_too_long_or_comes_byte_by_byte_is_still_right() -> None:
    async with client() as api:
        long = await played(api, "long_body", size=3 << 20)
        assert (len(long.body), long.json) == (3 << 20, {"created_task_ids": [4711]})
        drip = await played(api, "drip", seconds=0.001)
        assert drip.json == {"created_task_ids": [4712]}


@pytest.mark.parametrize("ids", [[], [1, 2], [2**63 + 1], ["4711"], [-1], [2**64], None])
async def test_f23_wrong_ids(ids: list[Any] | None) -> None:
    async with client() as api:
        options = {} if ids is None else {"ids": ids}
        got = await played(api, "wrong_ids", **options)
        assert (got.status, got.json) == (201, {"created_task_ids": ids or []})
        assert (await api.journal())[0]["applied"] == {"created_task_ids": ["4711"]}


@pytest.mark.parametrize("kind", ["broken_body", "cut_body", "long_body", "wrong_ids", "drip"])
async def test_a_fault_that_spoils_2xx_leaves_a_refusal_as_it_is(kind: str) -> None:
    async with client() as api:
        api.sandbox.faults.add(kind, on="tasks")
        got = await api.post(TASKS, {"patient_age": -1})
        assert (got.status, got.json[:11]) == (400, "patient_age")


async def test_f21_a_lost_chunk_answer_and_f22_a_forgotten_session() -> None:
    data = record("a")
    async with client() as api:
        upload_id = await api.open(data)
        api.sandbox.faults.add("lost_answer", on="chunks", times=1)
        assert (await api.chunk(upload_id, 0, data[:60])).raw == b""
        assert (await api.chunk(upload_id, 0, data[:60])).status == 200
        api.sandbox.faults.add("forget_upload", on="chunks", times=1)
        assert (await api.chunk(upload_id, 60, data[60:])).status == 400
        assert (await api.chunk(upload_id, 60, data[60:])).status == 400
        again = await api.upload(data)
        api.sandbox.faults.add("forget_upload", on="tasks", times=1)
        assert (await api.post(TASKS, {"upload_id": again})).status == 400
        assert not api.sandbox.tasks


async def test_latency_applies_what_was_asked_for_after_the_client_left() -> None:
    async with client() as api:
        tasks = api.sandbox.tasks = Noticed()
        api.sandbox.faults.add("latency", on="tasks", times=1, seconds=0.3)
        got = await api.post(TASKS, {}, patience=0.1)
        assert (got.end, len(tasks)) == ("silent", 0)
        await asyncio.wait_for(tasks.there.wait(), 5)
        assert (await api.journal())[0]["fault"] == "latency"


async def test_faults_are_switched_over_http() -> None:
    async with client() as api:
        wanted = [{"kind": "429", "on": "tasks", "times": 1, "retry_after": "2"}, {"kind": "latency", "seconds": 0.01}]
        put = await api.call("PUT", "/_sandbox/faults", json.dumps(wanted).encode(), token=None)
        assert [f["kind"] for f in put.json] == ["429", "latency"]
        assert (await api.post(TASKS, {})).status == 429
        assert (await api.post(TASKS, {})).status == 201
        left = (await api.get("/_sandbox/faults", token=None)).json
        assert left == [{"kind": "latency", "on": "*", "seconds": 0.01, "played": 2}]
        for wrong in (b"{", b"{}", b'[{"kind": "teapot"}]'):
            assert (await api.call("PUT", "/_sandbox/faults", wrong)).status == 400
        assert (await api.call("DELETE", "/_sandbox/faults")).json == []


def test_bridge_sandbox_says_its_address_serves_and_stops(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "sandbox", "--listen", "127.0.0.1:0"]
    journal = tmp_path / "tasks.jsonl"
    process = subprocess.Popen(
        [*command, "--token", "test-token", "--organization", "test-hospital", "--journal", str(journal)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("sandbox "):
            break
    address = lines[-1].split()[1]
    assert f"BRIDGE_CARDIO__BASE_URL={address}" in "".join(lines)
    assert all(kind in lines[0] for kind in KINDS)
    host = address.removeprefix("http://")
    there = Client(None, host)  # type: ignore[arg-type]
    assert asyncio.run(there.post(TASKS, {"patient_id": "4711"})).json == {"created_task_ids": [4711]}

    async def faults() -> list[tuple[bytes, str]]:
        """On uvloop, which the command runs on, connections end as on asyncio."""
        ends = []
        for fault in ({"kind": "lost_answer"}, {"kind": "drop_before", "reset": True}, {"kind": "silent"}):
            wanted = json.dumps([{**fault, "on": "tasks", "times": 1}]).encode()
            await there.call("PUT", "/_sandbox/faults", wanted)
            if fault["kind"] == "silent":
                call = asyncio.create_task(there.post(TASKS, {}, patience=15))
                while len(journal.read_text().splitlines()) < 3:  # noqa: ASYNC110  another process writes it
                    await asyncio.sleep(0.01)
                os.kill(process.pid, signal.SIGTERM)
                got = await call
            else:
                got = await there.post(TASKS, {})
            ends.append((got.raw, got.end))
        return ends

    assert asyncio.run(faults()) == [(b"", "fin"), (b"", "reset"), (b"", "fin")]
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert [json.loads(line)["id"] for line in journal.read_text().splitlines()] == [4711, 4712, 4713]


def test_bridge_sandbox_names_a_journal_that_it_cannot_write(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "sandbox", "--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--journal", str(tmp_path / "missing" / "x.jsonl")], capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("bridge: --journal")
