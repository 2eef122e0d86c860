"""The example configurations: each is loaded, passes the check, and is started, with files of its names."""

import asyncio
import re
from pathlib import Path

import pytest

from bridge.app import running
from bridge.rehearsal.checks import checked
from bridge.settings import Settings, load
from tests.authority import Authority
from tests.deploy.containerfile import ROOT

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
        "hl7.return_address is empty: ids that come after reply_budget are told at a resend only",
        "hl7.south.return_address is empty: ids that come after reply_budget are told at a resend only",
    ],
}
"""What the check says of each; certificates of the test expire in two days, which is said as well."""


def test_there_is_one_for_each() -> None:
    assert {path.stem for path in EXAMPLES} == LISTENERS.keys() == WARNED.keys()


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_it_is_loaded_as_it_stands(example: Path) -> None:
    found = load(example, {})
    assert {*found.hl7.all(), "dicom", "console"} == LISTENERS[example.stem]


@pytest.fixture
def here(example: Path, tmp_path: Path) -> str:
    """The example with its folders below that of the test, its files made, and free ports of loopback."""
    text = example.read_text(encoding="utf-8")
    text = re.sub(r'listen = "[^"]*"', 'listen = "127.0.0.1:0"', text)
    text = re.sub(r'min_free = "[^"]*"\n', "", text)
    text = text.replace("[store]\n", '[store]\nmin_free = "1 MiB"\nballast = "64 KiB"\n')
    for folder in ("/etc/cardio-bridge", "/run/credentials", "/var/lib/cardio-bridge"):
        text = text.replace(folder, f"{tmp_path}{folder}")
    files = {Path(found) for found in re.findall(rf'"({tmp_path}/(?:etc|run)/[^"]+)"', text)}
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix not in {".pem", ".key"}:
            path.write_text("an invented secret of tests\n")
    if any(path.suffix == ".pem" for path in files):
        authority = Authority.make(tmp_path)
        authority.sign("bridge", into=tmp_path / "etc" / "cardio-bridge" / "tls")
        for path in files:
            if path.name.endswith("-ca.pem"):
                path.write_bytes(authority.certificate.read_bytes())
    assert all(path.exists() for path in files)
    return text


def settings_of(text: str, tmp_path: Path, api: str) -> Settings:
    path = tmp_path / "bridge.toml"
    path.write_text(text.replace("[cardio]", f'[cardio]\nbase_url = "{api}"', 1))
    return load(path, {})


async def test_it_is_started_and_its_doors_are_open(example: Path, here: str, tmp_path: Path) -> None:
    settings = settings_of(here, tmp_path, "http://127.0.0.1:9")
    async with running(settings) as up:
        assert up.addresses.keys() == LISTENERS[example.stem]
    assert (settings.store.payloads).is_dir()


async def test_the_check_finds_no_error(example: Path, here: str, tmp_path: Path) -> None:
    settings = settings_of(here, tmp_path, "http://127.0.0.1:9")
    settings.store.payloads.mkdir(parents=True)  # as the unit's tmpfiles do
    lines = await asyncio.to_thread(lambda: list(checked(settings)))
    assert [line for line in lines if line.level == "error" and not line.what.startswith("api")] == [], lines
    warned = [line.text for line in lines if line.level == "warning" and line.what != "tls"]
    assert warned == WARNED[example.stem]
