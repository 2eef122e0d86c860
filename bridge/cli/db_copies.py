"""`bridge db backup` and `bridge db restore`."""

from pathlib import Path

import click

from bridge.cli import options

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("backup")
@options.config
@click.argument("target", metavar="FILE", type=_FILE)
def backup(config: Path | None, target: Path) -> None:
    """A consistent copy of the database as FILE, beside running services. Replaces nothing.

    On PostgreSQL it is pg_dump's, in its custom format. Copy the payloads and site.key after it. A copy that is put
    back starts in quarantine: what may have been sent since it was made is held for a person.
    """
    from bridge.settings import load
    from bridge.store import backup as copies
    from bridge.store import postgres_backup, postgres_engine

    settings = load(config)
    store = settings.store
    if store.is_sqlite:
        size = copies.copy(store.sqlite_path, target)
    else:
        size = postgres_backup.dump(postgres_engine.url(store.url, store.password_file), target)
    key = settings.site.key_file or "site.key"
    click.echo(f"{target}: {size >> 10} KiB, whole; now copy {store.payloads} and {key}")


@click.command("restore")
@options.config
@click.argument("source", metavar="FILE", type=_FILE)
def restore(config: Path | None, source: Path) -> None:
    """Put a copy made by `bridge db backup` in the place that store.url names, where nothing is yet.

    It is in quarantine from its first moment on: a service takes custody on it and sends nothing until
    `bridge db release`. Put the payloads and site.key back as well before a service starts. A copy of a store on
    SQLite is taken into a database on PostgreSQL too: that is how the one becomes the other.
    """
    from bridge.settings import load
    from bridge.store import backup as copies
    from bridge.store import from_sqlite, migrate, postgres_backup, postgres_engine

    store = load(config).store
    if store.is_sqlite:
        copies.put_back(source, store.sqlite_path)
        schema = migrate.newest()
    else:
        address = postgres_engine.url(store.url, store.password_file)
        if copies.is_of_sqlite(source):
            schema = from_sqlite.put_over(address, source, store.own_folder)
        else:
            schema = postgres_backup.put_back(address, source)
    click.echo(f"restored, at schema {schema}, and in quarantine: nothing is sent until bridge db release")
    if schema != migrate.newest():
        click.echo("its schema is older than this version's: bridge db upgrade comes first")
