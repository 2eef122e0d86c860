"""`bridge map`: the dry run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bridge.cli import options


@click.command("map")
@options.config
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def command(config: Path | None, files: tuple[Path, ...], as_json: bool) -> None:
    """The task that each HL7 or DICOM file would become, each field's trace, and the exact answer.

    Opens no network and writes nothing. Task ids are invented. The HL7 files of one run count one after the other, as
    if they came in over empty books: a cancel finds its order, a merge its patient.
    """
    from bridge.cli.dry_run import DryRun
    from bridge.clock import SystemClock
    from bridge.mapping.rules import load_rules
    from bridge.settings import load

    settings = load(config)
    rules = load_rules(settings.mapping_document(), name=settings.mapping.file or "defaults")
    run = DryRun(rules, settings, SystemClock())
    results = [_one(path, run, rules, settings) for path in files]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for result in results:
        _print(result)


def _one(path: Path, run: Any, rules: Any, settings: Any) -> dict[str, Any]:
    from bridge.formats.hl7 import batch

    content = path.read_bytes() if path.stat().st_size <= settings.hl7.max_frame else b""
    if b"MSH" not in content[:64] and content[:3] not in {b"FHS", b"BHS"}:
        return {"file": str(path), **_object(path, rules, settings)}
    content = content.strip(b"\x0b\x1c")
    if batch.is_batch(content):
        return {"file": str(path), "batch": [run.message(body) for body in batch.split(content).messages]}
    return {"file": str(path), **run.message(content)}


def _object(path: Path, rules: Any, settings: Any) -> dict[str, Any]:
    from bridge.dispatch.understand import understand_recording
    from bridge.errors import BadInput, CannotScale
    from bridge.formats.dicom.reader import read_object, require_scalable
    from bridge.mapping.compose import compose_recording

    try:
        found = read_object(path)
    except BadInput as problem:
        return {"state": "REJECTED", "error": f"{problem.where}: {problem}", "answer": f"{problem.code:04X}"}
    understood = understand_recording(found, "", rules, settings)
    result: dict[str, Any] = {"state": "CREATED", "answer": "0000", "warnings": list(understood.warnings), "tasks": []}
    try:
        require_scalable(found.recording.rhythm())
    except CannotScale as problem:
        return {**result, "state": "HELD", "reason": "cannot_scale", "error": str(problem)}
    if understood.recording is None or understood.state != "READY":
        return {**result, "state": str(understood.state), "reason": understood.reason}
    request, traces = compose_recording(
        understood.recording,
        order=None,
        patient=None,
        tags=(),
        draft_task_id=None,
        upload_id="(of the upload)",
        auto_complete=settings.cardio.auto_complete,
    )
    return {**result, "tasks": [{"task": request.fields(), "traces": [_trace(t) for t in traces]}]}


def _trace(trace: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(trace)


def _print(result: dict[str, Any]) -> None:
    if "file" in result:
        click.echo(click.style(result["file"], bold=True))
    for inner in result.get("batch", ()):
        _print(inner)
    if "batch" not in result:
        for line in _told(result):
            click.echo(f"  {line}")
        click.echo()


def _told(result: dict[str, Any]) -> Iterator[str]:
    """One result in lines."""
    from bridge.cli.messages_command import trace_line

    yield f"state   {result.get('state', '-')} {result.get('reason', '')}".rstrip()
    if result.get("error"):
        yield f"refused {result['error']}"
    yield from (f"warning {warning}" for warning in result.get("warnings", ()))
    for number, task in enumerate(result.get("tasks", ()), 1):
        yield f"task {number}"
        yield from (f"  {trace_line(trace)}" for trace in task["traces"])
    for person in result.get("patient", ()):
        yield f"patient record {json.dumps(person, ensure_ascii=False)}"
    if result.get("answer"):
        yield "answer"
        yield from (f"  {line}" for line in result["answer"].rstrip("\r").split("\r"))
    for later in result.get("told_later", ()):
        yield "told to the return address"
        yield from (f"  {line}" for line in later.rstrip("\r").split("\r"))
