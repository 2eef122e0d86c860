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
@click.option("--calling", default="", metavar="AE", help="The AE title that brings the objects; rules may name it.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def command(config: Path | None, files: tuple[Path, ...], calling: str, as_json: bool) -> None:
    """The task that each HL7 or DICOM file would become, each field's trace, and the exact answer.

    Opens no network and writes nothing. Task ids are invented. The files of one run count one after the other, as if
    they came in over empty books: a cancel finds its order, a merge its patient, a recording its order. An object with
    several recordings shows the task of each; the answer of an object is the status that its cart gets.
    """
    from bridge.clock import SystemClock
    from bridge.mapping.in_force import rules_in_force
    from bridge.rehearsal.dry_run import DryRun
    from bridge.settings import load

    settings = load(config)
    run = DryRun(rules_in_force(settings), settings, SystemClock())
    results = [{"file": str(path), **run.of(path, calling)} for path in files]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for result in results:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    if "file" in result:
        click.echo(click.style(result["file"], bold=True))
    for inner in result.get("batch", ()):
        _print(inner)
    for line in _told(result):
        click.echo(f"  {line}")
    click.echo()


def _told(result: dict[str, Any]) -> Iterator[str]:
    """One result in lines."""
    from bridge.cli.message_shown import trace_line

    if "batch" not in result:
        yield f"state   {result.get('state', '-')} {result.get('reason', '')}".rstrip()
    if result.get("destination"):
        yield f"goes to {result['destination']}"
    if result.get("error"):
        yield f"refused {result['error']}"
    yield from (f"because {name} {_plain(value)}" for name, value in result.get("why", {}).items() if value)
    yield from (f"warning {warning}" for warning in result.get("warnings", ()))
    yield from (f"upload  {_upload(upload)}" for upload in result.get("uploads", ()))
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


def _upload(upload: dict[str, Any]) -> str:
    """What would be uploaded of a group, in words."""
    if not upload["form"]:
        return f"group {upload['group']}, too large to be converted for a look; every sample was read"
    text = f"group {upload['group']} as {upload['form']}, {upload['format']} bits, {upload['size']} bytes"
    return text + (f"; not in the form that is preferred: {upload['instead']}" if upload["instead"] else "")


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
