"""`bridge messages`: where is my message."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bridge.cli import options


def _reading(config: Path | None) -> Any:
    """A connection that can only read, beside the running service."""
    from bridge.errors import StoreRefused
    from bridge.settings import load
    from bridge.store.sqlite import reader_engine

    path = load(config).store.sqlite_path
    if not path.exists():
        raise StoreRefused(f"store.url: there is no store at {path} yet; `bridge run` makes it on its first start")
    return reader_engine(path)


@click.group("messages")
def command() -> None:
    """Where is my message: list and show. Reads beside a running service."""


@command.command("list")
@options.config
@click.option("--state", "states", multiple=True, help="Only this state, such as HELD; may be given again.")
@click.option("--order", default="", help="Only this order number.")
@click.option("--control-id", default="", help="Only this MSH-10.")
@click.option("--task-id", default="", help="Only the message that made this task.")
@click.option("--anomalies", is_flag=True, help="Only those whose task was made before a change; a person settles it.")
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array; ids are strings.")
def list_messages(
    config: Path | None,
    states: tuple[str, ...],
    order: str,
    control_id: str,
    task_id: str,
    *,
    anomalies: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Messages, newest first."""
    from bridge.domain.states import State
    from bridge.store import listing

    wanted = [s.upper() for s in states]
    unknown = [s for s in wanted if s not in set(State)]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is no state; known: {', '.join(State)}", param_hint="--state")
    with _reading(config).connect() as conn:
        rows = listing.rows(
            conn,
            states=wanted,
            order=order,
            control_id=control_id,
            task_id=task_id,
            with_anomaly=anomalies,
            limit=limit,
        )
    if as_json:
        click.echo(json.dumps([asdict(r) for r in rows], ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("no message of that kind")
        return
    line = "{:>8}  {:<10}  {:<22}  {:<28}  {:<19}  {}"
    click.echo(line.format("id", "state", "reason", "type", "received (UTC)", "tasks"))
    for r in rows:
        click.echo(line.format(r.id, r.state, r.reason, r.type, r.received_at[:19], ",".join(r.task_ids)))


@command.command("show")
@options.config
@click.argument("message_id", type=int)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def show(config: Path | None, message_id: int, as_json: bool) -> None:
    """One message with every stage: received, mapped, sent, answered, and its history. Shows patient values."""
    from bridge.store import listing

    with _reading(config).connect() as conn:
        found = listing.whole(conn, message_id)
    if found is None:
        raise click.ClickException(f"there is no message {message_id}; see bridge messages list")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    click.echo(f"message {found['id']}  {found['state']}  {found['reason']}")
    click.echo(f"{found['type']} from {found['sender']} at {found['peer']}, {found['received_at']}, {found['size']} B")
    if found["raw"]:
        _section("received", found["raw"].replace("\r", "\n").rstrip())
    else:
        _section("received", f"payload {found['payload']}, SOP instance {found['sop_instance_uid']}")
    for task in found["tasks"]:
        _section(
            f"task {','.join(task['task_ids']) or '-'}  {task['state']} {task['reason']} ({task['purpose']})",
            "\n".join(trace_line(t) for t in task["traces"]),
        )
        if task["api_text"]:
            click.echo(f"  the API said: {task['api_status']} {task['api_text']}")
    _show_what_came_of(found)


def _show_what_came_of(found: dict[str, Any]) -> None:
    """What was said about it, then and later, and its history."""
    if found["answer"]:
        _section("answered", found["answer"].replace("\r", "\n").rstrip())
    elif found["answer_code"]:
        _section("answered", found["answer_code"])
    for told in found["told_later"]:
        title = (
            f"told to {told['address']}: {told['kind']}  {told['state']} {told['reason']}, {told['attempts']} failed"
        )
        _section(title, told["body"].replace("\r", "\n").rstrip())
    for anomaly in found["anomalies"]:
        settled = "settled" if anomaly["settled"] else "for a person"
        text = f"message {anomaly['message']} came after task {','.join(anomaly['task_ids']) or '-'}"
        _section(f"anomaly {anomaly['reason']}, {settled}", f"{text} of message {anomaly['task_message']}")
    lines = []
    for e in found["history"]:
        detail = json.dumps(e["detail"], ensure_ascii=False) if e["detail"] else ""
        lines.append(f"{e['at'][:23]}  {e['state']:<10} {e['reason']} {detail}".rstrip())
    _section("history", "\n".join(lines))


def _section(title: str, text: str) -> None:
    click.echo(f"\n{title}")
    for line in text.splitlines():
        click.echo(f"  {line}")


def trace_line(trace: dict[str, Any]) -> str:
    """*field ← value ← source ← rule*, in one line."""
    note = f"  ({trace['note']})" if trace["note"] else ""
    value = json.dumps(trace["value"], ensure_ascii=False)
    return f"{trace['field']} ← {value} ← {trace['where']} ← {trace['rule']}{note}"
