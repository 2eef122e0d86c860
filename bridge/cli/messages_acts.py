"""`bridge messages release|replay|discard|resolve`: through the running service, or with the store in hand."""

import json
from pathlib import Path
from typing import Any

import click

from bridge.cli import options

_TARGET = click.argument("target", metavar="ID")
_REASON = click.option("--reason", default="", help="Why; kept in its history and in the audit trail. Name no patient.")
_JSON = click.option("--json", "as_json", is_flag=True, help="What came of it, as JSON.")


@click.command("release")
@options.config
@_TARGET
@click.option("--order", help="The recording belongs to this order: a number or id:N of a candidate in `show`.")
@click.option("--without-order", is_flag=True, help="The recording belongs to no order: a task from its own data.")
@_REASON
@_JSON
def release(
    config: Path | None, target: str, order: str | None, reason: str, *, without_order: bool, as_json: bool
) -> None:
    """Let a held message go on; outbound:ID and commitment:ID go out again.

    A recording that the match held needs a word: --order or --without-order. Everything else is tried again, and a held
    move of an identifier is carried out.
    """
    wanted: dict[str, Any] = {"reason": reason} if reason else {}
    if order is not None:
        wanted["order"] = order
    if without_order:
        wanted["without_order"] = True
    _ask(config, target, "release", wanted, as_json=as_json)


@click.command("replay")
@options.config
@_TARGET
@_REASON
@_JSON
def replay(config: Path | None, target: str, reason: str, *, as_json: bool) -> None:
    """Understand a held or refused message anew, by the mapping in force now.

    What the API refused (400, 415) is sent as a new generation, since a refusal is not applied. What may have been
    applied is never sent again by this.
    """
    _ask(config, target, "replay", {"reason": reason} if reason else {}, as_json=as_json)


@click.command("discard")
@options.config
@_TARGET
@click.option("--reason", required=True, help="Why; kept in its history and in the audit trail. Name no patient.")
@_JSON
def discard(config: Path | None, target: str, reason: str, *, as_json: bool) -> None:
    """A held or refused message never becomes a task, and what waited behind it goes on.

    So does one whose destination the settings name no more.

    outbound:ID and commitment:ID are never told.
    """
    _ask(config, target, "discard", {"reason": reason}, as_json=as_json)


@click.command("resolve")
@options.config
@_TARGET
@click.option("--task", help="Its task is there, with this id: checked against the API and the window of the POST.")
@click.option("--resend", is_flag=True, help="Its task is not there: it is sent again, as a new generation.")
@click.option("--give-up", is_flag=True, help="Its task is not there, and none is wanted any more.")
@click.option("--anomaly", type=int, help="A task made before a change, by its number in `show`: it is put right.")
@click.option("--tag", default="", help="Which of several doubts, by its tag; with --task.")
@click.option("--confirm", default="", help="The tag once more: with --resend and --give-up, told by a first call.")
@_REASON
@_JSON
def resolve(
    config: Path | None,
    target: str,
    task: str | None,
    anomaly: int | None,
    tag: str,
    confirm: str,
    reason: str,
    *,
    resend: bool,
    give_up: bool,
    as_json: bool,
) -> None:
    """Settle what is in doubt: the task POST whose answer was lost.

    --resend and --give-up count after cardio.quiet_time alone, and need a reason and the tag in --confirm.
    """
    said = {
        "task": task, "resend": resend, "give_up": give_up, "anomaly": anomaly, "tag": tag, "confirm": confirm,
        "reason": reason,
    }  # fmt: skip
    _ask(config, target, "resolve", {k: v for k, v in said.items() if v not in {None, False, ""}}, as_json=as_json)


def _ask(config: Path | None, target: str, verb: str, wanted: dict[str, Any], *, as_json: bool) -> None:
    from bridge.cli.acting_from_here import act
    from bridge.settings import load

    acted = act(load(config), target, verb, wanted)
    click.echo(json.dumps(acted, ensure_ascii=False, indent=2) if as_json else acted["text"])
