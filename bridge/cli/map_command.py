"""`bridge map`: the dry run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bridge.cli import options

PLACEHOLDER = 4711
"""The task id that a dry run shows in the answer."""


@click.command("map")
@options.config
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def command(config: Path | None, files: tuple[Path, ...], as_json: bool) -> None:
    """The task that each HL7 or DICOM file would become, each field's trace, and the exact answer.

    Opens no network and writes nothing. The task id in the answer is a placeholder; what depends on earlier messages
    (a resend, the patient record, the order of a recording) is not known here.
    """
    from bridge.mapping.rules import load_rules
    from bridge.settings import load

    settings = load(config)
    rules = load_rules(settings.mapping_document(), name=settings.mapping.file or "defaults")
    results = [_one(path, rules, settings) for path in files]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for result in results:
        _print(result)


def _one(path: Path, rules: Any, settings: Any) -> dict[str, Any]:
    content = path.read_bytes() if path.stat().st_size <= settings.hl7.max_frame else b""
    if b"MSH" in content[:64] or content[:3] in {b"FHS", b"BHS"}:
        return {"file": str(path), **_message(content.strip(b"\x0b\x1c"), rules, settings)}
    return {"file": str(path), **_object(path, rules, settings)}


def _message(content: bytes, rules: Any, settings: Any) -> dict[str, Any]:
    from bridge.clock import SystemClock
    from bridge.dispatch.answers import Answers
    from bridge.dispatch.understand import understand_message
    from bridge.domain.states import State
    from bridge.domain.verdict import AckCode, OrderReply, Verdict
    from bridge.errors import BadInput
    from bridge.formats.hl7 import batch
    from bridge.formats.hl7.reader import read
    from bridge.mapping.compose import compose_draft
    from bridge.receive.intake import unsupported

    if batch.is_batch(content):
        return {"batch": [_message(body, rules, settings) for body in batch.split(content).messages]}
    clock = SystemClock()
    answers = Answers(settings.hl7, clock)
    try:
        message = read(content, fallback_charset=settings.hl7.fallback_charset)
    except BadInput as problem:
        return {"error": f"{problem.where}: {problem}"}
    refused = unsupported(message, settings.hl7)
    if refused is not None:
        return {"state": "REJECTED", "error": refused.text, "answer": _text(answers.build(message, refused))}
    sender = f"{message.header.sending_application}|{message.header.sending_facility}"
    understood = understand_message(message, sender, rules, settings, clock.now())
    tasks = []
    replies: list[OrderReply] = []
    for order in understood.orders:
        if order.due and understood.state is State.READY:
            request, traces = compose_draft(order.mapped, patient=None, tags=())
            tasks.append({"task": request.fields(), "traces": [_trace(t) for t in traces]})
            replies.append(OrderReply("OK", (PLACEHOLDER + len(tasks) - 1,)))
        elif order.refusal is not None:
            replies.append(OrderReply("UA", reason=order.refusal.text))
        else:
            replies.append(OrderReply("OK"))
    verdict = understood.verdict
    if verdict is None:
        problems = tuple(o.refusal for o in understood.orders if o.refusal is not None)
        verdict = Verdict(AckCode.AE if problems else AckCode.AA, "", tuple(replies), problems)
    return {
        "state": str(State.CREATED if tasks else understood.state),
        "reason": understood.reason,
        "tasks": tasks,
        "patient": {"id": understood.update.identifier.value, **understood.update.said} if understood.update else None,
        "warnings": list(understood.warnings),
        "answer": _text(answers.build(message, verdict)),
    }


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


def _text(answer: bytes) -> str:
    return answer.decode("utf-8", "replace")


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
    if result.get("patient"):
        yield f"patient record {json.dumps(result['patient'], ensure_ascii=False)}"
    if result.get("answer"):
        yield "answer"
        yield from (f"  {line}" for line in result["answer"].rstrip("\r").split("\r"))
