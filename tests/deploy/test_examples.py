"""The example configurations: each is loaded, passes the check, and is started, with files of its names."""

import asyncio
import json
import re
import secrets
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.app import running
from bridge.rehearsal.checks import checked
from bridge.settings import Settings, load
from bridge.store import postgres_engine
from tests.acceptance.process import api
from tests.acceptance.scene import order
from tests.authority import Authority
from tests.deploy.containerfile import ROOT
from tests.deploy.processes import RUN, Process, run
from tests.ports import free_port

__all__ = ["api"]

FOLDER = ROOT / "deploy" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.toml"))
LISTENERS = {
    "cart-room": {"hl7", "dicom", "console"},
    "hospital": {"hl7", "hl7.emergency", "dicom", "console"},
    "group": {"hl7", "hl7.south", "dicom", "console"},
}
WARNED = {
    "cart-room": [
        "hl7.return_address is empty: ids that come after reply_budget are told at a resend only",
        "nobody is told of alarms; name a webhook or a mail server in [alarms.webhook] or [alarms.mail]",
    ],
    "hospital": [],
    "group": [
        "it has no standby: when its disk is gone, what came in since the last backup is gone",
        "its data has no checksums: a damaged page goes unnoticed (pg_checksums --enable)",
        "hl7.return_address is empty: ids that come after reply_budget are told at a resend only",
        "hl7.south.return_address is empty: ids that come after reply_budget are told at a resend only",
    ],
}
"""What the check says of each; certificates of the test expire in two days, which is said as well. The PostgreSQL of
the tests is one server with no standby.
"""


def test_there_is_one_for_each() -> None:
    assert {path.stem for path in EXAMPLES} == LISTENERS.keys() == WARNED.keys()


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_it_is_loaded_as_it_stands(example: Path) -> None:
    found = load(example, {})
    assert {*found.hl7.all(), "dicom", "console"} == LISTENERS[example.stem]


def test_the_group_shares_a_database_that_is_proved_by_its_certificate() -> None:
    """The URL as it stands: two servers, whichever takes writes, with TLS that knows whom it talks to."""
    found = load(FOLDER / "group.toml", {})
    words = postgres_engine.url(found.store.url).query
    assert words["host"] == ("db-1.group.example:5432", "db-2.group.example:5432")
    assert (words["target_session_attrs"], words["sslmode"]) == ("read-write", "verify-full")
    assert found.store.password_file is not None
    assert found.site.key_file


def placed(text: str, root: Path) -> str:
    """An example with its folders below that one, its files made where they are missing, and free ports of loopback."""
    text = re.sub(r'listen = "[^"]*"', 'listen = "127.0.0.1:0"', text)
    text = re.sub(r'min_free = "[^"]*"\n', "", text)
    text = text.replace("[store]\n", '[store]\nmin_free = "1 MiB"\nballast = "64 KiB"\n')
    for folder in ("/etc/cardio-bridge", "/var/lib/cardio-bridge", "/srv/cardio-bridge"):
        text = text.replace(folder, f"{root}{folder}")
    plain = re.sub(r"^#.*", "", text, flags=re.MULTILINE)
    files = {Path(found) for found in re.findall(rf'"({root}/etc/[^"]+)"', plain)}
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix not in {".pem", ".key"} and not path.exists():
            path.write_text(f"{secrets.token_hex(32)}\n")
    if any(path.suffix == ".pem" for path in files):
        authority = Authority.make(root)
        authority.sign("bridge", into=root / "etc" / "cardio-bridge" / "tls")
        for path in files:
            if path.name.endswith("-ca.pem"):
                path.write_bytes(authority.certificate.read_bytes())
    assert all(path.exists() for path in files)
    return text


@pytest.fixture
def here(example: Path, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The example, placed below the test's folder. A database that it names is one of the tests' server, behind a host
    that is not there.
    """
    text = example.read_text(encoding="utf-8")
    if "postgresql" in text:
        there: sa.URL = request.getfixturevalue("database")
        hosts = f"host=127.0.0.1:{free_port()}&host=127.0.0.1:{there.port}&target_session_attrs=read-write"
        address = f"{there.drivername}://{there.username}@/{there.database}?{hosts}"
        text = re.sub(r'^url = "postgresql[^"]*"', f'url = "{address}"', text, flags=re.MULTILINE)
    return placed(text, tmp_path)


def settings_of(text: str, tmp_path: Path, api: str) -> Settings:
    path = tmp_path / "bridge.toml"
    path.write_text(text.replace("[cardio]", f'[cardio]\nbase_url = "{api}"', 1))
    return load(path, {})


async def test_it_is_started_and_its_doors_are_open(example: Path, here: str, tmp_path: Path) -> None:
    settings = settings_of(here, tmp_path, "http://127.0.0.1:9")
    async with running(settings) as up:
        assert up.addresses.keys() == LISTENERS[example.stem]
    assert settings.store.payload_folder.is_dir()


async def test_the_check_finds_no_error(example: Path, here: str, tmp_path: Path) -> None:
    settings = settings_of(here, tmp_path, "http://127.0.0.1:9")
    for folder in (settings.store.payload_folder, settings.store.beside("")):  # as the unit and its tmpfiles do
        folder.mkdir(parents=True, exist_ok=True)
    lines = await asyncio.to_thread(lambda: list(checked(settings)))
    assert [line for line in lines if line.level == "error" and not line.what.startswith("api")] == [], lines
    warned = [line.text for line in lines if line.level == "warning" and line.what != "tls"]
    assert warned == WARNED[example.stem]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", [FOLDER / "group.toml"], ids=["group"])
def test_a_group_is_three_processes_and_an_order_goes_where_its_house_is(
    here: str, tmp_path: Path, api: tuple[str, Path]
) -> None:
    assert here.count('"group/south"') == 1
    text = here.replace('"group/south"', '"sandbox-hospital"')
    settings = settings_of(text, tmp_path, api[0])
    for one in settings.cardio.all().values():
        Path(one.token_file).write_text("sandbox-token\n")
    toml = tmp_path / "bridge.toml"
    words = [*RUN, "run", "--config", str(toml), "--role"]
    up: dict[str, Process] = {}
    try:
        for role in ("receive", "dispatch", "console"):
            own = {"BRIDGE_STORE__FOLDER": str(settings.store.beside("").with_name(role))}
            up[role] = Process([*words, role], own, tmp_path / f"{role}.log")
        message = tmp_path / "order.hl7"
        message.write_bytes(order().replace("|CARDIO|BRIDGE|", "|CARDIO|SOUTH|").encode())
        own_tls = settings.hl7.tls
        assert own_tls is not None
        tls = ["--tls-ca", own_tls.client_ca, "--tls-cert", own_tls.certificate, "--tls-key", own_tls.key]
        told = run("send", str(message), "--to", up["receive"].addresses["hl7"], *map(str, tls), environment={})
        assert "task=" in told
        (shown,) = json.loads(run("messages", "list", "--json", "--config", str(toml), environment={}))
        assert shown["state"] == "CREATED"
        found = json.loads(run("messages", "show", shown["id"], "--json", "--config", str(toml), environment={}))
        assert found["destination"] == "south"
    finally:
        for one in up.values():
            one.end(signal.SIGKILL)
