"""The demo's scene: a HIS and a cart send every sample in the order of its name; the outcome is compared with the
recorded one beside it (`NAME.outcome.json`). The same scene is an acceptance test.
"""

import asyncio
import contextlib
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bridge.app import Running, running
from bridge.domain.states import SETTLED
from bridge.formats.hl7.charset import readable
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.settings import Settings, host_port, load
from bridge.store import listing

PATIENCE = 15.0
"""Seconds that a sample may take to come to its outcome."""


@dataclass(frozen=True, slots=True)
class Played:
    """One sample, and what became of it. `outcome` holds what is the same in every run."""

    name: str
    type: str
    patient: str
    code: str
    task_ids: tuple[str, ...]
    state: str
    milliseconds: float
    outcome: dict[str, Any]


@contextlib.asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[tuple[Running, Sandbox, Settings]]:
    """The sandbox API and a bridge of its own in `folder`, on free ports."""
    sandbox = Sandbox(token="demo-token", organization="demo-hospital", first_task_id=4711)  # noqa: S106  not a secret
    sock = open_socket("127.0.0.1", 0, setting="demo")
    async with serving(sandbox.application(), sock) as address:
        settings = load(
            None,
            {
                "BRIDGE_SITE__TIME_ZONE": "Europe/Berlin",
                "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
                "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
                "BRIDGE_STORE__MIN_FREE": "16 MiB",
                "BRIDGE_STORE__BALLAST": "1 MiB",
                "BRIDGE_HL7__LISTEN": "127.0.0.1:0",
                "BRIDGE_HL7__REPLY_BUDGET": "10",
                "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
                "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
                "BRIDGE_CONSOLE__SIGN_IN": "false",
                "BRIDGE_CARDIO__BASE_URL": f"http://{address}",
                "BRIDGE_CARDIO__ORGANIZATION_PATH": "demo-hospital",
                "BRIDGE_CARDIO__TOKEN": "demo-token",
            },
        )
        async with running(settings) as up:
            yield up, sandbox, settings


def samples_in(folder: Path) -> list[Path]:
    """The messages and objects of a folder, in the order in which they are sent."""
    return sorted(p for p in folder.iterdir() if p.suffix in {".hl7", ".dcm"})


async def play(folder: Path, *, stay: bool, record: bool = False) -> bool:
    """Send every sample, print the table; whether every outcome is the recorded one."""
    with tempfile.TemporaryDirectory(prefix="bridge-demo-") as scratch:
        async with stage(Path(scratch)) as (up, sandbox, settings):
            line = "{:<38} {:<30} {:<9} {:<6} {:<11} {:<12} {:>6}  {}"
            click.echo(line.format("message", "type", "patient", "answer", "state", "tasks", "ms", "as recorded"))
            good = True
            for sample in samples_in(folder):
                played = await send(sample, up, sandbox)
                recorded = sample.with_name(sample.name + ".outcome.json")
                if record:
                    _record(recorded, played)
                difference = compared(recorded, played)
                good = good and not difference
                click.echo(
                    line.format(
                        played.name,
                        played.type[:30],
                        played.patient,
                        played.code,
                        played.state,
                        ",".join(played.task_ids) or "-",
                        f"{played.milliseconds:.0f}",
                        difference or "yes",
                    )
                )
            click.echo("every message got its recorded outcome" if good else "NOT every message as recorded")
            if stay:
                _invite(up, settings)
                await asyncio.Event().wait()
    return good


