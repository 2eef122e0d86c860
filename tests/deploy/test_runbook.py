"""The runbook and the settings reference: made parts are current, what they name is there, and the blocks do run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from bridge.app import running
from bridge.cli import root
from bridge.settings import Settings, load
from bridge.store.backup import copy
from tests.acceptance.scene import OpenHouse, order
from tests.deploy.containerfile import ROOT, context
from tests.interface import runbook_page, settings_page
from tests.interface.page import COMMAND, filled, names_in

RUNBOOK = runbook_page.PAGE.read_text(encoding="utf-8")
REFERENCE = settings_page.PAGE.read_text(encoding="utf-8")
FILES = {page.PAGE.name: page for page in (runbook_page, settings_page)}


@pytest.mark.parametrize("name", FILES)
def test_the_page_is_what_the_code_makes_of_it(name: str) -> None:
    text = FILES[name].PAGE.read_text(encoding="utf-8")
    parts = {part: made() for part, made in FILES[name].PARTS.items()}
    assert sorted(names_in(text)) == sorted(parts)
    assert filled(text, parts) == text, f"the code says otherwise; {COMMAND} writes the page anew"


def keys_of(model: Any, place: str = "") -> Iterator[str]:
    """Every key below a model as a person names it: `hl7.tls.certificate`. Names of the site's own are left out."""
    for name, field in model.model_fields.items():
        here = f"{place}.{name}".removeprefix(".")
        yield here
        inner = settings_page._model_in(field.annotation)
        if inner is not None and here.count(".") < 3:
            yield from keys_of(inner, here)


def test_every_key_has_its_line_and_words_are_for_nothing_else() -> None:
    told = {name: set(settings_page.keys(name, model)) for name, model in settings_page.sections()}
    for name, model in settings_page.sections():
        assert f"### `{settings_page.HEADINGS.get(name, f'[{name}]')}`\n" in REFERENCE
        like = settings_page.LIKE.get(model)
        assert told[name] | set(like.model_fields if like else ()) >= set(model.model_fields), name
    assert {name for name in told if "." not in name} == set(Settings.model_fields)
    used: dict[int, set[str]] = {}
    for model, words in settings_page.WORDS.items():
        used.setdefault(id(words), set()).update(model.model_fields)
    for model, words in settings_page.WORDS.items():
        assert words.keys() <= used[id(words)], model
    models = {model for _, model in settings_page.sections()}
    assert models == settings_page.WORDS.keys(), "every table that there is, and no other"


def test_a_changed_default_is_noticed() -> None:
    class Changed(BaseModel):
        time_zone: str = "Mars/Olympus"

    field = Changed.model_fields["time_zone"]
    assert settings_page._default(field) == '`"Mars/Olympus"`'
    assert "Mars/Olympus" not in REFERENCE


def spans() -> list[str]:
    """Everything that stands as code in the runbook, line by line where it is a block."""
    blocks = re.findall(r"```\w*\n(.*?)```", RUNBOOK, re.DOTALL)
    text = re.sub(r"```.*?```", "", RUNBOOK, flags=re.DOTALL)
    return [*(line for block in blocks for line in block.splitlines()), *re.findall(r"`([^`\n]+)`", text)]


def commands() -> list[list[str]]:
    """Every call of `bridge` with its words."""
    calls = [
        call
        for span in spans()
        for call in re.findall(r"(?:^|\s|/)bridge ((?!bridge )[a-z-].*)", span.partition("  #")[0].rstrip("\\"))
    ]
    return [shlex.split(call) for call in calls]


def test_every_command_and_option_is_there() -> None:
    seen = set()
    for words in commands():
        command: click.Command = root
        rest = list(words)
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, f"bridge {' '.join(words)}"
            seen.add(rest.pop(0))
            command = found
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= options, f"bridge {' '.join(words)}"
    assert seen >= {"check", "demo", "send", "map", "lint", "messages", "db", "backup", "release", "counts", "resolve"}


