"""The compose files: valid by their schema, closed as far as they go; their Orthanc passes ECGs on to the bridge."""

import asyncio
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.app import ROLES
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.settings import load
from bridge.store import postgres_engine
from tests.acceptance.scene import OpenHouse
from tests.acceptance.test_ecg_to_task import recording
from tests.deploy.containerfile import FILE, ROOT, stages
from tests.ports import free_port
from tests.protocol.dicom_peer import until

COMPOSE = ROOT / "deploy" / "compose.yaml"
SINGLE = COMPOSE.with_name("compose-single.yaml")
FILES = (COMPOSE, SINGLE)
CONTAINER = COMPOSE.parent / "container"
DOCUMENTS: dict[str, dict[str, Any]] = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
GROUP: dict[str, dict[str, Any]] = DOCUMENTS[COMPOSE.name]["services"]
OTHERS = {"bridge", "database", "orthanc", "prometheus", "grafana"}
PROCESSES = {name: service for name, service in GROUP.items() if name not in OTHERS}
"""Our own image."""
LUA = CONTAINER / "forward.lua"

Find = Callable[[str], str]


@pytest.fixture
def resolved(peer: Find, tmp_path: Path) -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """What docker-compose makes of a text in place of a file, with its schema; no engine is asked."""
    program = peer("docker-compose")
    for path in FILES:
        shutil.copyfile(path, tmp_path / path.name)

    def run(name: str, text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / name
        path.write_text(text)
        return subprocess.run(
            [program, "--project-directory", str(COMPOSE.parent), "-f", path, "config"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def services(
    request: pytest.FixtureRequest, resolved: Callable[[str, str], subprocess.CompletedProcess[str]]
) -> dict[str, dict[str, Any]]:
    """The services of each file, as docker-compose reads them."""
    path: Path = request.param
    text = path.read_text(encoding="utf-8")
    done = resolved(path.name, text)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    assert found.keys() == DOCUMENTS[path.name]["services"].keys()
    wrong = resolved(path.name, text.replace("stop_grace_period", "stop_grace_time"))
    assert wrong.returncode != 0
    assert "stop_grace_time" in wrong.stderr
    return found


@pytest.mark.peer
def test_a_file_is_valid_by_its_schema_and_nothing_in_it_has_a_privilege(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "network_mode", "pid", "ipc", "cap_add"} & service.keys(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_stands_in_a_file_and_each_has_its_use(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"password\s*[:=]\s*\S", text.replace("PASSWORD__FILE: /run", ""), re.IGNORECASE)
    document = DOCUMENTS[path.name]
    used = {secret for service in document["services"].values() for secret in service.get("secrets", [])}
    if path == SINGLE:
        used |= set(GROUP["grafana"]["secrets"])
    assert document["secrets"].keys() == used
    for name, secret in document["secrets"].items():
        assert secret["file"] == f"./secrets/{name}", "which is not in the tree"
        assert name in text.partition("services:")[0], "its head says how it is made"


@pytest.mark.peer
def test_what_is_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source, _, rest = (
                volume.replace("site-group.toml", "group.toml").replace("site.toml", "bridge.toml").partition(":")
            )
            if source.startswith("/"):
                assert Path(source).exists(), f"{name}: {source}"
                assert rest.endswith(":ro"), f"{name}: {source}"


def test_a_bridge_in_them_is_the_image_of_the_container_file() -> None:
    *_, final = stages(FILE.read_text(encoding="utf-8"))
    single = DOCUMENTS[SINGLE.name]["services"]["bridge"]
    (volume,) = final.all("VOLUME")
    for name, service in {**PROCESSES, "single": single}.items():
        assert service["image"] == single["image"], name
        assert service["read_only"] is True, name
        assert service["tmpfs"] == ["/tmp"], name
        assert int(service["stop_grace_period"].removesuffix("s")) >= 75, name
    for built in (single, GROUP["upgrade"]):
        build = built["build"]
        assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == FILE
    assert {port.rpartition(":")[2] for port in single["ports"]} == set(final.all("EXPOSE")[0].split())
    assert f"bridge-store:{volume}" in single["volumes"]
    running = {name: service for name, service in PROCESSES.items() if name != "upgrade"}
    for name, service in running.items():
        assert service["volumes"][1:] == [f"{name}:{volume}", "payloads:/srv/cardio-bridge"], "a folder of its own"
    assert "-o bridge -g bridge /srv/cardio-bridge" in final.all("RUN")[0], "a new volume is its user's"


def test_each_role_is_there_and_none_starts_before_the_schema() -> None:
    roles = [service["command"] for name, service in PROCESSES.items() if name != "upgrade"]
    counts = {role: roles.count(["run", "--role", role]) for role in ROLES}
    assert counts == {"receive": 2, "dispatch": 2, "console": 1}
    assert PROCESSES["upgrade"]["command"] == ["db", "upgrade"]
    for name, service in PROCESSES.items():
        before = {"database": "service_healthy"} if name == "upgrade" else {"upgrade": "service_completed_successfully"}
        assert {k: v["condition"] for k, v in service["depends_on"].items()} == before, name


def test_the_settings_of_the_group_are_of_its_services() -> None:
    own = load(CONTAINER / "group.toml", {})
    address = postgres_engine.url(own.store.url)
    assert (address.host, address.username) == ("database", "bridge")
    upgrade = postgres_engine.url(GROUP["upgrade"]["environment"]["BRIDGE_STORE__URL"])
    assert (upgrade.host, upgrade.database, upgrade.username) == ("database", address.database, "bridge_owner")
    named = {str(own.store.password_file), own.site.key_file, own.cardio.token_file}
    for name, service in PROCESSES.items():
        if name != "upgrade":
            assert {f"/run/secrets/{secret}" for secret in service["secrets"]} == named, name
            assert set(service["networks"]) == {"front", "back"}
    assert GROUP["upgrade"]["environment"]["BRIDGE_STORE__PASSWORD_FILE"] == "/run/secrets/database-owner"
    assert GROUP["database"]["networks"] == ["back"], "senders and pages do not reach it"
    script = (COMPOSE.parent / "postgresql" / "first-start.sh").read_text()
    assert set(re.findall(r"/run/secrets/([\w-]+)", script)) <= set(GROUP["database"]["secrets"])


def test_the_peers_know_the_bridge_by_its_name_and_port() -> None:
    for own in (load(CONTAINER / "bridge.toml", {}), load(CONTAINER / "group.toml", {})):
        orthanc = json.loads((CONTAINER / "orthanc.json").read_text())
        title, host, port = orthanc["DicomModalities"]["bridge"]
        assert (title, host, str(port)) == (own.dicom.ae_title, "bridge", own.dicom.listen.rpartition(":")[2])
        assert orthanc["DicomAet"] in own.dicom.calling_ae_titles
    proxy = (COMPOSE.parent / "haproxy" / "haproxy.cfg").read_text()
    receivers = {name for name, service in PROCESSES.items() if "receive" in service["command"]}
    assert {*re.findall(r"^ +server \S+ ([\w-]+):", proxy, re.MULTILINE)} == receivers


def test_prometheus_asks_every_process_by_a_name_that_it_answers_to() -> None:
    def jobs(name: str) -> list[dict[str, Any]]:
        found = yaml.safe_load((COMPOSE.parent / "prometheus" / name).read_text())["scrape_configs"]
        configs: list[dict[str, Any]] = found[0]["static_configs"]
        return configs

    asked = {target: one["labels"]["part"] for one in jobs("prometheus.yml") for target in one["targets"]}
    assert asked == {f"{name}:8080": one["command"][2] for name, one in PROCESSES.items() if "run" in one["command"]}
    assert "console" in load(CONTAINER / "group.toml", {}).console.hosts, "or it would be told that nobody is called so"
    single = load(CONTAINER / "bridge.toml", {})
    assert jobs("single.yml") == [{"targets": [f"bridge:{single.console.listen.rpartition(':')[2]}"]}]
    assert "bridge" in single.console.hosts
    assert "--config.file=/etc/prometheus/single.yml" in DOCUMENTS[SINGLE.name]["services"]["prometheus"]["command"]


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
        configuration = json.loads((CONTAINER / "orthanc.json").read_text())
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
