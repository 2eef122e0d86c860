"""`bridge messages`: where is my message, why was it refused, and what can be done with it."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from bridge.cli import options
from bridge.cli.message_shown import shown
from bridge.cli.messages_acts import discard, release, replay, resolve

_AGE = re.compile(r"^(\d{1,6})([smhd])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@contextlib.contextmanager
def _reading(config: Path | None) -> Iterator[tuple[Any, Any]]:
    """A connection that can only read, beside the running service, and the settings."""
    from bridge.settings import load
    from bridge.store.engines import looking

    settings = load(config)
    with looking(settings.store) as conn:
        yield conn, settings


@click.group("messages")
def command() -> None:
    """Where is my message, and what can be done with it.

    `list`, `show` and `audit` read beside a running service; the others act through it, and take the store themselves
    where it is stopped.
    """


for _act in (release, replay, discard, resolve):
    command.add_command(_act)


def _age(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = _AGE.match(value)
    if found is None:
        raise click.BadParameter("a number with s, m, h or d, such as 10m, 2h or 3d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@command.command("list")
@options.config
@click.option("--state", "states", multiple=True, help="Only this state, such as HELD; may be given again.")
@click.option("--older-than", callback=_age, metavar="AGE", help="Only what came in before that: 10m, 2h, 3d.")
@click.option("--patient", default="", metavar="KEY", help="Only this patient identifier, merges followed.")
@click.option("--order", default="", help="Only this order number.")
@click.option("--control-id", default="", help="Only this MSH-10.")
@click.option("--task-id", default="", help="Only the message that made this task.")
@click.option("--sop-instance-uid", default="", help="Only objects with this UID.")
@click.option("--reason", default="", help="Only this reason, such as contradicts_order.")
@click.option("--anomalies", is_flag=True, help="Only those whose task was made before a change; a person settles it.")
@click.option("--untold", is_flag=True, help="Instead: ids and reports that their receivers would not take.")
@click.option("--before", type=int, metavar="ID", help="The next page: only messages before this one.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10000), help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array; ids are strings.")
def list_messages(
    config: Path | None,
    states: tuple[str, ...],
    older_than: timedelta | None,
    patient: str,
    order: str,
    control_id: str,
    task_id: str,
    sop_instance_uid: str,
    reason: str,
    *,
    anomalies: bool,
    untold: bool,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Messages, newest first."""
    from bridge.clock import SystemClock
    from bridge.domain.states import State
    from bridge.store import listing
    from bridge.store import untold as queues

    wanted = [s.upper() for s in states]
    unknown = [s for s in wanted if s not in set(State)]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is no state; known: {', '.join(State)}", param_hint="--state")
    with _reading(config) as (conn, _):
        if untold:
            _list_untold([asdict(u) for u in queues.held(conn, limit)], as_json=as_json)
            return
        rows = listing.rows(
            conn,
            states=wanted,
            reason=reason,
            patient=patient,
            order=order,
            control_id=control_id,
            sop_instance_uid=sop_instance_uid,
            task_id=task_id,
            received_before=SystemClock().now() - older_than if older_than is not None else None,
            with_anomaly=anomalies,
            before=before,
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
    if len(rows) == limit:
        click.echo(f"perhaps more: --before {rows[-1].id}")


def _list_untold(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("nothing waits to be told that was refused")
        return
    line = "{:<16}  {:>8}  {:<10}  {:<24}  {}"
    click.echo(line.format("id", "message", "reason", "to", "since (UTC)"))
    for r in rows:
        click.echo(line.format(f"{r['queue']}:{r['id']}", r["message"], r["reason"], r["to"], r["since"][:19]))


@command.command("show")
@options.config
@click.argument("message_id", type=int)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def show(config: Path | None, message_id: int, as_json: bool) -> None:
    """One message with every stage: received, mapped, sent, answered, its history, and what can be done with it.

    Shows patient values; a running service notes in the audit trail who looked.
    """
    from bridge.cli.acting_from_here import note_look
    from bridge.clock import SystemClock
    from bridge.dispatch.acts.outlook import outlook
    from bridge.dispatch.answers import Answers
    from bridge.store import listing

    with _reading(config) as (conn, settings):
        found = listing.whole(conn, message_id)
        if found is None:
            raise click.ClickException(f"there is no message {message_id}; see bridge messages list")
        if not note_look(settings, message_id):
            click.echo("the service is stopped: the audit trail does not hold this look", err=True)
        found |= outlook(conn, message_id, settings, Answers(settings.hl7, SystemClock()))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for line in shown(found):
        click.echo(line)


@command.command("audit")
@options.config
@click.option("--since", default=0, metavar="ID", help="Only rows after this one.")
@click.option("--verify", is_flag=True, help="Whether no row was changed, taken out or put between; exit 1 if so.")
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write them as audit messages (DICOM PS3.15 A.5, IHE ITI-20), one a line.",
)
def audit_trail(config: Path | None, since: int, target: Path | None, *, verify: bool) -> None:
    """Who did what to which message, and when; rows are chained by hash."""
    from bridge.console.atna import exported
    from bridge.store import audit

    with _reading(config) as (conn, _):
        if verify:
            broken = audit.verify(conn)
            if broken is not None:
                raise click.ClickException(f"row {broken.id} of the audit trail: {broken.why}")
            click.echo(f"the chain is whole; its newest hash is {audit.newest_hash(conn)}")
        if target is not None:
            with target.open("x", encoding="utf-8") as file:
                count = sum(1 for line in exported(audit.acts(conn, since=since)) if file.write(f"{line}\n"))
            click.echo(f"{target}: {count} audit messages")
        if verify or target is not None:
            return
        for act in audit.acts(conn, since=since):
            what = f"message {act.message_id}" if act.message_id is not None else ""
            detail = json.dumps(act.detail, ensure_ascii=False)
            when = act.at.isoformat()[:19]
            click.echo(f"{act.id:>6}  {when}  {act.actor:<12}  {act.action:<16} {act.outcome:<8} {what}  {detail}")
