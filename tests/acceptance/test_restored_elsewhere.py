"""F41: a copy made under load and put back elsewhere, on each engine, sends nothing until it is released."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.errors import StoreError, StoreRefused
from bridge.settings import load
from bridge.store import audit, marks, postgres_backup, quarantine
from bridge.store.backup import RESTORED
from bridge.store.engines import looking
from bridge.store.schema import event, message
from tests.acceptance.scene import OpenHouse
from tests.acceptance.test_f41_restored import api, bridge, posts, send
from tests.postgres_server import Server


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, in a folder of its own; `other` is another one, with nothing in it."""

    here: dict[str, str]
    other: dict[str, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    key = tmp_path / "site.key"
    key.write_text("ab" * 32)
    shared = {"BRIDGE_SITE__KEY_FILE": str(key)}
    if request.param == "sqlite":
        yield Place(shared, {**shared, "BRIDGE_STORE__URL": f"sqlite:///{tmp_path}/elsewhere/bridge.db"})
        return
    server: Server = request.getfixturevalue("postgres")
    names, made = [], []
    for name, template in (("here", "bridge_template"), ("other", "template0")):
        url = server.database(f"copied_{name}_{secrets.token_hex(4)}", template)
        names.append(str(url.database))
        folder = {"BRIDGE_STORE__FOLDER": f"{tmp_path}/{name}"}
        made.append({**shared, **folder, "BRIDGE_STORE__URL": url.render_as_string(hide_password=False)})
    yield Place(*made)
    for name in names:
        server.drop(name)


def first(environment: dict[str, str], upto: int) -> list[tuple[Any, ...]]:
    """What came in, and when what happened to it, up to an event."""
    with looking(load(None, environment).store) as conn:
        events = conn.execute(sa.select(event).where(event.c.id <= upto).order_by(event.c.id)).all()
        known = conn.execute(
            sa.select(message.c.id, message.c.identity, message.c.raw)
            .where(message.c.id.in_(sorted({row.message_id for row in events})))
            .order_by(message.c.id)
        ).all()
    return [tuple(row) for row in (*events, *known)]


def asked(environment: dict[str, str], what: Callable[[sa.Connection], Any]) -> Any:
    with looking(load(None, environment).store) as conn:
        return what(conn)


@pytest.mark.timeout(240)
async def test_f41_a_copy_made_under_load_sends_nothing_elsewhere_until_it_is_released(
    house: OpenHouse, tmp_path: Path, place: Place
) -> None:
    sandbox, copy = api(), tmp_path / "copy"
    over = asyncio.Event()
    async with house(sandbox, **place.here) as it:
        await send(it, 1)
        sandbox.faults.add("429", on="tasks", retry_after="600")

        async def load_it() -> int:
            number = 1
            while not over.is_set():
                number += 1
                await send(it, number)
            return number

        sending = asyncio.create_task(load_it())
        await it.until(lambda rows: len(rows) > 5)
        status, said = await bridge(it, "db", "backup", str(copy))
        over.set()
        sent = await sending
        assert (status, "whole" in said) == (0, True), said
        assert copy.stat().st_mode & 0o777 == 0o600
        status, said = await bridge(it, "db", "backup", str(copy))
        assert (status, "is there already" in said) == (1, True)
        here = dict(it.environment)
    other = {**here, **place.other}
    ran = await asyncio.to_thread(_ran, other, "restore", copy)
    assert (ran.returncode, "in quarantine" in ran.stdout) == (0, True), ran.stdout
    upto = asked(other, marks.newest)
    assert first(other, upto) == first(here, upto)
    assert 5 < asked(other, lambda conn: quarantine.standing(conn).upto) <= sent  # type: ignore[union-attr]
    assert asked(other, audit.verify) is None
    again = await asyncio.to_thread(_ran, other, "restore", copy)
    assert again.returncode == 1
    assert "is there already" in again.stdout or "is not empty" in again.stdout
    sandbox.faults.clear()
    before = len(sandbox.tasks), posts(sandbox)
    async with house(sandbox, **place.other) as it:
        assert it.up.quarantine == RESTORED
        rows = await it.messages()
        assert {r.state for r in rows} <= {"CREATED", "HELD"}
        assert "MSA|AA|" in await it.hl7("MSH|^~\\&|HIS|TEST|||2026||ADT^A08|A1|P|2.3.1\rPID|1||9^^^TEST^MR||X^Y\r")
        assert (len(sandbox.tasks), posts(sandbox)) == before
    ran = await asyncio.to_thread(_ran, other, "release", "--waiting", "hold", "--reason", "the newest there is")
    assert ran.returncode == 0, ran.stdout
    async with house(sandbox, **place.other) as it:
        assert it.up.quarantine == ""
        await send(it, sent + 1)
        await it.until(lambda rows: rows[-1].state == "CREATED")
        assert len(sandbox.tasks) == before[0] + 1


def _killed(command: list[str], environment: dict[str, str], pause: float) -> None:
    """Anywhere in it: whatever it had come to, the outcome is one of two."""
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, env=os.environ | environment, stdout=nowhere, stderr=nowhere) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(pause)
        process.send_signal(signal.SIGKILL)


