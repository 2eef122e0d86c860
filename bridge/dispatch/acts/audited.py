"""What people do, each act one transaction with its row in the audit trail; what was refused is there as well."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.dispatch.acts.ways import Action, Case, why_not
from bridge.dispatch.answers import Answers
from bridge.domain.states import State
from bridge.errors import ActionRefused
from bridge.store import audit, line, listing, tasks
from bridge.store.port import Connection, Store, T, Transaction

log = structlog.get_logger()
_MAY_EXIST = frozenset({State.INTENT, State.IN_DOUBT})


Still = Callable[[Connection], bool]
"""Whether what somebody saw before he asked is what is there."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for what, and why. `named` is what was named besides: ids and choices, no patient's value. `still` is
    asked in the transaction of the act; none: he saw nothing that he could hold against it.
    """

    by: str
    action: str
    message_id: int | None
    why: str = ""
    named: Mapping[str, Any] = field(default_factory=dict)
    still: Still | None = None


@dataclass(frozen=True, slots=True)
class Acted:
    """What came of it: where the message stands now. `text` says it to a person, `noted` goes into the audit trail."""

    message_id: int | None
    state: str
    text: str
    noted: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As JSON values; ids are strings."""
        number = str(self.message_id) if self.message_id is not None else None
        return {"message_id": number, "state": self.state, "text": self.text}


class Audited:
    """Looks at a message, and writes an act with its audit row: both or none."""

    def __init__(self, store: Store, answers: Answers, clock: Clock) -> None:
        self._store = store
        self._answers = answers
        self._clock = clock

    async def write(self, asked: Asked, work: Callable[[Transaction], Acted]) -> Acted:
        """Do it. Raises ActionRefused, and then nothing is changed but the audit trail."""

        def whole(tx: Transaction) -> tuple[Acted, str]:
            if asked.still is not None and not asked.still(tx.conn):
                raise ActionRefused(f"message {asked.message_id} is not what it was when you looked at it: look again")
            acted = work(tx)
            return acted, self._note(tx, asked, audit.DONE, {"state": acted.state, **acted.noted})

        try:
            acted, noted = await self._store.write(whole)
        except ActionRefused as refused:
            await self.refused(asked, refused)
            raise
        log.info("message.acted", action=asked.action, message=asked.message_id, audit=noted)
        return acted

    async def read(self, asked: Asked, work: Callable[[Connection], T]) -> T:
        """Look before the act. Raises ActionRefused, which is noted."""
        try:
            return await self._store.read(work)
        except ActionRefused as refused:
            await self.refused(asked, refused)
            raise

    async def refused(self, asked: Asked, problem: ActionRefused) -> None:
        """Note what was asked for in vain."""
        detail = {"refused": str(problem)}
        noted = await self._store.write(lambda tx: self._note(tx, asked, audit.REFUSED, detail))
        log.warning("message.not_acted", action=asked.action, message=asked.message_id, audit=noted)

    def _note(self, tx: Transaction, asked: Asked, outcome: str, detail: Mapping[str, Any]) -> str:
        there = asked.message_id is not None and listing.row_of(tx.conn, asked.message_id) is not None
        if asked.message_id is not None and not there:
            detail = {**detail, "message": str(asked.message_id)}
        return audit.note(
            tx,
            at=self._clock.now(),
            actor=asked.by,
            action=asked.action,
            outcome=outcome,
            message_id=asked.message_id if there else None,
            detail={**asked.named, **({"why": asked.why} if asked.why else {}), **detail},
        )

    def look(self, conn: Connection, message_id: int) -> tuple[Any, Case]:
        """The row of a message, and where it stands. Raises ActionRefused where there is none."""
        return look(conn, self._answers, message_id)

    def allowed(self, conn: Connection, action: Action, message_id: int) -> tuple[Any, Case]:
        """As `look`, for what may be done. Raises ActionRefused that names the way out."""
        row, case = self.look(conn, message_id)
        why = why_not(action, case)
        if why:
            raise refusal(case, action.value, why)
        return row, case


def look(conn: Connection, answers: Answers, message_id: int) -> tuple[Any, Case]:
    """The row of a message, and where it stands. Raises ActionRefused where there is none."""
    row = listing.row_of(conn, message_id)
    if row is None:
        raise ActionRefused(f"there is no message {message_id}; see bridge messages list")
    document = json.loads(row.understood) if row.understood else {}
    return row, Case(
        message_id=message_id,
        kind=row.kind,
        state=State(row.state),
        reason=row.reason,
        told_no=answers.told_no(conn, message_id, row.kind, row.answer_code),
        with_task_fields=bool(document.get("orders") or document.get("recording")),
        in_doubt=any(State(t.state) in _MAY_EXIST for t in tasks.newest(conn, message_id)),
        in_hand=row.owner is not None,
    )


def refusal(case: Case, action: str, why: str) -> ActionRefused:
    """The error that names the message, where it stands, why not, and what can be done."""
    reason = f" ({case.reason})" if case.reason else ""
    return ActionRefused(f"message {case.message_id} is {case.state}{reason}: no {action}: {why}")


def as_claimed(row: Any) -> line.Claimed:
    """A message's row as those who send have it in hand."""
    values = {name: getattr(row, name) for name in line.Claimed.__slots__}
    return line.Claimed(**{**values, "state": State(row.state)})
