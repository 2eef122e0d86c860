"""`bridge db`."""

from pathlib import Path

import click

from bridge.cli import options
from bridge.cli.db_copies import backup, restore
from bridge.cli.db_prune import compact, prune


@click.group("db")
def command() -> None:
    """The store: its schema, a copy of it, counts for the books, and its way out of quarantine."""


for _one in (backup, restore, prune, compact):
    command.add_command(_one)


@command.command("upgrade")
@options.config
def upgrade(config: Path | None) -> None:
    """Bring the store to this version's schema; `bridge run` does it by itself on SQLite.

    On PostgreSQL it runs beside services of the version before, which go on.
    """
    from bridge.settings import load
    from bridge.store import engines, migrate

    what = engines.upgrade(load(config).store)
    click.echo(f"{what}: schema {migrate.newest()}")


@command.command("release")
@options.config
@click.option(
    "--waiting",
    type=click.Choice(["hold", "send"]),
    required=True,
    help="What came in during the quarantine: hold it for a look each, or send it, since none of it was here before.",
)
@click.option("--reason", required=True, help="Why this database is the right one; it goes into the audit trail.")
def release(config: Path | None, waiting: str, reason: str) -> None:
    """Let a store out of quarantine; the service is stopped for it. From its next start on it sends again.

    On PostgreSQL every other process of it ends by itself then, to be started anew.

    What was open in the copy stays held: its POST may have happened. Messages that were received between the copy and
    its return are not in it. Their senders bring them again, and the bridge takes them for new: `--waiting hold` keeps
    such ones back, so let the senders repeat before the release.
    """
    import asyncio
    import getpass

    from bridge.cli.store_in_hand import store_in_hand
    from bridge.clock import SystemClock
    from bridge.errors import StoreRefused
    from bridge.settings import load
    from bridge.store import audit, quarantine
    from bridge.store.port import Transaction

    settings = load(config)

    async def work() -> int:
        with store_in_hand(settings, SystemClock()) as store:
            if not store.quarantine:
                raise StoreRefused("store.url: the store is not in quarantine; there is nothing to release")

            def write(tx: Transaction) -> int:
                now = SystemClock().now()
                meanwhile = quarantine.release(tx, at=now, send_waiting=waiting == "send")
                detail = {"reason": reason, "why": store.quarantine, "waiting": waiting, "messages": meanwhile}
                audit.note(tx, at=now, actor=getpass.getuser(), action="release_quarantine", detail=detail)
                return meanwhile

            return await store.release_quarantine(write)

    meanwhile = asyncio.run(work())
    fate = "are held" if waiting == "hold" else "are sent at the next start"
    click.echo(f"released; {meanwhile} messages that came in meanwhile {fate}")
    click.echo("what was open in the copy is held: bridge messages list --state HELD")


@command.command("counts")
@options.config
@click.option("--days", default=7, show_default=True, help="How many days, up to today.")
def counts(config: Path | None, days: int) -> None:
    """Tasks of each day, to be laid beside the export of Cardio.AI's dashboard; exit status 1 on an id named twice."""
    import sys
    from datetime import timedelta
    from zoneinfo import ZoneInfo

    from bridge.clock import SystemClock
    from bridge.settings import load
    from bridge.store import watched
    from bridge.store.engines import looking

    settings = load(config)
    zone = ZoneInfo(settings.site.time_zone)
    today = SystemClock().now().astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    with looking(settings.store) as conn:
        found = watched.by_day(conn, zone, since=today - timedelta(days=days - 1))
        twice = watched.named_twice(conn)
    line = "{:<10}  {:>8}  {:>10}  {:>8}  {:>8}"
    click.echo(line.format("day", "drafts", "recordings", "in doubt", "task ids"))
    for name, day in found.items():
        click.echo(line.format(name, day.drafts, day.recordings, day.in_doubt, day.ids))
    if twice:
        click.echo(f"task ids that two messages have, an incident: {', '.join(twice)}", err=True)
        sys.exit(1)
