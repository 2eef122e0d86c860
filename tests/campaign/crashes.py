"""Ends in the middle of a line: the service is over at the nth time that it comes to a place, before or behind it.

What a kill at a random instant hits once in a thousand times (between a commit and whoever waits for it, between the
API's answer and its commit, between a payload's name and its row) is hit each time here. The service itself knows
nothing of it: the nursery wraps the places before it starts.
"""

import functools
import importlib
import inspect
import itertools
import os
import random
from collections.abc import Callable
from typing import Any

PLACE = "CAMPAIGN_CRASH"
"""The environment's name for `side:place:n`."""
CODE = 86

PLACES = {
    "commit": ("bridge.store.sqlite", "SqliteStore", "_end", 12),
    "create": ("bridge.dispatch.cardio.client", "CardioClient", "create_tasks", 3),
    "upload": ("bridge.dispatch.cardio.client", "CardioClient", "open_upload", 2),
    "chunk": ("bridge.dispatch.cardio.client", "CardioClient", "send_chunk", 4),
    "payload": ("bridge.store.payloads", "Incoming", "keep", 2),
    "spooled": ("bridge.store.payload_folder", "Folder", "_synced", 2),
    "let-go": ("bridge.store.payloads", "Incoming", "close", 2),
    "answered": ("bridge.store.sqlite", "SqliteStore", "_tell_loop", 12),
}
"""Module, class and function of each, and the number of times at the most that it is passed before."""


def draw(dice: random.Random) -> dict[str, str]:
    """The environment of a service that will end so."""
    place = dice.choice(list(PLACES))
    return {PLACE: f"{dice.choice(('before', 'behind'))}:{place}:{dice.randint(1, PLACES[place][3])}"}


def armed() -> None:
    """In the service, called by the nursery: wraps the place that the environment names, if it names one."""
    if PLACE not in os.environ:
        return
    side, place, number = os.environ[PLACE].split(":")
    wrap(PLACES[place][:3], side, int(number), lambda: os._exit(CODE))


def wrap(place: tuple[str, str, str], side: str, number: int, act: Callable[[], object]) -> None:
    """Act at the nth time that this function of a class is come to: module, class and function."""
    module, owner, function = place
    kind = getattr(importlib.import_module(module), owner)
    found = inspect.getattr_static(kind, function)
    plain = found.__func__ if isinstance(found, staticmethod) else found
    wrapped = _wrapped(plain, side, number, act)
    setattr(kind, function, staticmethod(wrapped) if isinstance(found, staticmethod) else wrapped)


def _wrapped(function: Callable[..., Any], side: str, number: int, act: Callable[[], object]) -> Callable[..., Any]:
    passed = itertools.count(1)

    def end(at: str) -> None:
        if at == side and next(passed) == number:
            act()

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*given: Any, **named: Any) -> Any:
            end("before")
            came = await function(*given, **named)
            end("behind")
            return came

        return later

    @functools.wraps(function)
    def now(*given: Any, **named: Any) -> Any:
        end("before")
        came = function(*given, **named)
        end("behind")
        return came

    return now
