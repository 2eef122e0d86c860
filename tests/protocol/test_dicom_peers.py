"""Peers that are not ours: DCMTK's programs with and without TLS, Orthanc as the PACS that sends, pynetdicom's SCU."""

import json
import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRBigEndian

from bridge.sandbox import dicom_sender
from bridge.sandbox.ecg_object import write
from bridge.sandbox.peer import PeerError
from tests.acceptance.test_ecg_to_task import recording
from tests.authority import Authority
from tests.ports import free_port
from tests.protocol.dicom_door import Door, door
from tests.protocol.dicom_peer import until

pytestmark = pytest.mark.peer
Find = Callable[[str], str]


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """One run of a peer's program."""
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def secured(authority: Authority, *, mutual: bool) -> dict[str, object]:
    """`[dicom] tls` with a certificate of the bridge's own."""
    certificate, key = authority.sign("bridge")
    return {
        "certificate": certificate,
        "key": key,
        **({"client_ca": authority.certificate} if mutual else {}),
    }


def test_dcmtk_echoscu(tmp_path: Path, peer: Find) -> None:
    with door(tmp_path) as up:
        assert run(peer("echoscu"), "-aec", "CARDIOBRIDGE", *up.address).returncode == 0
        assert run(peer("echoscu"), "-aec", "CARDIOBRIDGE", "--repeat", 50, *up.address).returncode == 0
        refused = run(peer("echoscu"), "-v", "-aec", "SOMEBODY", *up.address)
        assert refused.returncode != 0
        assert "Called AE Title Not Recognized" in refused.stdout + refused.stderr


def test_dcmtk_storescu_and_dcmsend(tmp_path: Path, peer: Find) -> None:
    with door(tmp_path) as up:
        for number, more in enumerate(((), ("-xi",), ("--max-send-pdu", 4096), ("-R",))):
            path = recording(tmp_path, seed=f"s{number}")
            sent = run(peer("storescu"), "-v", "-aec", "CARDIOBRIDGE", *more, *up.address, path)
            assert sent.returncode == 0, sent.stdout + sent.stderr
        paths = [recording(tmp_path, seed=f"d{n}") for n in range(20)]
        sent = run(peer("dcmsend"), "-v", "-aec", "CARDIOBRIDGE", *up.address, *paths)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        again = run(peer("dcmsend"), "-aec", "CARDIOBRIDGE", *up.address, *paths)
        assert again.returncode == 0
        assert len(up.rows()) == 24, "a resend is absorbed"
        assert len(up.kept()) == 24
        assert up.spooled() == []


def test_dcmtk_storescu_in_big_endian_where_a_site_allows_it(tmp_path: Path, peer: Find) -> None:
    allowed = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", str(ExplicitVRBigEndian))
    with door(tmp_path, transfer_syntaxes=allowed) as up:
        path = recording(tmp_path)
        sent = run(peer("storescu"), "-v", "-xb", "-aec", "CARDIOBRIDGE", *up.address, path)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert [row.state for row in up.rows()] == ["RECEIVED"]


def test_dcmtk_echoscu_and_storescu_over_tls(tmp_path: Path, peer: Find, authority: Authority) -> None:
    with door(tmp_path, tls=secured(authority, mutual=False)) as up:
        trust = ("+tla", "+cf", authority.certificate)
        assert run(peer("echoscu"), *trust, "-aec", "CARDIOBRIDGE", *up.address).returncode == 0
        path = recording(tmp_path)
        sent = run(peer("storescu"), "-v", *trust, "-aec", "CARDIOBRIDGE", *up.address, path)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert len(up.rows()) == 1
        assert run(peer("echoscu"), "-aec", "CARDIOBRIDGE", "-to", 3, "-ta", 3, *up.address).returncode != 0


def test_ps3_15_b_12_mutual_tls_and_the_certificates_ae_titles(
    tmp_path: Path, peer: Find, authority: Authority
) -> None:
    stranger = Authority.make(tmp_path, "stranger")
    certificates = {"cart1": ("CART1", "CART1B")}
    with door(tmp_path, tls=secured(authority, mutual=True), certificates=certificates) as up:

        def echo(name: str, title: str, by: Authority = authority) -> int:
            certificate, key = by.sign(name)
            own = ("+tls", key, certificate, "+cf", authority.certificate)
            return run(peer("echoscu"), *own, "-aet", title, "-aec", "CARDIOBRIDGE", *up.address).returncode

        assert echo("cart1", "CART1") == 0
        assert echo("cart1", "CART1B") == 0
        assert echo("cart1", "CART2") != 0, "the certificate is another cart's"
        assert echo("cart2", "CART1") != 0, "the title is another cart's"
        assert echo("cart1", "CART1", stranger) != 0, "nobody here signed that"


