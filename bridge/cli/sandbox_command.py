"""`bridge sandbox`."""

import asyncio
import signal
from pathlib import Path

import click

from bridge.cli import stay


@click.command("sandbox")
@click.option("--listen", default="127.0.0.1:8090", show_default=True, help="host:port; port 0 takes any free one.")
@click.option("--token", default="sandbox-token", show_default=True, help="The API token that it takes.")
@click.option("--organization", default="sandbox-hospital", show_default=True, help="The organization path it knows.")
@click.option("--latency", default=0.0, type=click.FloatRange(min=0), help="Seconds that every call takes.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append each task that it creates to this file, one JSON line each.",
)
def command(listen: str, token: str, organization: str, latency: float, journal: Path | None) -> None:
    """The Cardio API as documented, in memory, with faults to switch on.

    \b
    GET /_sandbox/requests?path=tasks&since=N   what it was given, and what it did
    GET /_sandbox/tasks                         what it created
    GET /_sandbox/tasks/ID/record.zip           the uploaded bytes of a task
    PUT /_sandbox/faults                        a JSON list, such as
        [{"kind": "429", "on": "tasks", "times": 3, "retry_after": "2"}]; DELETE takes them away
    PATCH /_sandbox/settings                    the token, and what the API's documentation leaves open
    """  # noqa: D301  \b keeps click from wrapping the table
    import uvloop

    from bridge.errors import SettingsError
    from bridge.sandbox.cardio_api import Sandbox
    from bridge.sandbox.cardio_faults import KINDS
    from bridge.serving import open_socket, serving
    from bridge.settings import host_port

    try:
        sandbox = Sandbox(token=token, organization=organization, journal_file=journal)
    except OSError as cause:
        raise SettingsError(f"--journal: cannot write {journal}: {cause.strerror or cause}") from cause
    if latency:
        sandbox.faults.add("latency", seconds=latency)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        sock = open_socket(*host_port(listen), setting="--listen")
        async with serving(sandbox.application(), sock) as address:
            click.echo(f"faults: {', '.join(KINDS)}")
            click.echo("point a bridge at it with:")
            click.echo(f"  BRIDGE_CARDIO__BASE_URL=http://{address} BRIDGE_CARDIO__TOKEN={token}")
            click.echo(f"  BRIDGE_CARDIO__ORGANIZATION_PATH={organization}")
            click.echo(f"sandbox http://{address}")
            await stop.wait()
            sandbox.hang_up()
        sandbox.close()

    stay()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
