"""What the judge asks of several processes on one store besides: each patient's tasks in the order in which they were
asked for, and no doubt that no kill and no freeze explains.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from bridge.domain.states import State
from bridge.store.schema import message, task, worker
from tests.campaign.judge import Expect, Row, Sent, Task, Told, Verdict

SAME = 20
"""Milliseconds between the end of a process and what it had in hand: one transaction writes both."""


def in_order(verdict: Verdict, sent: Sequence[Sent], tasks: Sequence[Task], rows: Sequence[Row]) -> None:
    """Each patient's drafts, and each patient's recordings, in the order of their letters. `sent` is in the senders'
    order, who wait for an answer before they send on; `tasks` in the API's.

    What is in doubt holds nobody up, and neither does what a person must look at: only what is made is compared.
    """
    settled = {(row.kind, row.name) for row in rows if row.state is State.CREATED and _sure(row)}
    place = {(task.purpose, task.investigation): number for number, task in enumerate(tasks)}
    verdict.counts["out_of_order"] = 0
    newest: dict[tuple[tuple[str, ...], str], tuple[int, str]] = {}
    for one in sent:
        purpose = "recording" if one.kind == "dicom" else "draft"
        found = place.get((purpose, one.investigation))
        surely = one.told is Told.KEPT and one.expect is Expect.TASK and (one.kind, one.name) in settled
        if found is None or not surely:
            continue
        line = (one.person.ids, purpose)
        before, whose = newest.get(line, (-1, ""))
        if found < before:
            verdict.against("out_of_order", f"{one.name} was sent behind {whose}, and its task was made before that")
        newest[line] = max((found, one.name), (before, whose))


def _sure(row: Row) -> bool:
    return all(state is State.CREATED for state, _ in row.tasks)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A task that may exist, why, and the processes that were called gone when it came to be in doubt."""

    name: str
    reason: str
    pids: frozenset[int]


def doubts_in(conn: sa.Connection) -> list[Doubt]:
    """Every doubt of a store that several processes work on."""
    gone = [
        (int(one.place.split("/")[2]), one.gone_at)
        for one in conn.execute(sa.select(worker.c.place, worker.c.gone_at).where(worker.c.gone_at.is_not(None)))
    ]
    wanted = (
        sa.select(message.c.control_id, message.c.sop_instance_uid, task.c.reason, task.c.settled_at)
        .join(message, message.c.id == task.c.message_id)
        .where(task.c.state == State.IN_DOUBT)
    )
    return [
        Doubt(
            row.control_id or row.sop_instance_uid,
            row.reason,
            frozenset(pid for pid, at in gone if abs(at - row.settled_at) <= SAME),
        )
        for row in conn.execute(wanted)
    ]


def explained(verdict: Verdict, doubts: Sequence[Doubt], struck: Mapping[int, Collection[str]]) -> None:
    """Each doubt is of a process that was struck: killed, or frozen for its lease. `struck`: by its number."""
    verdict.counts["doubts_amiss"] = 0
    for one in doubts:
        if not any(pid in struck for pid in one.pids):
            verdict.against("doubts_amiss", f"{one.name} is in doubt ({one.reason}), and nobody was struck")
