"""The groups of a recording, one after the other: which one is due, and what their message came to.

Each has an upload, a key and a task row of its own, by its place among the object's original groups, as the orders
of a message have. A group is settled before the next one begins: a start, a retry or a release goes on behind what is
settled, and nothing is sent twice.
"""

from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.concluding import Told, told_of
from bridge.dispatch.deciding import Attach, Deciding, Hold, Post, Repeated
from bridge.dispatch.in_hand import InHand, Steps
from bridge.dispatch.uploading import Uploaded
from bridge.domain.recording import MultiplexGroup
from bridge.domain.states import MOVES, State
from bridge.domain.task import Mapped
from bridge.mapping.recordings import of_group
from bridge.store import line, tasks
from bridge.store.port import Transaction

_WORST_FIRST = (State.IN_DOUBT, State.HELD, State.REJECTED, State.CREATED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Due:
    """A group that may be uploaded, with the task fields that are its own."""

    group: MultiplexGroup
    mapped: Mapped


class Grouping:
    """What is next of a recording. Every function is a piece of a store transaction."""

    def __init__(self, deciding: Deciding, steps: Steps, answers: Answers, clock: Clock) -> None:
        self._deciding = deciding
        self._steps = steps
        self._answers = answers
        self._clock = clock

    def next(self, tx: Transaction, work: InHand, mapped: Mapped) -> Post | Due | None:
        """The next group's intention, or the group that is to be uploaded.

        `mapped` is the whole recording's. None: nothing is to be sent now, and the message stands as it should.
        """
        if work.selection.held:
            self._steps.set_aside(tx, work, Hold(work.selection.held, {}))
            return None
        rows = {row.position: row for row in tasks.of_message(tx.conn, work.claimed.id)}  # the newest generation
        while work.position < len(work.selection.groups):
            row = rows.get(work.selection.places[work.position])
            if row is None or (State(row.state) is State.RETRY and not row.sent):
                return self._due(tx, work, mapped)
            if State(row.state) is State.RETRY:  # its bytes may have been sent: these bytes or none
                body = tasks.intend_again(tx, row.id, at=self._clock.now())
                self._steps.move(tx, work, State.INTENT, reason=_behind(work))
                return Post(row.id, body)
            work.told.append(told_of(row))
            work.position += 1
        self._conclude(tx, work, None)
        return None

    def _due(self, tx: Transaction, work: InHand, mapped: Mapped) -> Due | None:
        """Matched before it is uploaded, so that nothing is uploaded in vain."""
        group = work.selection.groups[work.position]
        if work.recording is not None:
            mapped = of_group(mapped, later_ms=group.time_offset_ms - work.recording.rhythm().time_offset_ms)
        decided = self._deciding.attach(tx, work.claimed, mapped)
        if not isinstance(decided, Attach):
            self._steps.set_aside(tx, work, decided)
            return None
        several = len(work.selection.groups) > 1
        self._steps.move(tx, work, State.UPLOADING, detail={"group": group.number} if several else None)
        return Due(group, mapped)

    def intend(self, tx: Transaction, work: InHand, due: Due, uploaded: Uploaded, whole: Mapped) -> Post | Due | None:
        """The intention of a group that is uploaded: matched again, by the books as they stand now.

        Raises ValueError where the upload is not of this recording's object.
        """
        if uploaded.payload != work.claimed.payload:  # F37
            raise ValueError(f"message {work.claimed.id} was given the upload of another object")
        groups, places = work.selection.groups, work.selection.places
        step = self._deciding.recording(
            tx,
            work.claimed,
            due.mapped,
            uploaded.upload_id,
            uploaded.samples_sha256,
            position=places[work.position],
            twins=[p for g, p in zip(groups, places, strict=True) if g is not due.group and g.is_twin_of(due.group)],
        )
        if isinstance(step, Repeated):
            same = {"group": due.group.number, "same_as": groups[places.index(step.position)].number}
            return self.go_on(tx, work, None, whole, reason="same_group", detail=same)
        if not isinstance(step, Post):
            self._steps.set_aside(tx, work, step)
            return None
        detail = {"proof": uploaded.proof, **({"group": due.group.number} if len(groups) > 1 else {})}
        self._steps.move(tx, work, State.INTENT, reason=_behind(work), detail=detail)
        return step

    def posted(self, tx: Transaction, work: InHand, post: Post, told: Told, whole: Mapped) -> Post | Due | None:
        """What the POST of a group came to is written: its order's sender hears of it, and the next group is due."""
        self._answers.follow(tx, work.claimed, post.task_row, told)
        return self.go_on(tx, work, told, whole, reason="group_settled")

    def go_on(
        self,
        tx: Transaction,
        work: InHand,
        told: Told | None,
        whole: Mapped,
        *,
        reason: str,
        detail: dict[str, Any] | None = None,
    ) -> Post | Due | None:
        """Behind a group that is settled, or that nothing can be made of."""
        if told is not None:
            work.told.append(told)
        work.position += 1
        if told is not None and work.position == len(work.selection.groups):
            self._conclude(tx, work, detail)
            return None
        self._steps.move(tx, work, State.READY, reason=reason, detail=detail)
        return self.next(tx, work, whole)

    def _conclude(self, tx: Transaction, work: InHand, detail: dict[str, Any] | None) -> None:
        """The message stands where the worst of its groups does; the rows tell the rest."""
        worst = next(t for state in _WORST_FIRST for t in work.told if t.state is state)
        if worst.state not in MOVES[work.state]:
            self._steps.move(tx, work, State.READY)
        self._steps.move(tx, work, worst.state, reason=worst.reason, detail=detail)


def _behind(work: InHand) -> str:
    """The reason that a start needs to know of: further groups are to be sent behind this one."""
    return line.MORE_GROUPS if work.position + 1 < len(work.selection.groups) else ""
