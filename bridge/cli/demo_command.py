"""`bridge demo`: the whole bridge on loopback against the sandbox API, with the sample messages."""

import asyncio
import sys
from pathlib import Path

import click

from bridge.cli import stay

SAMPLES = Path(__file__).parent.parent.parent / "sample_messages"


@click.command("demo")
@click.option(
    "--once", is_flag=True, help="End after the table; exit 0 only if every message got its recorded outcome."
)
@click.option(
    "--samples",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=SAMPLES,
    help="Another folder of messages.",
)
@click.option("--record", is_flag=True, hidden=True, help="Write the outcomes seen beside the messages.")
def command(samples: Path, *, once: bool, record: bool) -> None:
    """All of it on this machine: the sandbox API, the bridge, and a HIS and a cart that send the sample messages.

    One line a message: what came in, the patient's key masked, the answer, the task ids, milliseconds. Everything
    lies in a temporary folder that is gone at the end. Then it stays up for you to send messages of your own.
    """
    import uvloop

    from bridge import logs
    from bridge.cli.demo_scene import play

    logs.configure("error")
    stay()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            as_recorded = runner.run(play(samples, stay=not once, record=record))
        except KeyboardInterrupt:
            return
    if not as_recorded:
        sys.exit(1)
