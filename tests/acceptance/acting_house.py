"""Hands for people in tests: who acts, what he sees, and the command line beside a running bridge."""

import asyncio
import getpass
import json
import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from click.testing import CliRunner

from bridge.cli import root
from bridge.clock import SystemClock
from bridge.dispatch.acts.outlook import outlook
from bridge.dispatch.answers import Answers
from bridge.errors import BridgeError
from bridge.settings import load
from bridge.store import audit
from bridge.store.audit import Act
from tests.acceptance.scene import House

ME = getpass.getuser()


_LOGGED = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[.*\n", re.MULTILINE)
"""What the service, in the same process, logs while a command runs."""


@dataclass
class Ended:
    """What a command printed, and its exit status."""

    status: int
    out: str

    def json(self) -> Any:
        return json.loads(self.out)


async def command(it: House, *words: str) -> Ended:
    """`bridge WORDS` in a thread of its own, as if typed beside the service."""

    def run() -> Ended:
        done = CliRunner(env=it.environment).invoke(root, list(words))
        if isinstance(done.exception, BridgeError):
            return Ended(1, f"bridge: {done.exception}")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Ended(done.exit_code, _LOGGED.sub("", done.output))

    return await asyncio.to_thread(run)


async def messages(it: House, *words: str) -> Ended:
    """`bridge messages WORDS`."""
    return await command(it, "messages", *words)


async def seen(it: House, message_id: str) -> dict[str, Any]:
    """What a person is told of a message, and can do with it."""
    settings = load(None, it.environment)
    answers = Answers(settings.hl7, SystemClock())
    return await it.up.store.read(lambda conn: outlook(conn, int(message_id), settings, answers))


async def trail(it: House) -> list[Act]:
    """The audit trail; fails where its chain is broken."""

    def look(conn: sa.Connection) -> list[Act]:
        assert audit.verify(conn) is None
        return list(audit.acts(conn))

    return await it.up.store.read(look)


def posts(it: House) -> list[dict[str, Any]]:
    """The task POSTs that the API was given, oldest first."""
    return [e for e in it.sandbox.journal.select("tasks") if e["method"] == "POST"]


def made_tags(it: House) -> list[str]:
    """The keys of the tasks that the API has, oldest first."""
    made = [t.request.get("searching_tags", ()) for t in it.sandbox.tasks.values()]
    return [tag for tags in made for tag in tags if tag.startswith("br1-")]


async def tag_in_doubt(it: House, message_id: str) -> str:
    """The key that a person is to search."""
    (doubt,) = (await seen(it, message_id))["doubts"]
    tag: str = doubt["tag"]
    return tag
