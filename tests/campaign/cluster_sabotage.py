"""A deliberate fault for the cluster's judge to find: work is claimed whatever stands before it of its patient."""

import os

import sqlalchemy as sa

from bridge.store import line
from bridge.store.prepared import Prepared

SWITCH = "CAMPAIGN_SABOTAGE"


def plant_asked_for() -> None:
    """In the service, called before it starts: plants it where the environment says so."""
    if SWITCH not in os.environ:
        return
    line._HELD_UP = sa.false()  # type: ignore[assignment]
    line._CLAIM = Prepared(line._claiming())
    goes_to, smaller = sa.bindparam("goes_to"), sa.bindparam("smaller")
    fits = sa.or_(line._next.c.kind == "hl7", line._next.c.size < smaller)
    line._CLAIM_OF = Prepared(line._claiming(line._next.c.destination == goes_to, fits))
