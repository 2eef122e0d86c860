"""The ways to the API: TLS, proxies, and addresses that cannot be used."""

import asyncio
import base64
import ssl
import subprocess

import pytest

from bridge.dispatch.cardio.client import CardioClient
from bridge.domain.outcome import Answered2xx, NotSent, Refused
from bridge.errors import SettingsError
from tests.ports import free_port
from tests.protocol.scripted_api import (
    BODY,
    answer,
    client,
    cuts,
    every_call,
    peer,
    request_of,
    resets,
    says,
)


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
