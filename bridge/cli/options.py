"""Options that several commands share."""

from pathlib import Path

import click

config = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (TOML). Default: $BRIDGE_CONFIG, else bridge.toml here, else the defaults.",
)
"""`--config FILE`."""
