"""An act on a message from the command line: asked of the running service, else done with the store in hand."""

import asyncio
import http.client
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

from bridge.cli.store_in_hand import store_in_hand
from bridge.clock import SystemClock
from bridge.console.asking import Wanted, perform
from bridge.console.owner import path_of, user_name
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.answers import Answers
from bridge.dispatch.cardio.response import TaskStatus
from bridge.dispatch.destination import client_for
from bridge.domain.outcome import Outcome
from bridge.errors import ActionRefused, BridgeError, SettingsError, StoreError, StoreRefused
from bridge.mapping.in_force import rules_in_force
from bridge.serving import reachable
from bridge.settings import Settings

_TARGET = re.compile(r"^((outbound|commitment):)?[0-9]{1,18}$", re.ASCII)
PATIENCE = 90.0
"""Seconds: a resolution asks the API, which may take its whole deadline."""


class _ToSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with reachable(self._path) as name:
            self.sock.connect(name)


def act(settings: Settings, target: str, verb: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Do it; what came of it. Raises ActionRefused, StoreError, StoreRefused or SettingsError."""
    if not _TARGET.match(target):
        raise ActionRefused(f"{verb}: a message's id is asked for, or outbound:ID or commitment:ID")
    connection = connected(settings)
    if connection is None:
        return asyncio.run(_alone(settings, target, verb, wanted))
    try:
        return _asked(connection, target, verb, wanted)
    finally:
        connection.close()


def connected(settings: Settings) -> http.client.HTTPConnection | None:
    """To the running service; None where it is stopped. Raises StoreRefused where the socket cannot be used."""
    connection = _ToSocket(path_of(settings))
    try:
        connection.connect()
    except OSError as cause:
        connection.close()
        if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
            return None
        raise StoreRefused(f"store.url: {path_of(settings)} cannot be used: {cause.strerror}") from cause
    return connection


def note_look(settings: Settings, message_id: int) -> bool:
    """Have the running service note that a message was looked at. False where it is stopped: reading changes nothing,
    and the store is not taken for it.
    """
    connection = _ToSocket(path_of(settings))
    try:
        connection.connect()
        _asked(connection, str(message_id), "show", {})
    except (OSError, BridgeError):
        return False
    finally:
        connection.close()
    return True


def _asked(connection: http.client.HTTPConnection, target: str, verb: str, wanted: dict[str, Any]) -> dict[str, Any]:
    return said_by(connection, f"/api/messages/{target}/{verb}", wanted, look_with="bridge messages show")


def said_by(
    connection: http.client.HTTPConnection, path: str, wanted: dict[str, Any], *, look_with: str
) -> dict[str, Any]:
    """What the service says to this. Raises ActionRefused, or StoreError that says how to look what came of it."""
    try:
        document = json.dumps(wanted)
        connection.request("POST", path, document, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as cause:
        raise StoreError(
            f"the service did not say what came of it ({type(cause).__name__}); look with {look_with}"
        ) from cause
    if "refused" in said:
        raise ActionRefused(said["refused"])
    if "failed" in said:
        raise StoreError(said["failed"])
    acted: dict[str, Any] = said
    return acted


async def _alone(settings: Settings, target: str, verb: str, wanted: dict[str, Any]) -> dict[str, Any]:
    clock = SystemClock()
    with store_in_hand(settings, clock) as store:
        answers = Answers(settings.hl7, clock)

        async def status_of(name: str, task: int) -> TaskStatus | Outcome:
            return await _status_of(settings, name, task)

        acting = Acting(store, answers, rules_in_force(settings), settings, clock, status_of)
        acted = await perform(acting, user_name(os.getuid()), target, verb, Wanted.model_validate(wanted))
    return acted.as_json()


async def _status_of(settings: Settings, name: str, task: int) -> TaskStatus | Outcome:
    known = settings.cardio.all()
    if name and name not in known:
        raise SettingsError(f"cardio: there is no destination {name} any more; name one so in cardio.destinations")
    client = client_for(known[name] if name else settings.cardio)
    try:
        return await client.task_status(task)
    finally:
        await client.aclose()
