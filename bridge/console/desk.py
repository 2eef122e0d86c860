"""What every page works with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from bridge.clock import Clock
from bridge.console.changes import Changes
from bridge.console.metrics import Metrics
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.answers import Answers
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store.payloads import Payloads
from bridge.store.port import Store


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts of the running bridge that people look at and act by."""

    store: Store
    payloads: Payloads
    settings: Settings
    rules: Mapping[str, Rules]  # by listener, as loaded at the start
    answers: Answers
    acting: Acting
    metrics: Metrics
    clock: Clock
    key: bytes  # the site's
    addresses: Mapping[str, str]  # what the listeners took, by name
    changes: Changes = field(default_factory=Changes)


def desk(request: Request) -> Desk:
    """The desk of the application that this request came to."""
    found: Desk = request.app.state.desk
    return found


OfDesk = Annotated[Desk, Depends(desk)]
