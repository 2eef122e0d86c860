"""What a DICOM object would come to: its groups are converted in memory, matched and mapped, and nothing is sent."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.clock import Clock
from bridge.dispatch.answers import Answers
from bridge.dispatch.concluding import Told
from bridge.dispatch.deciding import Deciding, Post
from bridge.dispatch.entering import Entering
from bridge.dispatch.grouping import Grouping
from bridge.dispatch.in_hand import InHand, Steps
from bridge.dispatch.recordings import CANNOT_CONVERT
from bridge.dispatch.understand import understand_recording
from bridge.dispatch.uploading import Uploaded
from bridge.domain.recording import MultiplexGroup
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.domain.verdict import OrderReply
from bridge.errors import BadInput, CannotScale
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, EcgObject, read_object
from bridge.formats.ecg.proof import Form
from bridge.formats.ecg.samples import SamplesChanged, check_samples
from bridge.formats.ecg.upload import write_upload
from bridge.mapping.rules import Rules
from bridge.settings import Settings
from bridge.store import inbox, line, listing, tasks
from bridge.store.port import Transaction

OF_THE_UPLOAD = "(of the upload)"
LARGEST_CONVERTED = 64 * 2**20
"""Bytes of samples that are converted for a look; of more, every sample is read and no file is made."""


class DryObject:
    """One object behind the messages of a dry run, over its books."""

    def __init__(self, rules: Rules, settings: Settings, clock: Clock, deciding: Deciding) -> None:
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._answers = Answers(settings.hl7, clock)
        self._entering = Entering(settings, clock, self._answers)
        self._steps = Steps(clock, self._answers)
        self._grouping = Grouping(deciding, self._steps, self._answers, clock)

    def comes_to(self, tx: Transaction, path: Path, calling_ae: str, first_id: int) -> dict[str, Any]:
        """The state, the status that the cart gets, the tasks with their traces, the uploads, and why it is held."""
        try:
            found = read_object(path)
        except BadInput as problem:
            error = f"{problem.where}: {problem}" if problem.where else str(problem)
            return {"state": "REJECTED", "reason": "corrupt", "error": error, "answer": f"{problem.code:04X}"}
        understood = understand_recording(found, calling_ae, self._rules, self._settings)
        claimed = self._keep(tx, path, calling_ae, found)
        goes_to = self._entering.enter(tx, claimed, understood, None)
        entered = goes_to.understood
        uploads: list[dict[str, Any]] = []
        # Behind a merge that a person must look at the patient's work waits.
        if entered.state is State.READY and line.claim_one(tx, "dry run", claimed.id):
            mine = replace(claimed, state=State.READY, destination=goes_to.destination)
            work = InHand(mine, State.READY, recording=found.recording)
            uploads = self._deliver(tx, path, work, entered.recording or Mapped({}), first_id)
        came_to = listing.whole(tx.conn, claimed.id) or {}
        return {
            "state": came_to["state"],
            "reason": came_to["reason"],
            "why": _why(came_to),
            "tasks": [{"task": t["body"], "traces": t["traces"]} for t in came_to["tasks"]],
            "uploads": uploads,
            "destination": goes_to.destination if len(self._settings.cardio.all()) > 1 else "",
            "warnings": list(understood.warnings),
            "answer": self._status(found),
        }

    def _status(self, found: EcgObject) -> str:
        """What is kept is 0000, held or not; what is not offered never gets as far."""
        recording = found.recording
        if recording.sop_class_uid not in ECG_SOP_CLASSES:
            return "none: its SOP class is not negotiated"
        if recording.transfer_syntax_uid not in self._settings.dicom.transfer_syntaxes:
            return "none: its transfer syntax is not in dicom.transfer_syntaxes"
        return "0000"

    def _keep(self, tx: Transaction, path: Path, calling_ae: str, found: EcgObject) -> line.Claimed:
        inbox.keep(
            tx,
            inbox.Arrival(
                kind="dicom",
                type="",
                received_at=self._clock.now(),
                listener="dicom",
                peer="",
                sender=calling_ae,
                identity=None,
                digest="",
                sop_instance_uid=found.recording.sop_instance_uid,
                payload=path.name,
            ),
        )
        (claimed,) = line.next_received(tx, 1)
        return claimed

    def _deliver(self, tx: Transaction, path: Path, work: InHand, whole: Mapped, first_id: int) -> list[dict[str, Any]]:
        """Every group that is due, each task made with an invented id; what would be uploaded."""
        if work.recording is not None:
            work.selection = work.recording.selected(self._settings.recordings.several_groups)
        uploads: list[dict[str, Any]] = []
        step = self._grouping.next(tx, work, whole)
        while step is not None:
            if isinstance(step, Post):
                made = (first_id,)
                first_id += 1
                tasks.settle(tx, step.task_row, State.CREATED, at=self._clock.now(), task_ids=made)
                step = self._grouping.posted(tx, work, step, Told(OrderReply("OK", made), State.CREATED), whole)
                continue
            try:
                uploads.append(self._converted(step.group, path, work.claimed.destination))
            except (CannotScale, SamplesChanged) as problem:
                detail = {"group": step.group.number, "why": f"{getattr(problem, 'where', '')}: {problem}"}
                held = Told(OrderReply("UA"), State.HELD, reason=CANNOT_CONVERT)
                step = self._grouping.go_on(tx, work, held, whole, reason=CANNOT_CONVERT, detail=detail)
                continue
            uploaded = Uploaded(OF_THE_UPLOAD, str(uploads[-1]["samples_sha256"]), {}, work.claimed.payload or "")
            step = self._grouping.intend(tx, work, step, uploaded, whole)
        return uploads

    def _converted(self, group: MultiplexGroup, path: Path, destination: str) -> dict[str, Any]:
        """What would be uploaded of a group. Raises `CannotScale` where no form of an upload holds it exactly."""
        with path.open("rb") as payload:
            if group.length > LARGEST_CONVERTED:
                return {"group": group.number, "form": "", "samples_sha256": check_samples(group, payload)}
            cardio = self._settings.cardio
            preferred = Form(cardio.all().get(destination, cardio).upload_format)
            proof = write_upload(group, payload, io.BytesIO(), record="r", preferred=preferred)
        return {
            "group": group.number,
            "form": proof.form.value,
            "format": proof.format,
            "samples": proof.samples,
            "channels": proof.channels,
            "size": proof.total_size,
            "identical": proof.identical,
            "samples_sha256": proof.samples_sha256,
            "instead": proof.instead,
        }


def _why(came_to: dict[str, Any]) -> dict[str, Any]:
    """What is told of a message that a person must look at: where it is, or what speaks against it."""
    if State(came_to["state"]) in {State.CREATED, State.DONE}:
        return {}
    details = [e["detail"] for e in came_to["history"] if e["detail"] and "warnings" not in e["detail"]]
    return details[-1] if details else {}
