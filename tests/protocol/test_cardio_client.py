"""The client against scripted peers: what leaves us, what an outcome is called, and that a task is POSTed once."""

import asyncio
import base64
import json
import socket

import pytest

from bridge.dispatch.cardio.exchange import Exchange
from bridge.dispatch.cardio.response import TaskStatus
from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Refused, Unknown
from bridge.errors import SettingsError
from tests.ports import free_port
from tests.protocol.scripted_api import (
    BODY,
    CREATED,
    answer,
    client,
    create,
    cuts,
    endless,
    every_call,
    peer,
    request_of,
    reset_at_once,
    resets,
    says,
    silent,
)

# --- the task POST --------------------------------------------------------------------------------------------------


async def test_3_the_task_post_says_what_is_documented_and_nothing_more():
    outcome, seen = await create(says(answer()), organization_path="clinic a/b")
    assert outcome == Answered2xx(task_ids=(4711,))
    [(line, headers, body)] = seen
    assert line == "POST /v3/orgs/clinic%20a%2Fb/tasks HTTP/1.1"
    assert body == BODY
    assert headers.pop("host").startswith("127.0.0.1:")
    assert headers == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "x-api-token": "secret",
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "connection": "close",
    }


async def test_3_2_every_task_post_has_a_connection_of_its_own():
    async with peer(says(answer(), answer())) as (port, seen, connections), client(port) as api:
        await asyncio.gather(*[api.create_tasks(BODY) for _ in range(5)])
    assert len(connections) == len(seen) == 5


async def test_a_base_address_may_have_a_path():
    async with peer(says(answer())) as (port, seen, _), client(port, base_url=f"http://127.0.0.1:{port}/gate/") as api:
        await api.create_tasks(BODY)
    assert seen[0][0] == "POST /gate/v3/orgs/clinic/tasks HTTP/1.1"


async def test_an_answer_in_pieces_after_an_interim_one_is_read():
    chunked = (
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n{"create\r\n13\r\nd_task_ids":[4711]}\r\n0\r\n\r\n'
    )
    outcome, _ = await create(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked))
    assert outcome == Answered2xx(task_ids=(4711,))


LOST = {
    "closes": cuts(),
    "resets": resets,
    "cut in the status line": cuts(b"HTTP/1.1 20"),
    "cut in the headers": cuts(b"HTTP/1.1 201 Created\r\ncontent-le"),
    "no HTTP": cuts(b"220 mail.example ESMTP\r\n\r\n"),
    "headers without end": cuts(b"HTTP/1.1 201 X\r\n" + b"x-y: z\r\n" * 40_000),
}


@pytest.mark.parametrize("script", LOST.values(), ids=LOST.keys())
async def test_f12_a_lost_answer_is_unknown_and_nothing_is_sent_again(script):
    outcome, seen = await create(script)
    assert isinstance(outcome, Unknown)
    assert len(seen) == 1


async def test_f12_a_time_out_is_unknown():
    outcome, seen = await create(silent, timeout=0.2)
    assert outcome == Unknown("TimeoutError")
    assert len(seen) == 1


async def test_f12_the_deadline_holds_over_everything_and_not_per_read():
    async def interim(reader, writer, seen):
        seen.append(await request_of(reader))
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()

    async with asyncio.timeout(60):  # reads that are each in time go on for ever
        outcome, _ = await create(interim, timeout=0.2)
    assert outcome == Unknown("TimeoutError")


async def test_3_3_a_reset_on_accept_is_called_not_sent_only_where_nothing_was():
    outcome, seen = await create(reset_at_once)
    assert isinstance(outcome, Unknown) or outcome == NotSent("closed before the request")
    assert not seen


@pytest.mark.parametrize(
    "reply",
    [
        answer()[:-5],
        answer(body=b"<html>"),
        answer(body=b'{"created_task_ids":["4711"]}'),
        answer(body=b'{"created_task_ids":[18446744073709551616]}'),
        answer(status=204, body=b""),
    ],
)
async def test_f12_f23_a_success_that_cannot_be_read_is_broken(reply):
    outcome, seen = await create(cuts(reply))
    assert isinstance(outcome, BrokenAnswer)
    assert len(seen) == 1


@pytest.mark.parametrize("ids", [[], [1, 2], [2**63 + 1]])
async def test_f23_any_number_of_ids_is_handed_on(ids):
    outcome, _ = await create(says(answer(body=json.dumps({"created_task_ids": ids}).encode())))
    assert outcome == Answered2xx(task_ids=tuple(ids))