def _ran(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "db", *map(str, words)]
    return subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


# --- what can go wrong --------------------------------------------------------------------------------------


async def test_a_file_that_is_no_copy_leaves_the_place_as_empty_as_it_was(
    house: OpenHouse, tmp_path: Path, place: Place
) -> None:
    async with house(api(), **place.here) as it:
        await send(it, 1)
        here = dict(it.environment)
        assert (await bridge(it, "db", "backup", f"{tmp_path}/copy"))[0] == 0
    other, copy = {**here, **place.other}, tmp_path / "copy"
    whole = copy.read_bytes()
    for content in (b"", b"no copy at all" * 100, whole[: len(whole) // 2], whole[:-200]):
        copy.write_bytes(content)
        ran = await asyncio.to_thread(_ran, other, "restore", copy)
        assert (ran.returncode, "Traceback" in ran.stdout, "Muster" in ran.stdout) == (1, False, False), ran.stdout
    copy.write_bytes(whole)
    ran = await asyncio.to_thread(_ran, other, "restore", copy)
    assert ran.returncode == 0, ran.stdout
    assert asked(other, lambda conn: conn.execute(sa.select(sa.func.count(message.c.id))).scalar()) == 1


async def test_a_restore_that_is_killed_leaves_nothing_or_the_whole_in_quarantine(
    house: OpenHouse, tmp_path: Path, place: Place
) -> None:
    async with house(api(), **place.here) as it:
        for number in range(30):
            await send(it, number)
        here = dict(it.environment)
        assert (await bridge(it, "db", "backup", f"{tmp_path}/copy"))[0] == 0
    other = {**here, **place.other}
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "db", "restore", f"{tmp_path}/copy"]
    for pause in (0.3, 0.6, 0.9, 1.2, 1.5):
        await asyncio.to_thread(_killed, command, other, pause)
        ran = await asyncio.to_thread(_ran, other, "restore", tmp_path / "copy")
        if ran.returncode == 0 or "not empty" in ran.stdout or "is there already" in ran.stdout:
            break
    assert asked(other, quarantine.reason) == RESTORED
    assert asked(other, lambda conn: conn.execute(sa.select(sa.func.count(message.c.id))).scalar()) == 30


def test_a_missing_or_old_program_is_named_with_the_way_out(
    database: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_backup, "_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreRefused, match="pg_dump is not installed here; install PostgreSQL's client programs, 15"):
        postgres_backup.dump(database, tmp_path / "copy")
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.3'\n")
    old.chmod(0o755)
    with pytest.raises(StoreRefused, match="pg_dump 12 is older than the server"):
        postgres_backup.dump(database, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_no_password_is_among_the_arguments_of_a_program(
    database: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_backup, "_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told = tmp_path / "told"
    program = tmp_path / "pg_dump"
    program.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'pg_dump (PostgreSQL) 99.1'; exit 0; }\n"
        f'echo "$@" > {told}; echo "$PGPASSWORD" >> {told}; echo "pg_dump: error: no" >&2; exit 1\n'
    )
    program.chmod(0o755)
    with pytest.raises(StoreError, match="pg_dump: error: no"):
        postgres_backup.dump(database.set(password="Geheim"), tmp_path / "copy")
    arguments, password = told.read_text().splitlines()
    assert (password, "Geheim" in arguments) == ("Geheim", False)
    assert [f.name for f in tmp_path.iterdir() if "copy" in f.name] == []


def test_f41_the_mark_of_a_restored_store_is_that_of_the_quarantine() -> None:
    said = postgres_backup._end().decode()
    assert f"'{marks.QUARANTINE}'" in said
    assert f"'{RESTORED}'" in said