def test_a_certificate_is_renewed_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    tls = secured(authority, mutual=False)
    with door(tmp_path, tls=tls) as up:
        trust = ssl.create_default_context(cafile=authority.certificate)
        assert dicom_sender.echo(*up.address, tls=trust) == 0
        other = Authority.make(tmp_path, "other")
        renewed, key = other.sign("renewed")
        Path(str(tls["certificate"])).write_bytes(renewed.read_bytes())
        Path(str(tls["key"])).write_bytes(key.read_bytes())
        with pytest.raises(PeerError):
            dicom_sender.echo(*up.address, tls=trust)
        assert dicom_sender.echo(*up.address, tls=ssl.create_default_context(cafile=other.certificate)) == 0


def test_tls_before_1_2_is_refused(tmp_path: Path, authority: Authority) -> None:
    with door(tmp_path, tls=secured(authority, mutual=False)) as up:
        for version, taken in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
            only = ssl.create_default_context(cafile=authority.certificate)
            only.minimum_version = only.maximum_version = version
            assert (dicom_sender.echo(*up.address, tls=only) == 0) is taken
        offered = subprocess.run(
            ["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-connect", "{}:{}".format(*up.address)],
            input="",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert offered.returncode != 0


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.9.1.4"])
def test_pynetdicom_sends_a_32_bit_ecg(tmp_path: Path, sop_class: str) -> None:
    """DCMTK 3.6.7 does not know this class."""
    path = Path(__file__).parents[2] / "sample_messages" / "08_ecg_32_bit.dcm"
    with door(tmp_path) as up:
        assert dicom_sender.store(*up.address, [path]) == [0]
        assert [row.type for row in up.rows()] == ["General 32-bit ECG Waveform Storage"]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Callable[[Door], str]]:
    """A PACS that forwards to a listener; its REST address."""
    program = shutil.which("Orthanc")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Orthanc is not installed here")
        pytest.skip("Orthanc is not installed here")
    running: list[subprocess.Popen[bytes]] = []

    def start(up: Door) -> str:
        port = free_port()
        configuration = {
            "StorageDirectory": str(tmp_path / "orthanc"),
            "IndexDirectory": str(tmp_path / "orthanc"),
            "HttpPort": port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "DicomAet": "TESTPACS",
            "DicomModalities": {"bridge": ["CARDIOBRIDGE", *up.address]},
            "Plugins": [],
        }
        path = tmp_path / "orthanc.json"
        path.write_text(json.dumps(configuration))
        process = subprocess.Popen(
            [program, str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(address), 60)
        return address

    yield start
    for process in running:
        process.terminate()
        process.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/system", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def post(url: str, body: bytes) -> object:
    with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.timeout(180)
def test_orthanc_forwards_what_it_got(tmp_path: Path, orthanc: Callable[[Door], str]) -> None:
    with door(tmp_path) as up:
        address = orthanc(up)
        found = [post(f"{address}/instances", recording(tmp_path, seed=f"o{n}").read_bytes()) for n in range(10)]
        instances = [str(one["ID"]) for one in found if isinstance(one, dict)]
        post(f"{address}/modalities/bridge/store", json.dumps(instances).encode())
        rows = up.rows()
        assert len(rows) == 10
        assert {row.state for row in rows} == {"RECEIVED"}
        post(f"{address}/modalities/bridge/store", json.dumps(instances).encode())
        assert len(up.rows()) == 10


@pytest.mark.parametrize("allowed", [True, False], ids=["discarded", "not-negotiated"])
def test_a_pdf_beside_the_waveform(tmp_path: Path, allowed: bool) -> None:
    """Off by default; a site may have it taken, noted and not kept, so that the cart goes on."""
    from pydicom import dcmread  # noqa: PLC0415  the file is made here alone

    path = recording(tmp_path)
    made = dcmread(path)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    del made.WaveformSequence
    document = tmp_path / "report.dcm"
    write(document, made)
    with door(tmp_path, discard_documents=allowed) as up:
        if not allowed:
            with pytest.raises(PeerError):
                dicom_sender.store(*up.address, [document])
            return
        assert dicom_sender.store(*up.address, [document, document, path]) == [0, 0, 0]
        found = [(row.state, row.reason, row.type) for row in up.rows()]
        assert found == [
            ("FILTERED", "document_discarded", "Encapsulated PDF Storage"),
            ("RECEIVED", "", "12-lead ECG Waveform Storage"),
        ]
        assert len(up.kept()) == 1
