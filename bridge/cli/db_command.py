"""`bridge db`."""

from pathlib import Path

import click

from bridge.cli import options


@click.group("db")
def command() -> None:
    """Migrations of the store."""


@command.command("upgrade")
@options.config
def upgrade(config: Path | None) -> None:
    """Bring the store to this version's schema; `bridge run` does it by itself on SQLite."""
    from bridge.settings import load
    from bridge.store import migrate
    from bridge.store.sqlite import writer_engine

    path = load(config).store.sqlite_path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = writer_engine(path)
    migrate.upgrade(engine)
    engine.dispose()
    click.echo(f"{path}: schema {migrate.newest()}")
