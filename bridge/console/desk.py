"""What every page works with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from bridge.clock import Clock
from bridge.console.access.reveals import Reveals
from bridge.console.changes import Changes
from bridge.console.ecg.overview import Envelopes
from bridge.console.metrics import Metrics
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.answers import Answers
from bridge.mapping.rules import Rules
from bridge.rehearsal.apart import Rehearsals
from bridge.rehearsal.checking import Checks
from bridge.settings import Settings
from bridge.store.payloads import Payloads
from bridge.store.port import Store
from bridge.store.recent import Lately


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
    reveals: Reveals = field(default_factory=Reveals)
    envelopes: Envelopes = field(default_factory=Envelopes)
    rehearsals: Rehearsals = field(default_factory=Rehearsals)
    checks: Checks = field(default_factory=Checks)
    lately: Lately = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lately", Lately(self.store, self.clock))


def desk(request: Request) -> Desk:
    """The desk of the application that this request came to."""
    found: Desk = request.app.state.desk
    return found


OfDesk = Annotated[Desk, Depends(desk)]