async def test_an_answer_is_read_up_to_a_mebibyte():
    outcome, _ = await create(endless(201))
    assert outcome == BrokenAnswer(201, "over 1048576 bytes")
    outcome, _ = await create(endless(400))
    assert outcome == Refused(400, "x" * 500)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_3_2_a_redirect_is_not_followed(status):
    async with peer(says(answer())) as (elsewhere, followed, _):
        away = b"location: http://127.0.0.1:%d/v3/orgs/clinic/tasks" % elsewhere
        outcome, seen = await create(says(answer(status, b"", away)))
    assert outcome == Refused(status, "")
    assert len(seen) == 1
    assert not followed


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 415, 500, 502, 503, 504])
async def test_3_3_an_error_is_a_refusal_with_its_words(status):
    outcome, seen = await create(says(answer(status, b'"patient_age: too large"')))
    assert outcome == Refused(status, "patient_age: too large")
    assert len(seen) == 1


async def test_3_3_a_refusal_counts_by_its_status_where_its_words_are_lost():
    outcome, _ = await create(cuts(answer(400, b'"patient_age: too large"')[:-3]))
    assert outcome == Refused(400, '"patient_age: too lar')


async def test_f14_a_rate_limit_brings_its_retry_after():
    dated = [b"date: Mon, 14 Sep 2026 10:00:00 GMT", b"retry-after: Mon, 14 Sep 2026 10:02:00 GMT"]
    for headers, seconds in [([b"Retry-After: 7"], 7.0), (dated, 120.0), ([b"retry-after: soon"], None), ([], None)]:
        outcome, _ = await create(says(answer(429, b'"slow down"', *headers)))
        assert outcome == Refused(429, "slow down", seconds)


# --- not sent -------------------------------------------------------------------------------------------------------


async def test_f13_a_refused_connection_is_provably_not_sent():
    async with client(free_port()) as api:
        assert all(isinstance(outcome, NotSent) for outcome in await every_call(api))


async def test_f13_a_name_that_does_not_resolve_is_provably_not_sent():
    async with client(0, base_url="http://no-such-host.invalid:8080") as api:
        assert all(isinstance(outcome, NotSent) for outcome in await every_call(api))


async def test_f13_a_connection_that_never_comes_up_is_provably_not_sent():
    with socket.socket() as full:  # a listener whose queue is full lets nobody in
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with client(port, timeout=0.3) as api:
            assert isinstance(await api.create_tasks(BODY), NotSent)
            assert isinstance(await api.probe(), NotSent)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("token", ["", "two words", "line\r\nx-evil: 1", "schl\u00fcssel", "tab\t"])
async def test_f15_a_token_that_no_header_may_hold_is_found_before_anything_is_sent(token):
    async with peer(says(answer())) as (port, seen, _), client(port, token=lambda: token) as api:
        for outcome in await every_call(api):
            assert isinstance(outcome, NotSent)
            assert not token or token not in outcome.detail
    assert not seen


async def test_3_3_a_request_that_is_no_http_is_not_sent():
    async with peer(says(answer())) as (port, seen, _):
        exchange = Exchange("127.0.0.1", port, timeout=5.0)
        assert isinstance(await exchange.post(b"/two words", [(b"host", b"h")], BODY), NotSent)
        assert isinstance(await exchange.post(b"/", [(b"host", b"h"), (b"x", b"a\r\nb: c")], BODY), NotSent)
    assert not seen


async def test_f15_a_token_file_that_is_missing_is_no_reason_to_fail():
    def token():
        raise SettingsError("cardio.token_file: /etc/token cannot be read")

    async with client(free_port(), token=token) as api:
        assert await api.create_tasks(BODY) == NotSent("cardio.token_file: /etc/token cannot be read")


async def test_f15_a_new_token_counts_from_the_next_call_on():
    tokens = iter(["old", "new"])
    async with (
        peer(says(answer(401)), says(answer())) as (port, seen, _),
        client(port, token=lambda: next(tokens)) as api,
    ):
        assert await api.create_tasks(BODY) == Refused(401, CREATED.decode())
        assert await api.create_tasks(BODY) == Answered2xx(task_ids=(4711,))
    assert [headers["x-api-token"] for _, headers, _ in seen] == ["old", "new"]


