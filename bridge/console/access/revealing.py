"""Reveal: a patient's values for one session and one thing, each time noted in the audit trail."""

from typing import Annotated

from fastapi import Depends, Request

from bridge.console.access.refusals import Forbidden, NotThere
from bridge.console.access.reveals import Reveals
from bridge.console.access.visitor import Role, Visitor
from bridge.console.desk import Desk, desk
from bridge.store import audit, listing
from bridge.store.port import Transaction


class Revealing:
    """What this request's visitor has revealed, and may."""

    def __init__(self, at: Desk, reveals: Reveals, *, looks: bool) -> None:
        self._desk = at
        self._reveals = reveals
        self._looks = looks
        self._idle = at.settings.console.idle_timeout

    async def reveal(self, visitor: Visitor, *subjects: str, message_id: int | None = None) -> None:
        """Note it, then show. Raises Forbidden, and NotThere for a message that is none."""
        if not visitor.may(Role.OPERATOR):
            raise Forbidden(f"revealing is for the role {Role.OPERATOR.word}")

        def work(tx: Transaction) -> None:
            if message_id is not None and listing.row_of(tx.conn, message_id) is None:
                raise NotThere(f"there is no message {message_id}")
            audit.note(
                tx,
                at=self._desk.clock.now(),
                actor=visitor.name,
                action="reveal",
                message_id=message_id,
                detail={} if message_id is not None else {"of": list(subjects)},
            )

        await self._desk.store.write(work)
        for subject in subjects:
            self._reveals.open(visitor, subject, at=self._desk.clock.monotonic(), idle=self._idle)

    def is_open(self, visitor: Visitor, subject: str) -> bool:
        """Whether it is revealed to him now."""
        at = self._desk.clock.monotonic()
        return self._reveals.is_open(visitor, subject, at=at, idle=self._idle, looks=self._looks)

    def mask(self, visitor: Visitor, subject: str) -> None:
        """Masked again."""
        self._reveals.close(visitor, subject)


def revealing(request: Request) -> Revealing:
    """For one request. A refresh that nobody asked for keeps nothing open."""
    at = desk(request)
    return Revealing(at, at.reveals, looks="x-refresh" not in request.headers)


OfRevealing = Annotated[Revealing, Depends(revealing)]