def events() -> set[str]:
    """What the runbook says of the log's words: a row each."""
    table = RUNBOOK.partition("\n### Words in the log\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {event for row in rows if row != "`event`" for event in re.findall(r"`([\w.]+)`", row)}


def test_every_word_of_the_log_is_one_that_is_said() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bridge").rglob("*.py"))
    assert len(events()) >= 9
    assert [event for event in sorted(events()) if f'"{event}"' not in said] == []


def test_every_setting_that_is_named_is_there() -> None:
    known = set(keys_of(Settings))
    sections = set(Settings.model_fields)
    named = {
        span for span in spans() if re.fullmatch(r"[a-z0-9]+(\.[a-z_]+)+", span) and span.partition(".")[0] in sections
    }
    assert named - {"site.key"} - events() <= known, "a file's name apart"
    assert len(named) > 15


def test_every_file_that_is_linked_is_there() -> None:
    deploy = ROOT / "deploy"
    for page in (RUNBOOK, REFERENCE):
        for name in re.findall(r"\]\(([\w.-]+\.md)\)", page):
            assert (deploy / name).exists(), name
    folders = "haproxy|prometheus|grafana|container|postgresql|systemd"
    for name in re.findall(rf"`((?:{folders})/[\w.-]*|compose[\w-]*\.yaml)`", RUNBOOK):
        assert (deploy / name).exists(), name


def blocks(section: str) -> list[str]:
    """The blocks of a section that are to be run."""
    text = RUNBOOK.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


class Host:
    """An empty host below a folder. Programs that change a machine are played: what they were told is written down."""

    PLAYED = ("apt-get", "systemctl", "chgrp")

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.tree = folder / "tree"
        self.programs = folder / "bin"
        self.told = folder / "told"
        for name in ("etc/systemd/system", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d", "opt"):
            (self.root / name).mkdir(parents=True)
        for path in (*context(ROOT), *(p.relative_to(ROOT) for p in _files("deploy", "sample_messages"))):
            (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, self.tree / path)
        self.programs.mkdir()
        (self.programs / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
        for name in self.PLAYED:
            self._script(name, f'echo "{name} $*" >> {self.told}')
        for name in ("systemd-sysusers", "systemd-tmpfiles"):
            self._script(name, f'exec {shutil.which(name)} --root={self.root} "$@"')

    def _script(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, block: str) -> str:
        """Run a block as it stands, with the host's folders below this one."""
        words = re.sub(r"(?<![\w./])/(?=(opt|etc|usr|var)/)", f"{self.root}/", block)
        kept = {k: v for k, v in os.environ.items() if k in {"HOME", "LANG"} or k.startswith("PIP_")}
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", words], cwd=self.tree, env={**kept, "PATH": f"{self.programs}:/usr/bin:/bin"},
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout


def _files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]


@pytest.mark.peer
@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_from_an_empty_host_by_the_runbook_alone(tmp_path: Path, peer: Any) -> None:
    peer("systemd-sysusers")
    host = Host(tmp_path)
    program, files = blocks("Install")
    host.run(program)
    host.run(files)
    current = host.root / "opt" / "cardio-bridge" / "current"
    assert current.is_symlink()
    share = current / "share" / "cardio-bridge"
    assert (share / "runbook.md").exists()
    unit = (host.root / "etc" / "systemd" / "system" / "cardio-bridge.service").read_text()
    for path in re.findall(r"(?:ExecStart=|file:)(\S+)", unit):
        assert (host.root / path.lstrip("/")).exists(), path
    assert (host.root / "etc" / "cardio-bridge" / "credentials").stat().st_mode & 0o777 == 0o700
    assert load(host.root / "etc" / "cardio-bridge" / "bridge.toml", {}).site.assigning_authority == "PRAXIS"
    assert "systemctl daemon-reload" in host.told.read_text()
    (trial,) = blocks("A trial")
    told = host.run(trial)
    assert len(re.findall(r"\.(?:hl7|dcm)\b", told)) >= 31, told[-2000:]
    assert "31 invented messages" in RUNBOOK
    assert len(list((share / "sample_messages").glob("*.outcome.json"))) == 31


async def test_f41_restored_on_another_host_it_takes_custody_and_sends_nothing(
    house: OpenHouse, tmp_path: Path
) -> None:
    """By the section on restore: the copy, the payloads, site.key, and no epoch file."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with house() as it:
        await it.hl7(order())
        await it.settled(1)
        copy(tmp_path / "bridge.db", elsewhere / "bridge.db")
        environment = it.environment | {
            "BRIDGE_STORE__URL": f"sqlite:///{elsewhere}/bridge.db",
            "BRIDGE_STORE__PAYLOADS": f"{elsewhere}/payloads",
        }
    shutil.copytree(tmp_path / "payloads", elsewhere / "payloads")
    shutil.copy(tmp_path / "site.key", elsewhere / "site.key")
    async with running(load(None, environment)) as up:
        assert up.quarantine
