"""`bridge db prune` and `bridge db compact`."""

from pathlib import Path

import click

from bridge.cli import options

_WORDS = {
    "messages": "HL7 messages", "recordings": "recordings", "refused": "what was refused", "alarms": "alarms",
    "sessions": "sessions",
}  # fmt: skip


@click.command("prune")
@options.config
@click.option("--dry-run", "dry", is_flag=True, help="Say what would go; change nothing.")
def prune(config: Path | None, *, dry: bool) -> None:
    """Empty what is finished and older than [retention] says, beside a running service.

    Nothing unfinished goes: what is open, held, in doubt or refused, an order without its recording, a task that is
    watched, a change that nobody has settled. What is pruned is still known when it comes again. It can be stopped at
    any moment; the next one goes on.
    """
    from bridge.cli.pruning_from_here import pruned
    from bridge.dispatch.acts.pruning import Pruned
    from bridge.settings import load

    def tell(done: Pruned, upto: dict[str, str]) -> None:
        if done.after is not None:
            click.echo(f"so far: {done.messages} messages", err=True)
            return
        for name, words in _WORDS.items():
            click.echo(f"{words + ':':<18}{'up to ' + upto[name] if name in upto else 'never'}")
        files = f"{done.files} of them with a file" if dry else f"{done.files} files removed"
        say = "would be emptied" if dry else "emptied"
        click.echo(f"{say}: {done.messages} messages, {done.size >> 10} KiB as received, {files}")
        other = f"{done.alarms} alarms, {done.sessions} sessions, {done.commitments} requests for commitment"
        click.echo(f"{'would go' if dry else 'gone'}: {other}")

    pruned(load(config), dry=dry, tell=tell)


@click.command("compact")
@options.config
def compact(config: Path | None) -> None:
    """Give the room of what was pruned back to the disk; for SQLite, while the service is stopped.

    Needs as much free disk as the database has now.
    """
    from bridge.settings import load
    from bridge.store import compacting

    path = load(config).store.sqlite_path
    before, after = compacting.compact(path)
    click.echo(f"{path}: {before >> 10} KiB before, {after >> 10} KiB now")
