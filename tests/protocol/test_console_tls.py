"""The console's own listener: encryption, certificates that are renewed, streams over real sockets."""

import asyncio
import shutil
import ssl
from pathlib import Path

import httpx
import pytest

from bridge.errors import CannotListen, SettingsError
from bridge.receive.certificates import Certificates
from bridge.serving import open_socket, serving
from bridge.settings import TlsSettings, load
from tests.authority import Authority
from tests.protocol.console_front import GOOD, OpenFront

FORM = {"name": "anna", "password": GOOD}


def _trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _serial(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    serial = str((found.getpeercert() or {})["serialNumber"])
    writer.close()
    return serial


async def test_with_certificates_the_console_is_encrypted_and_takes_new_ones(front: OpenFront, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    certificate, key = authority.sign("console")
    tls = {"certificate": certificate, "key": key}
    it = await front(tls=tls, hosts=["bridge.example"], listen="0.0.0.0:0", idle_timeout=900)
    await it.person("anna", "admin")
    certificates = Certificates(TlsSettings(certificate=certificate, key=key), "console.tls")
    sock = open_socket("127.0.0.1", 0, setting="console.listen")
    port = sock.getsockname()[1]
    trust = _trusting(authority)
    async with serving(it.app, sock, tls=certificates.context) as address:
        at = f"https://{address}"
        async with httpx.AsyncClient(base_url=at, verify=trust, headers={"origin": at, "accept": "text/html"}) as kept:
            answer = await kept.post("/sign-in", data=FORM)
            assert answer.status_code == 303
            named = await kept.get("/healthz", headers={"host": "bridge.example"})
            assert named.headers["strict-transport-security"] == "max-age=31536000"
            assert answer.headers["set-cookie"].startswith("__Host-bridge-session=")
            assert answer.headers["set-cookie"].endswith("; Secure")
            assert (await kept.get("/")).status_code == 200
            forged = await kept.post("/sign-out", headers={"origin": f"http://{address}"})
            assert forged.status_code == 403, "of the same name without encryption"
            before = await _serial(port, trust)
            renewed = authority.sign("console", into=_folder(tmp_path / "new"))
            shutil.copy(renewed[1], key)
            shutil.copy(renewed[0], certificate)
            after = await _serial(port, trust)
            assert after != before
            assert (await kept.get("/")).status_code == 200, "what is open stays open"
            certificate.write_text("no certificate")
            assert await _serial(port, trust) == after
            await kept.aclose()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(authority.certificate)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")  # else it would not even try
        with pytest.raises((ssl.SSLError, OSError)):
            await _serial(port, old)
        async with httpx.AsyncClient() as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get(f"http://{address}/healthz")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


async def test_localhost_is_not_told_to_be_encrypted_for_a_year(front: OpenFront, tmp_path: Path) -> None:
    """Of localhost a browser would hold it against every other program there."""
    it = await front(tls={"certificate": tmp_path / "c", "key": tmp_path / "k"})
    answer = await it.browser("https://localhost:8080").get("/healthz")
    assert answer.status_code == 200
    assert "strict-transport-security" not in answer.headers


def test_a_certificate_that_cannot_be_used_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"console\.tls"):
        Certificates(TlsSettings(certificate=tmp_path / "none", key=tmp_path / "none"), "console.tls")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LISTEN": "0.0.0.0:8080"}, "console.*insecure_plaintext"),
        ({"LISTEN": "0.0.0.0:8080", "INSECURE_PLAINTEXT": "true", "SIGN_IN": "false"}, "sign_in"),
        ({"HOSTS": '["http://bridge.example"]'}, "hosts"),
        ({"HOSTS": '["bridge.example/console"]'}, "hosts"),
        ({"OIDC": '{ issuer = "http://idp.example", client_id = "x" }'}, r"oidc\.issuer"),
    ],
)
def test_settings_that_would_leave_it_open_are_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(None, {f"BRIDGE_CONSOLE__{key}": value for key, value in environment.items()})


async def test_a_real_stream_ends_when_its_session_does(front: OpenFront) -> None:
    it = await front()
    await it.person("anna", "admin")
    async with serving(it.app, open_socket("127.0.0.1", 0, setting="console.listen")) as address:
        at = f"http://{address}"
        async with httpx.AsyncClient(base_url=at, headers={"origin": at}) as browser:
            await browser.post("/sign-in", data=FORM)
            said = bytearray()
            async with asyncio.timeout(30), browser.stream("GET", "/events") as stream:
                assert stream.status_code == 200
                async for part in stream.aiter_bytes():
                    if not said:
                        await browser.post("/sign-out")
                    said += part
            assert said.endswith(b"event: ended\ndata: \n\n")
