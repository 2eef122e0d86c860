"""The compose file: valid by its schema, closed as far as it goes, and its Orthanc passes ECGs on to the bridge."""

import asyncio
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.settings import load
from tests.acceptance.scene import OpenHouse
from tests.acceptance.test_ecg_to_task import recording
from tests.deploy.containerfile import FILE, ROOT, stages
from tests.ports import free_port
from tests.protocol.dicom_peer import until

COMPOSE = ROOT / "deploy" / "compose.yaml"
TEXT = COMPOSE.read_text(encoding="utf-8")
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
LUA = COMPOSE.parent / "container" / "forward.lua"

Find = Callable[[str], str]


@pytest.fixture
def resolved(peer: Find) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """What docker-compose makes of a text, with its schema; no engine is asked."""
    program = peer("docker-compose")

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--project-directory", str(COMPOSE.parent), "-f", "-", "config"],
            input=text, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


@pytest.mark.peer
def test_the_file_is_valid_by_its_schema(resolved: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = resolved(TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout)["services"].keys() == SERVICES.keys()
    wrong = resolved(TEXT.replace("stop_grace_period", "stop_grace_time"))
    assert wrong.returncode != 0
    assert "stop_grace_time" in wrong.stderr


def test_what_is_published_is_loopback_and_nothing_has_a_privilege() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "network_mode", "pid", "ipc", "cap_add"} & service.keys(), name
    assert not re.search(r"password\s*[:=]\s*\S", TEXT.replace("PASSWORD__FILE: /run", ""), re.IGNORECASE)


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.rpartition(":/")[0].replace("${BRIDGE_SETTINGS:-site.toml}", "bridge.toml")
            if source.startswith("./"):
                assert (COMPOSE.parent / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name}: {source}"
            else:
                assert source in DOCUMENT["volumes"], f"{name}: {source}"


def test_the_bridge_in_it_is_the_image_of_the_container_file() -> None:
    bridge, (*_, final) = SERVICES["bridge"], stages(FILE.read_text(encoding="utf-8"))
    build = bridge["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == FILE
    assert bridge["read_only"] is True
    assert bridge["tmpfs"] == ["/tmp"]
    assert int(bridge["stop_grace_period"].removesuffix("s")) >= 75
    assert {port.rpartition(":")[2] for port in bridge["ports"]} == set(final.all("EXPOSE")[0].split())
    (volume,) = final.all("VOLUME")
    assert f"bridge-store:{volume}" in bridge["volumes"]
    own = load(COMPOSE.parent / "container" / "bridge.toml", {})
    assert own.cardio.token_file.removeprefix("/run/secrets/") in bridge["secrets"]
    assert DOCUMENT["secrets"].keys() == {secret for s in SERVICES.values() for secret in s.get("secrets", [])}


def test_the_peers_know_the_bridge_by_its_name_and_port() -> None:
    own = load(COMPOSE.parent / "container" / "bridge.toml", {})
    orthanc = json.loads((COMPOSE.parent / "container" / "orthanc.json").read_text())
    title, host, port = orthanc["DicomModalities"]["bridge"]
    assert (title, host, str(port)) == (own.dicom.ae_title, "bridge", own.dicom.listen.rpartition(":")[2])
    assert orthanc["DicomAet"] in own.dicom.calling_ae_titles
    prometheus = yaml.safe_load((COMPOSE.parent / "prometheus" / "prometheus.yml").read_text())
    (target,) = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"bridge:{own.console.listen.rpartition(':')[2]}"
    assert "bridge" in own.console.hosts, "or it would be told that nobody is called so"


def test_every_ecg_class_is_passed_on() -> None:
    assert set(re.findall(r'"([\d.]+)"\] = true', LUA.read_text())) == ECG_SOP_CLASSES.keys()


@pytest.fixture
def orthanc(peer: Find, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Orthanc with the configuration of the compose file, on ports of the test's own; its REST address."""
    program = peer("Orthanc")
    running: list[subprocess.Popen[bytes]] = []

    def start(bridge: str) -> str:
        host, _, port = bridge.rpartition(":")
        port_of_rest = free_port()
        configuration = json.loads((COMPOSE.parent / "container" / "orthanc.json").read_text())
        title, *_ = configuration["DicomModalities"]["bridge"]
        configuration |= {
            "StorageDirectory": str(tmp_path / "orthanc"),
            "IndexDirectory": str(tmp_path / "orthanc"),
            "HttpPort": port_of_rest,
            "DicomPort": free_port(),
            "DicomModalities": {"bridge": [title, host, int(port)]},
            "LuaScripts": [str(LUA)],
            "Plugins": [],
        }
        path = tmp_path / "orthanc.json"
        path.write_text(json.dumps(configuration))
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen([program, str(path)], stdout=quiet, stderr=quiet))
        address = f"http://127.0.0.1:{port_of_rest}"
        until(lambda: _answers(address), 60)
        return address

    yield start
    for process in running:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/system", timeout=5):
            return True
    except OSError:
        return False


def _post(address: str, body: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(address, body, method="POST"), timeout=60):
        pass


@pytest.mark.peer
@pytest.mark.timeout(180)
async def test_what_orthanc_keeps_becomes_a_task(
    house: OpenHouse, orthanc: Callable[[str], str], tmp_path: Path
) -> None:
    async with house(BRIDGE_DICOM__CALLING_AE_TITLES='["ORTHANC"]') as it:
        address = await asyncio.to_thread(orthanc, it.up.addresses["dicom"])
        body = recording(tmp_path).read_bytes()
        await asyncio.to_thread(_post, f"{address}/instances", body)
        (row,) = await it.settled(1, seconds=60)
        assert (row.kind, row.state) == ("dicom", "CREATED")