async def test_f43_a_cancelled_call_leaves_no_connection_open():
    arrived = asyncio.Event()

    async def script(reader, writer, seen):
        seen.append(await request_of(reader))
        arrived.set()
        await reader.read()

    async with peer(script) as (port, _, _), client(port) as api:
        call = asyncio.create_task(api.create_tasks(BODY))
        await asyncio.wait_for(arrived.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# --- uploads, status, probe -----------------------------------------------------------------------------------------


async def test_1_2_an_upload_is_opened_and_sent_over_one_connection():
    replies = [answer(200, b'{"upload_id":"u/1 a"}'), answer(200, b""), answer(204, b"")]
    digest = bytes(range(32))
    async with peer(says(*replies)) as (port, seen, connections), client(port) as api:
        assert await api.open_upload(5, digest) == Answered2xx(upload_id="u/1 a")
        assert await api.send_chunk("u/1 a", 0, b"abc") == Answered2xx()
        assert await api.send_chunk("u/1 a", 3, b"de") == Answered2xx()
    assert len(connections) == 1
    assert [line.split()[1] for line, _, _ in seen] == [
        "/v3/uploads",
        "/v3/uploads/u%2F1%20a/chunks?offset=0",
        "/v3/uploads/u%2F1%20a/chunks?offset=3",
    ]
    assert json.loads(seen[0][2]) == {"total_size": 5, "hash_sum": base64.b64encode(digest).decode()}
    assert [headers["content-type"] for _, headers, _ in seen] == [
        "application/json",
        *["application/octet-stream"] * 2,
    ]
    assert [body for _, _, body in seen[1:]] == [b"abc", b"de"]
    assert {headers["x-api-token"] for _, headers, _ in seen} == {"secret"}


async def test_phi_headers_are_the_same_for_every_task():
    async with peer(says(answer()), says(answer())) as (port, seen, _), client(port) as api:
        await api.create_tasks(BODY)
        await api.create_tasks(BODY.replace(b"Testfrau", b"Muster"))
    lengths = [headers.pop("content-length") for _, headers, _ in seen]
    assert seen[0][:2] == seen[1][:2]
    assert lengths[0] != lengths[1]


async def test_f21_a_chunk_whose_answer_is_lost_is_unknown():
    for script in (cuts(), resets, cuts(b"HTTP/1.1 20")):
        async with peer(script) as (port, _, _), client(port) as api:
            assert isinstance(await api.send_chunk("u", 0, bytes(1 << 20)), Unknown)
    async with peer(silent) as (port, _, _), client(port, timeout=0.2) as api:
        assert isinstance(await api.send_chunk("u", 0, b"abc"), Unknown)


async def test_f18_errors_on_an_upload_are_refusals():
    async with (
        peer(says(answer(500, b"oops"), answer(429, b"", b"retry-after: 3"))) as (port, _, _),
        client(port) as api,
    ):
        assert await api.open_upload(1, bytes(32)) == Refused(500, "oops")
        assert await api.send_chunk("u", 0, b"a") == Refused(429, "", 3.0)


async def test_an_upload_answer_is_read_up_to_a_mebibyte():
    async with peer(endless(200)) as (port, _, _), client(port) as api:
        assert await api.open_upload(1, bytes(32)) == BrokenAnswer(200, "over 1048576 bytes")


async def test_a_kept_connection_that_the_peer_closed_is_not_used_again():
    once = answer(200, b'{"upload_id":"u"}', b"connection: close")
    async with peer(says(once)) as (port, _, connections), client(port) as api:
        assert [await api.open_upload(1, bytes(32)) for _ in range(2)] == [Answered2xx(upload_id="u")] * 2
    assert len(connections) == 2


async def test_4_the_status_of_a_task():
    body = b'{"creation_time":"2026-09-14T10:00:00Z","processed":true,"report_available":true,"severity":"LOW"}'
    async with (
        peer(says(answer(200, body), answer(404, b'"no task"'), answer(200, b"{}"))) as (port, seen, _),
        client(port) as api,
    ):
        status = await api.task_status(2**64 - 1)
        assert isinstance(status, TaskStatus)
        assert (status.processed, status.report_available, status.severity) == (True, True, "LOW")
        assert status.creation_time.isoformat() == "2026-09-14T10:00:00+00:00"
        assert await api.task_status(1) == Refused(404, "no task")
        assert await api.task_status(1) == BrokenAnswer(200, "no task status")
    assert seen[0][0] == "GET /v3/orgs/clinic/tasks/18446744073709551615/status HTTP/1.1"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_4_the_probe_asks_for_task_0(status):
    async with peer(says(answer(status, b'"no"'))) as (port, seen, _), client(port) as api:
        assert await api.probe() == Refused(status, "no")
    assert seen[0][0] == "GET /v3/orgs/clinic/tasks/0/status HTTP/1.1"
