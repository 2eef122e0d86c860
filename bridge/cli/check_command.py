"""`bridge check`: what your settings lack, before the night does it."""

import sys
from pathlib import Path

import click

from bridge.cli import options


@click.command("check")
@options.config
def command(config: Path | None) -> None:
    """Settings, mapping, store, clock, free disk, API and token: each line ok, warning or error.

    Exit status 1 on an error. Asks the API for the status of task 0, which creates nothing.
    """
    from bridge.errors import BridgeError
    from bridge.rehearsal.checks import Line, checked
    from bridge.settings import load

    worst = 0
    try:
        lines = checked(load(config))
    except BridgeError as problem:
        lines = iter([Line("error", "settings", str(problem))])
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for line in lines:
        click.echo(f"{click.style(f'{line.level:<8}', fg=colours[line.level])} {line.what:<9} {line.text}")
        worst = max(worst, line.level == "error")
    sys.exit(worst)
