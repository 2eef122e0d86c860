"""The sandbox API over real HTTP: every rule of the API's documentation, and the journal."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest

from bridge.sandbox.cardio_uploads import Unknowns
from tests.protocol.sandbox_client import OCTETS, TASKS, TOKEN, client, record


async def test_a_post_without_upload_creates_a_draft() -> None:
    async with client() as api:
        got = await api.post(TASKS, {"patient_id": "4711", "patient_last_name": "Muster"})
        assert (got.status, got.json) == (201, {"created_task_ids": [4711]})
        task = api.sandbox.tasks[4711]
        assert task.record is None
        assert task.request == {"patient_id": "4711", "patient_last_name": "Muster"}


async def test_an_archive_with_one_record_is_one_task_with_several_a_task_each() -> None:
    async with client() as api:
        one = await api.post(TASKS, {"upload_id": await api.upload(record("a"), step=50)})
        assert one.json == {"created_task_ids": [4711]}
        several = await api.post(TASKS, {"upload_id": await api.upload(record("a", "b")), "patient_id": "1"})
        assert several.json == {"created_task_ids": [4712, 4713]}
        assert [api.sandbox.tasks[n].request["patient_id"] for n in (4712, 4713)] == ["1", "1"]
        decoded = api.sandbox.tasks[4711].record
        assert decoded is not None
        assert (decoded.leads, decoded.rate, decoded.samples, decoded.first_mv) == (("II",), 500, 4, (0.001,))
        back = await api.get("/_sandbox/tasks/4711/record.zip")
        assert back.body == record("a")
        assert (await api.get("/_sandbox/tasks/4714/record.zip")).status == 404
        shown = (await api.get("/_sandbox/tasks")).json
        assert [t["id"] for t in shown] == ["4711", "4712", "4713"]


async def test_an_upload_that_holds_no_record_is_refused_at_the_task() -> None:
    async with client() as api:
        upload_id = await api.upload(bytes(128) + b"DICM" + bytes(100))
        got = await api.post(TASKS, {"upload_id": upload_id})
        assert got.status == 400
        assert isinstance(got.json, str)
        assert not api.sandbox.tasks


@pytest.mark.parametrize(
    "path", ["/v3/uploads", "/v3/uploads/up-1/chunks?offset=0", TASKS, f"{TASKS}/1/status", "/v3/no"]
)
async def test_every_call_asks_for_the_token(path: str) -> None:
    async with client() as api:
        for token in (None, "", "other", TOKEN + "x"):
            method = "GET" if path.endswith("status") else "POST"
            got = await api.call(method, path, b"{}", token=token)
            assert (got.status, got.json) == (401, "token missing, expired or invalid")


async def test_what_is_not_json_is_415_and_another_organization_403() -> None:
    async with client() as api:
        for path in ("/v3/uploads", TASKS):
            assert (await api.post(path, {}, kind="text/plain")).status == 415
            assert (await api.post(path, {}, kind="")).status == 415
            assert (await api.post(path, [])).status == 400
        assert (await api.post("/v3/orgs/another/tasks", {})).status == 403
        assert (await api.get("/v3/orgs/another/tasks/1/status")).status == 403
        assert not api.sandbox.tasks


async def test_an_unknown_field_is_refused_by_name_and_not_by_value() -> None:
    async with client() as api:
        got = await api.post(TASKS, {"patient_name": "Muster"})
        assert got.status == 400
        assert "patient_name" in got.json
        assert "Muster" not in got.json


async def test_paths_and_methods_that_are_not_documented_are_json_errors_too() -> None:
    async with client() as api:
        for path in ("/v3/tasks", "/v3/uploads/", TASKS + "/1"):
            got = await api.get(path)
            assert (got.status, type(got.json)) == (404, str)
        got = await api.get(TASKS)
        assert (got.status, got.headers["allow"]) == (405, "POST")
        assert (await api.get("/v3/downloads/d/chunks/0")).status == 400
        assert (await api.get("/v3/downloads/d/chunks/x")).status == 400


async def test_f21_offsets_are_contiguous_and_the_newest_chunk_may_come_again() -> None:
    data = record("a")
    async with client() as api:
        upload_id = await api.open(data)
        assert (await api.chunk(upload_id, 0, data[:50])).status == 200
        assert (await api.chunk(upload_id, 0, data[:50])).status == 200
        for offset, part in (
            (0, data[:40]),
            (0, b"x" + data[1:50]),
            (49, data[49:]),
            (51, data[51:]),
            (50, data[50:] + b"+"),
        ):
            assert (await api.chunk(upload_id, offset, part)).status == 400
        for offset in ("", "-1", "5e1", "4294967296", "50&offset=50", "50&x=1"):
            assert (await api.chunk(upload_id, offset, data[50:])).status == 400
        assert (await api.chunk(upload_id, 50, b"")).status == 400
        assert (await api.chunk(upload_id, 50, data[50:], kind="application/json")).status == 400
        assert (await api.chunk("up-99", 0, data)).status == 400
        assert (await api.post(TASKS, {"upload_id": upload_id})).status == 400
        assert (await api.chunk(upload_id, 50, data[50:])).status == 200
        assert (await api.chunk(upload_id, 50, data[50:])).status == 200
        assert (await api.post(TASKS, {"upload_id": upload_id})).status == 201


@pytest.mark.parametrize("when", ["chunk", "task"])
async def test_a_file_with_another_hash_is_refused(when: str) -> None:
    data = record("a")
    async with client(unknowns=Unknowns(hash_checked=when)) as api:  # type: ignore[arg-type]
        upload_id = await api.open(data, digest=bytes(32))
        assert (await api.chunk(upload_id, 0, data)).status == (400 if when == "chunk" else 200)
        assert (await api.post(TASKS, {"upload_id": upload_id})).status == 400
        assert not api.sandbox.tasks


async def test_what_is_not_documented_can_be_switched() -> None:
    data = record("a")
    async with client() as api:
        wanted = {"resent_chunk": "refuse", "used_upload": "refuse", "max_chunk": len(data), "token": "renewed"}
        assert (await api.call("PATCH", "/_sandbox/settings", json.dumps(wanted).encode())).json["token"] == "renewed"
        assert (await api.post("/v3/uploads", {})).status == 401
        api.sandbox.token = TOKEN
        upload_id = await api.upload(data)
        assert (await api.chunk(upload_id, 0, data)).status == 400
        assert (await api.post(TASKS, {"upload_id": upload_id})).status == 201
        assert (await api.post(TASKS, {"upload_id": upload_id})).status == 400
        longer = data + b"\0"
        assert (await api.chunk(await api.open(longer), 0, longer)).status == 400
        for wrong in (b'{"colour": 1}', b'{"token": ""}', b'{"max_chunk": 0}', b"[]", b"{"):
            assert (await api.call("PATCH", "/_sandbox/settings", wrong)).status == 400
        assert (await api.get("/_sandbox/settings")).json["used_upload"] == "refuse"


async def test_a_used_upload_that_is_refused_makes_one_task_of_many_posts_at_once() -> None:
    async with client(unknowns=Unknowns(used_upload="refuse")) as api:
        upload_id = await api.upload(record("a"))
        got = await asyncio.gather(*(api.post(TASKS, {"upload_id": upload_id}) for _ in range(8)))
        assert sorted(g.status for g in got) == [201] + [400] * 7


async def test_f22_an_upload_session_expires() -> None:
    data = record("a")
    async with client() as api:
        upload_id = await api.upload(data)
        api.sandbox.unknowns = Unknowns(upload_ttl=0)
        assert (await api.post(TASKS, {"upload_id": upload_id})).status == 400
        assert (await api.chunk(upload_id, 0, data)).status == 400


async def test_a_task_has_a_status_and_a_draft_is_never_processed() -> None:
    async with client(unknowns=Unknowns(processed_after=0, severity="LOW")) as api:
        await api.post(TASKS, {"upload_id": await api.upload(record("a"))})
        await api.post(TASKS, {})
        done = (await api.get(f"{TASKS}/4711/status")).json
        assert datetime.fromisoformat(done.pop("creation_time")) == api.sandbox.tasks[4711].created
        assert done == {"processed": True, "report_available": True, "severity": "LOW"}
        draft = (await api.get(f"{TASKS}/4712/status")).json
        assert (draft["processed"], draft["report_available"], "severity" in draft) == (False, False, False)
        api.sandbox.unknowns = Unknowns(processed_after=None)
        assert (await api.get(f"{TASKS}/4711/status")).json["processed"] is False
        assert (await api.get(f"{TASKS}/9/status")).status == 404
        assert (await api.get(f"{TASKS}/{2**64 - 1}/status")).status == 404
        for wrong in (2**64, "x", "-1", "%C2%B2"):
            assert (await api.get(f"{TASKS}/{wrong}/status")).status == 400


async def test_f23_ids_beyond_2_to_the_63_are_given_exactly() -> None:
    async with client(first_task_id=2**63 + 1) as api:
        got = await api.post(TASKS, {})
        assert b"9223372036854775809" in got.body
        assert (await api.journal())[0]["applied"] == {"created_task_ids": ["9223372036854775809"]}
        assert (await api.get(f"{TASKS}/9223372036854775809/status")).status == 200


async def test_the_journal_says_what_was_asked_answered_and_applied() -> None:
    data = record("a")
    async with client() as api:
        await api.post(TASKS, {"upload_id": await api.upload(data)})
        await api.post(TASKS, {"patient_id": 1})
        opened, sent, made, refused = await api.journal()
        assert [e["number"] for e in (opened, sent, made, refused)] == [1, 2, 3, 4]
        assert opened["applied"] == {"upload_id": "up-1"}
        assert (sent["template"], sent["path"], sent["query"]) == (
            "/v3/uploads/{upload_id}/chunks",
            "/v3/uploads/up-1/chunks",
            "offset=0",
        )
        assert (sent["size"], len(sent["sha256"]), "body" in sent) == (len(data), 64, False)
        assert (made["status"], made["body"], made["fault"]) == (201, {"upload_id": "up-1"}, None)
        assert (refused["status"], refused["applied"], refused["text"][:10]) == (400, None, "patient_id")
        assert [e["number"] for e in await api.journal("?path=tasks&since=3")] == [4]
        assert [e["number"] for e in await api.journal("?path=/v3/uploads")] == [1, 2]
        assert (await api.get("/_sandbox/requests?since=x")).status == 400
        assert (await api.call("DELETE", "/_sandbox/requests")).status == 204
        assert await api.journal() == []


async def test_a_strange_body_is_refused_and_does_not_spoil_the_journal() -> None:
    async with client() as api:
        for body in (b'{"patient_id": "\\ud800"}', b'{"\\udfff": 1}', b'{"patient_age": NaN}', b"\xff", b"[" * 50_000):
            assert (await api.call("POST", TASKS, body)).status == 400
        assert [e["status"] for e in await api.journal()] == [400] * 5


async def test_the_file_of_tasks_has_a_line_for_each_before_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    async with client(journal_file=path) as api:
        for name in ("Grün", "山田"):
            await api.post(TASKS, {"patient_last_name": name})
            written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            assert written[-1]["request"] == {"patient_last_name": name}
        await api.post(TASKS, {"patient_age": -1})
        assert [w["id"] for w in written] == [4711, 4712]
        assert len(path.read_text(encoding="utf-8").splitlines()) == 2


async def test_a_chunk_as_octets_with_parameters_is_taken() -> None:
    async with client() as api:
        data = record("a")
        got = await api.chunk(await api.open(data), 0, data, kind=f"{OCTETS}; x=1")
        assert got.status == 200