def _record(path: Path, played: Played) -> None:
    path.write_text(json.dumps(played.outcome, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _invite(up: Running, settings: Settings) -> None:
    click.echo("\nstill up, until Ctrl-C:")
    click.echo(f"  console   http://{up.addresses['console']}/")
    click.echo(f"  sandbox   {settings.cardio.base_url}/_sandbox/requests")
    click.echo(f"  a HIS     bridge send FILE.hl7 --to {up.addresses['hl7']}")
    click.echo(f"  a cart    bridge send FILE.dcm --to {up.addresses['dicom']}")


async def send(sample: Path, up: Running, sandbox: Sandbox) -> Played:
    """Send one sample and wait until its message is settled."""
    before = await up.store.read(lambda conn: listing.rows(conn, limit=1))
    last = int(before[0].id) if before else 0
    known_tasks = set(sandbox.tasks)
    began = time.perf_counter()
    if sample.suffix == ".dcm":
        host, port = host_port(up.addresses["dicom"])
        stored = await asyncio.to_thread(dicom_sender.store, host, port, [sample])
        code = f"{stored[0]:04X}"
        answer = [code]
    else:
        host, port = host_port(up.addresses["hl7"])
        body = await mllp_sender.send(host, port, await asyncio.to_thread(sample.read_bytes))
        code = ",".join(a.code for a in mllp_sender.answers(body))
        answer = _steady_answer(readable(body))
    messages = await _settled(up, last)
    milliseconds = (time.perf_counter() - began) * 1000
    made = sorted(set(sandbox.tasks) - known_tasks)
    return Played(
        name=sample.name,
        type=messages[0]["type"] if messages else "(seen before)",
        patient=_masked(messages),
        code=code,
        task_ids=tuple(i for m in messages for i in m["task_ids"]) or _ids_in(answer),
        state=messages[0]["state"] if messages else "-",
        milliseconds=milliseconds,
        outcome={
            "answer": answer,
            "messages": [{"state": m["state"], "reason": m["reason"]} for m in messages],
            "tasks": [_steady_task(i, sandbox) for i in made],
        },
    )


async def _settled(up: Running, last: int) -> list[dict[str, Any]]:
    """The messages that came in after `last`, oldest first, once nothing more happens to them."""
    deadline = time.monotonic() + PATIENCE
    while True:
        rows = await up.store.read(lambda conn: listing.rows(conn, limit=20))
        mine = [r for r in reversed(rows) if int(r.id) > last]
        if all(r.state in SETTLED for r in mine) or time.monotonic() > deadline:
            whole = [await up.store.read(lambda conn, i=int(r.id): listing.whole(conn, i)) for r in mine]  # type: ignore[misc]
            return [w for w in whole if w is not None]
        await asyncio.sleep(0.01)


def _masked(messages: list[dict[str, Any]]) -> str:
    for message in messages:
        understood = message["understood"] or {}
        for part in (*understood.get("orders", ()), {"mapped": understood.get("recording") or {}}):
            key = str(part["mapped"].get("fields", {}).get("patient_id", ""))
            if key:
                return f"{key[:2]}…{key[-1]}"
    return "-"


def _ids_in(answer: list[str]) -> tuple[str, ...]:
    found = re.search(r"\|task=([\d,]+)", "\n".join(answer))
    return tuple(found[1].split(",")) if found else ()


def _steady_answer(text: str) -> list[str]:
    """The answer's segments, with its time and its own control id replaced."""
    segments = []
    for segment in filter(None, text.split("\r")):
        if segment.startswith(("MSH", "FHS", "BHS")):
            separator = segment[3]
            fields = segment.split(separator)
            for index, placeholder in ((6, "(time)"), (9 if segment.startswith("MSH") else 10, "(id)")):
                if len(fields) > index:
                    fields[index] = placeholder
            segments.append(separator.join(fields))
        else:
            segments.append(segment)
    return segments


def _steady_task(task_id: int, sandbox: Sandbox) -> dict[str, Any]:
    """The task as the sandbox was given it, with what is of one run alone replaced."""
    task = sandbox.tasks[task_id]
    request = dict(task.request)
    if "upload_id" in request:
        request["upload_id"] = "(upload)"
    if "searching_tags" in request:
        request["searching_tags"] = [re.sub(r"^br1-[a-z2-7]+", "(key)", t) for t in request["searching_tags"]]
    return {"id": str(task_id), "request": request}


def compared(recorded: Path, played: Played) -> str:
    """Empty where the outcome is the recorded one; else where they part."""
    if not recorded.exists():
        return "no recorded outcome"
    expected = json.loads(recorded.read_text(encoding="utf-8"))
    for part in ("answer", "messages", "tasks"):
        if expected[part] != played.outcome[part]:
            return f"differs in {part}"
    return ""
