"""The client against scripted peers: what leaves us, what an outcome is called, and that a task is POSTed once."""

import asyncio
import base64
import contextlib
import gc
import json
import socket
import ssl
import struct
import subprocess

import pytest

from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.cardio.exchange import Exchange
from bridge.dispatch.cardio.response import TaskStatus
from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Refused, Unknown
from bridge.errors import SettingsError

BODY = b'{"patient_id":"T1","patient_last_name":"Testfrau"}'
CREATED = b'{"created_task_ids":[4711]}'


def answer(status=201, body=CREATED, *headers):
    lines = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def request_of(reader):
    """One request: request line, headers, body."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def says(*replies):
    """Answers the requests of a connection, one reply each; then waits for the other side to close."""

    async def script(reader, writer, seen):
        for reply in replies:
            seen.append(await request_of(reader))
            writer.write(reply)
        await reader.read()

    return script


def cuts(reply=b""):
    """Reads a request, says so much, and closes."""

    async def script(reader, writer, seen):
        seen.append(await request_of(reader))
        writer.write(reply)

    return script


async def silent(reader, writer, seen):
    seen.append(await request_of(reader))
    await reader.read()


async def resets(reader, writer, seen):
    seen.append(await request_of(reader))
    await reset_at_once(reader, writer, seen)


async def reset_at_once(reader, writer, seen):
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def endless(status):
    async def script(reader, writer, seen):
        seen.append(await request_of(reader))
        writer.write(b"HTTP/1.1 %d X\r\n\r\n" % status)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    return script


@contextlib.asynccontextmanager
async def peer(*scripts, tls=None):
    """A listener whose n-th connection follows the n-th script (the last one repeats).

    Yields its port, the requests seen and the connections taken.
    """
    seen, connections, talking = [], [], set()

    async def talk(reader, writer):
        talking.add(asyncio.current_task())
        connections.append(writer)
        script = scripts[min(len(connections), len(scripts)) - 1]
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await script(reader, writer, seen)
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], seen, connections
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        await server.wait_closed()
        gc.collect()  # a connection left open would warn here, and a warning is an error


@contextlib.asynccontextmanager
async def client(port, **more):
    given = {"base_url": f"http://127.0.0.1:{port}", "organization_path": "clinic", "token": lambda: "secret"}
    made = CardioClient(**{"timeout": 5.0, **given, **more})
    try:
        yield made
    finally:
        await made.aclose()


async def create(*scripts, tls=None, **more):
    """One task POST to a scripted peer: its outcome, and the requests that arrived."""
    async with peer(*scripts, tls=tls) as (port, seen, _), client(port, **more) as api:
        return await api.create_tasks(BODY), seen


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


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

    loop = asyncio.get_running_loop()
    began = loop.time()
    outcome, _ = await create(interim, timeout=0.2)
    assert outcome == Unknown("TimeoutError")
    assert loop.time() - began < 2


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


async def every_call(api):
    return [
        await api.create_tasks(BODY),
        await api.open_upload(3, bytes(32)),
        await api.send_chunk("u", 0, b"abc"),
        await api.task_status(1),
        await api.probe(),
    ]


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


# --- TLS, proxies, addresses ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("api_tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-subj", "/CN=bridge-test", "-out", str(paths[0]), "-keyout", str(paths[1])]
    command = ["openssl", *arguments, *files, "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed here")
    return paths


def server_tls(certificate, *, most=None):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    if most is not None:
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = most
    return tls


async def test_5_tls_with_the_authority_of_the_site(certificate):
    upload = answer(200, b'{"upload_id":"u"}')
    async with (
        peer(says(answer()), says(upload), tls=server_tls(certificate)) as (port, seen, _),
        client(port, base_url=f"https://127.0.0.1:{port}", ca_file=str(certificate[0])) as api,
    ):
        assert await api.create_tasks(BODY) == Answered2xx(task_ids=(4711,))
        assert await api.open_upload(1, bytes(32)) == Answered2xx(upload_id="u")
    assert seen[0][2] == BODY


async def test_f13_a_certificate_that_nobody_vouches_for_is_provably_not_sent(certificate):
    async with (
        peer(says(answer()), tls=server_tls(certificate)) as (port, seen, _),
        client(port, base_url=f"https://127.0.0.1:{port}") as api,
    ):
        for outcome in await every_call(api):
            assert isinstance(outcome, NotSent)
            assert "certificate verify failed" in outcome.detail
    assert not seen


async def test_f13_a_certificate_for_another_name_is_provably_not_sent(certificate):
    async with (
        peer(says(answer()), tls=server_tls(certificate)) as (port, seen, _),
        client(port, base_url=f"https://localhost:{port}", ca_file=str(certificate[0])) as api,
    ):
        assert isinstance(await api.create_tasks(BODY), NotSent)
    assert not seen


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
async def test_5_tls_before_1_2_is_refused(certificate):
    old = server_tls(certificate, most=ssl.TLSVersion.TLSv1_1)
    async with (
        peer(says(answer()), tls=old) as (port, seen, _),
        client(port, base_url=f"https://127.0.0.1:{port}", ca_file=str(certificate[0])) as api,
    ):
        assert isinstance(await api.create_tasks(BODY), NotSent)
        assert isinstance(await api.probe(), NotSent)
    assert not seen


def proxying(status=200, *, then=None):
    """A forward proxy: answers CONNECT, and carries bytes both ways when it said yes, or does `then`."""

    async def script(reader, writer, seen):
        seen.append(await request_of(reader))
        writer.write(b"HTTP/1.1 %d X\r\n\r\n" % status)
        if status != 200:
            return
        if then is not None:
            await then(reader, writer, seen)
            return
        host, port = seen[-1][0].split()[1].rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))

        async def carry(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    return script


async def test_5_a_proxy_of_the_settings_carries_ciphertext(certificate):
    upload = answer(200, b'{"upload_id":"u"}')
    async with (
        peer(says(answer()), says(upload), tls=server_tls(certificate)) as (port, seen, _),
        peer(proxying()) as (way, asked, _),
        client(
            port,
            base_url=f"https://127.0.0.1:{port}",
            ca_file=str(certificate[0]),
            proxy=f"http://bridge:p%40ss@127.0.0.1:{way}",
        ) as api,
    ):
        assert await api.create_tasks(BODY) == Answered2xx(task_ids=(4711,))
        assert await api.open_upload(1, bytes(32)) == Answered2xx(upload_id="u")
    assert len(seen) == 2
    assert [line for line, _, _ in asked] == [f"CONNECT 127.0.0.1:{port} HTTP/1.1"] * 2
    for _, headers, _ in asked:
        assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"bridge:p@ss").decode()
        assert "x-api-token" not in headers


async def hang_up(reader, writer, seen):
    """The end of a script: the peer closes."""


@pytest.mark.parametrize("script", [proxying(407), proxying(502), cuts(), resets, proxying(then=hang_up)])
async def test_f13_a_proxy_that_opens_no_tunnel_is_provably_not_sent(script, certificate):
    async with peer(script) as (way, _, _):
        base_url, proxy = "https://127.0.0.1:9", f"http://127.0.0.1:{way}"
        async with client(0, base_url=base_url, proxy=proxy, ca_file=str(certificate[0])) as api:
            for outcome in await every_call(api):
                assert isinstance(outcome, NotSent)


async def test_5_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with peer(says(answer()), says(answer(404))) as (port, _, _), client(port) as api:
        assert isinstance(await api.create_tasks(BODY), Answered2xx)
        assert isinstance(await api.probe(), Refused)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"base_url": "ftp://api.example"}, "cardio.base_url"),
        ({"base_url": "https://"}, "cardio.base_url"),
        ({"base_url": "https://api.example:port"}, "cardio.base_url"),
        ({"ca_file": "/nowhere/ca.pem"}, "cardio.ca_file"),
        ({"ca_file": __file__}, "cardio.ca_file"),
        ({"proxy": "socks5://proxy.example"}, "cardio.proxy"),
        ({"proxy": "proxy.example:3128"}, "cardio.proxy"),
        ({"proxy": "http://proxy.example:port"}, "cardio.proxy"),
    ],
)
def test_settings_that_cannot_be_used_are_named(given, named):
    with pytest.raises(SettingsError, match=named):
        CardioClient(**{"base_url": "https://api.example", "organization_path": "c", "token": lambda: "t"} | given)
