"""The command line: `bridge COMMAND`. One file a command, imported only when it is called."""

import gc
import importlib
import sys

import click

from bridge.errors import BridgeError

COMMANDS = {
    "run": "the service: MLLP and DICOM listeners, dispatcher, console",
    "demo": "all of it on loopback against the sandbox API, with the sample messages",
    "sandbox": "the Cardio API as documented, with switches for faults",
    "check": "settings, mapping, store, clock, disk, API and token: ok, warning or error",
    "map": "dry run: the task and the exact answer that a file would become",
    "convert": "the upload file of a DICOM ECG, with the proof that no sample changed",
    "lint": "conformance report of an HL7 message or a DICOM ECG object",
    "send": "plays a HIS (MLLP) or a cart (C-STORE) and prints the answer",
    "messages": "where is my message, and what can be done with it",
    "db": "the store: upgrade, backup, restore, retention, counts a day, release from quarantine",
}

USUAL = gc.get_threshold()
_SELDOM = (50_000, 20, 50)
"""What a start reads makes some 360,000 objects that stay. By the usual thresholds they are looked at again and again:
that took a fifth of a start, and the last look on the way out about as long again (measured)."""


class _Lazy(click.Group):
    """Knows its commands by name, and imports one when it is called: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bridge.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def root() -> None:
    """The bridge between hospitals (HL7 v2 over MLLP, DICOM ECGs) and the Cardio API.

    First hour: `bridge demo` shows everything on this machine; `bridge check` tells what your settings lack;
    `bridge map FILE` shows the task that a message of yours would become; then `bridge run`.
    """


def main() -> None:
    """Entry point. An error that the bridge can name is one line on standard error and exit status 1."""
    gc.set_threshold(*_SELDOM)
    try:
        root()
    except BridgeError as problem:
        click.echo(f"bridge: {problem}", err=True)
        sys.exit(1)
    finally:
        gc.freeze()


def stay() -> None:
    """What was read stays to the end, and is looked at no more; what comes from here on is collected as ever."""
    gc.freeze()
    gc.set_threshold(*USUAL)
