"""A recording in hand: its groups one after the other, each matched, uploaded and sent before the next one begins."""

import json
from collections.abc import Mapping

from bridge.dispatch.concluding import Told
from bridge.dispatch.deciding import Post
from bridge.dispatch.destination import Destination
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.grouping import Due, Grouping
from bridge.dispatch.in_hand import InHand, Moves
from bridge.dispatch.objects import Objects
from bridge.dispatch.policy import Decision, NewUpload, Reject, Step, backoff
from bridge.dispatch.sending import Sending, waiting
from bridge.dispatch.uploading import Uploaded, Uploading
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.domain.verdict import OrderReply
from bridge.errors import BadInput, CannotScale
from bridge.settings import RecordingSettings
from bridge.store import book, line
from bridge.store.port import Transaction

UPLOADS = 4
"""Tries of a recording whose upload sessions all turn out to be unusable, before a person looks."""
CANNOT_CONVERT = "cannot_convert"
_FAILED = "upload_failed"


class Recordings:
    """Delivers recordings that are in hand."""

    def __init__(
        self,
        objects: Objects,
        destinations: Destinations,
        grouping: Grouping,
        sending: Sending,
        moves: Moves,
        uploading: Mapping[str, Uploading],
        settings: RecordingSettings,
    ) -> None:
        self._objects = objects
        self._destinations = destinations
        self._grouping = grouping
        self._sending = sending
        self._moves = moves
        self._uploading = uploading
        self._settings = settings

    async def deliver(self, destination: Destination, work: InHand) -> None:
        """Everything of a recording that is due now. Raises CannotScale, BadInput where its object is not usable."""
        claimed = work.claimed
        whole = book.mapped_from_json(json.loads(claimed.understood or "{}")["recording"])
        found = await self._objects.read(claimed.payload or "")
        work.recording = found.recording
        work.selection = found.recording.selected(self._settings.several_groups)
        step = await self._moves.write(work, lambda tx: self._grouping.next(tx, work, whole))
        while step is not None:
            if isinstance(step, Post):
                step = await self._post(destination, work, step, whole)
            else:
                step = await self._upload(destination, work, step, whole)

    async def _post(self, destination: Destination, work: InHand, post: Post, whole: Mapped) -> Post | Due | None:
        def then(tx: Transaction, told: Told) -> Post | Due | None:
            return self._grouping.posted(tx, work, post, told, whole)

        return await self._sending.post(destination, work, post, then)

    async def _upload(self, destination: Destination, work: InHand, due: Due, whole: Mapped) -> Post | Due | None:
        """Upload a group; its intention. Where that failed the message waits, or goes on with the next group."""
        payload = work.claimed.payload or ""
        jitter = self._sending.jitter()
        uploading = self._uploading[destination.name]
        try:
            result = await uploading.upload(due.group, payload, attempt=work.claimed.attempts, jitter=jitter)
        except CannotScale as problem:
            if len(work.selection.groups) == 1:
                raise
            held = Told(OrderReply("UA"), State.HELD, reason=CANNOT_CONVERT)
            detail = {"group": due.group.number, "why": why(problem)}
            return await self._moves.write(
                work, lambda tx: self._grouping.go_on(tx, work, held, whole, reason=CANNOT_CONVERT, detail=detail)
            )
        if isinstance(result, Uploaded):
            uploaded, stopped = result, await destination.turn()
            if stopped is None:
                return await self._moves.write(work, lambda tx: self._grouping.intend(tx, work, due, uploaded, whole))
            result = stopped, Step.CREATE
        decision, step = result
        await self._destinations.note(destination, decision)
        return await self._moves.write(work, lambda tx: self._failed(tx, work, decision, step, jitter, whole))

    def _failed(
        self, tx: Transaction, work: InHand, decision: Decision, step: Step, jitter: float, whole: Mapped
    ) -> Post | Due | None:
        """An upload that came to nothing: refused for good, or tried again from its first byte."""
        if isinstance(decision, Reject):
            refused = Told(OrderReply("UA"), State.REJECTED, reason=decision.reason)
            detail = {"step": step.value, "api": decision.api_text, "status": decision.status}
            return self._grouping.go_on(tx, work, refused, whole, reason=decision.reason, detail=detail)
        # Tries that met an outage or a rate limit are no failures of the recording's (F14).
        if isinstance(decision, NewUpload) and line.times(tx.conn, work.claimed.id, _FAILED) + 1 >= UPLOADS:
            self._moves.move(tx, work, State.HELD, reason=_FAILED, detail={"step": step.value})
        else:
            reason, after = waiting(decision, backoff(work.claimed.attempts, jitter))
            self._moves.put_back(tx, work, reason, after)
        return None


def why(problem: CannotScale | BadInput) -> str:
    """What a person is told: where it is, and what is wrong with it."""
    return f"{problem.where}: {problem}" if problem.where else str(problem)
