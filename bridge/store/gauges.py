"""What metrics and alarms are made of: counts and ages, never a patient or an order."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from bridge.domain.states import State
from bridge.store import line, listing, quarantine, watched, workers
from bridge.store.schema import (
    anomaly,
    clinical_order,
    commitment,
    destination,
    message,
    moment,
    outbound,
    task,
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A message with a POST whose outcome is not known, since when, and whether its order is urgent.

    That it is urgent is known where orders are planned for a worklist (`dicom.worklist.enabled`), and nowhere else.
    """

    message_id: int
    since: datetime
    stat: bool


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where everything stands. Ages are seconds; 0 where there is nothing."""

    states: Mapping[str, int] = field(default_factory=dict)
    doubts: int = 0
    oldest_doubt: float = 0.0
    queue: Mapping[str, int] = field(default_factory=dict)
    oldest_ready: float = 0.0
    down: Mapping[str, bool] = field(default_factory=dict)
    outbound: Mapping[str, int] = field(default_factory=dict)
    commitment: Mapping[str, int] = field(default_factory=dict)
    anomalies: int = 0
    watched: int = 0
    quarantine: bool = False
    workers: Mapping[str, int] = field(default_factory=dict)


_IN_DOUBT = task.c.state == sa.literal_column(f"'{State.IN_DOUBT}'", sa.Text)
"""Written out, not bound, so that the partial index of doubts can serve."""


def doubts(conn: sa.Connection) -> list[Doubt]:
    """Each message in doubt, by its oldest doubt, the oldest first."""
    query = (
        sa.select(
            task.c.message_id,
            sa.func.coalesce(task.c.settled_at, task.c.intent_at).label("since"),
            clinical_order.c.plan,
        )
        .join(clinical_order, clinical_order.c.id == task.c.order_id, isouter=True)
        .where(_IN_DOUBT)
        .order_by(sa.text("since"))
    )
    found: dict[int, Doubt] = {}
    for message_id, since, plan in conn.execute(query):
        stat = bool(plan) and json.loads(plan).get("priority") == "STAT"
        known = found.get(message_id)
        found[message_id] = Doubt(
            message_id, known.since if known else moment(since), stat or bool(known and known.stat)
        )
    return list(found.values())


def queue(conn: sa.Connection) -> dict[str, int]:
    """How many messages wait to be sent or are being sent, by destination."""
    query = sa.select(message.c.destination, sa.func.count()).where(*line.TO_BE_SENT).group_by(message.c.destination)
    return {row[0]: row[1] for row in conn.execute(query)}


def oldest_ready(conn: sa.Connection) -> datetime | None:
    """When the message that waits longest was received."""
    found = conn.execute(sa.select(sa.func.min(message.c.received_at)).where(*line.TO_BE_SENT)).scalar()
    return None if found is None else moment(found)


def gauges(conn: sa.Connection, *, at: datetime) -> Gauges:
    """Everything at once. Counts every message, which takes its time in a large store."""
    in_doubt = doubts(conn)
    ready = oldest_ready(conn)
    return Gauges(
        states=listing.counts(conn),
        doubts=len(in_doubt),
        oldest_doubt=max(((at - one.since).total_seconds() for one in in_doubt), default=0.0),
        queue=queue(conn),
        oldest_ready=max((at - ready).total_seconds(), 0.0) if ready else 0.0,
        down={row.name: row.down for row in conn.execute(sa.select(destination.c.name, destination.c.down))},
        outbound=_by_state(conn, outbound),
        commitment=_by_state(conn, commitment),
        anomalies=conn.execute(sa.select(sa.func.count()).where(anomaly.c.settled_at.is_(None))).scalar() or 0,
        watched=watched.waiting(conn),
        quarantine=bool(quarantine.reason(conn)),
        workers=workers.by_role(conn),
    )


def _by_state(conn: sa.Connection, table: sa.Table) -> dict[str, int]:
    query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
    return {row[0]: row[1] for row in conn.execute(query)}
