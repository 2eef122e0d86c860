"""`bridge run`."""

import asyncio
from pathlib import Path

import click

from bridge.cli import options, stay


@click.command("run")
@options.config
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option(
    "--role",
    "roles",
    type=click.Choice(["receive", "dispatch", "console"]),
    multiple=True,
    help="A part of it, with a store on PostgreSQL; may be given several times. None: all of it.",
)
def command(config: Path | None, log_level: str, roles: tuple[str, ...]) -> None:
    """The service: MLLP listener, DICOM listener, dispatcher and console, until SIGTERM.

    Prints the addresses that it took, one a line, then `ready`. Logs are JSON lines on standard error.
    """
    import uvloop

    from bridge import logs
    from bridge.app import ROLES, serve
    from bridge.settings import load

    logs.configure(log_level)
    settings = load(config)
    stay()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, click.echo, frozenset(roles) or ROLES))
