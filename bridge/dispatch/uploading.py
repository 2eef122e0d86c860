"""A recording's upload file, made and sent chunk by chunk (cardio_api.md §1, §2).

The file is deterministic: a start from offset 0 sends the same bytes again. Small ones stay in memory.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import IO, Any, BinaryIO, cast

from bridge.clock import Clock
from bridge.dispatch.destination import Destination
from bridge.dispatch.policy import Decision, NewUpload, Proceed, Reason, Retry, Step, decide
from bridge.domain.recording import MultiplexGroup
from bridge.domain.task import UINT32_MAX
from bridge.errors import CannotScale
from bridge.formats.ecg.proof import Form, Proof
from bridge.formats.ecg.upload import write_upload
from bridge.store.payloads import Payloads

IN_MEMORY = 8 << 20
SESSIONS = 3
RESENDS = 3
"""Times that a chunk is sent at the same offset: behind a lost answer or a server's error."""
LONGEST_WAIT = 5.0
"""Seconds that a chunk waits before it is sent again; who is asked to wait longer gives the recording back."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload that is whole, with the proof that no sample changed. `payload` names the object that it is of."""

    upload_id: str
    samples_sha256: str
    proof: dict[str, Any]
    payload: str


class Uploading:
    """Sends recordings. A session that turns out to be unusable is opened anew, from offset 0 (F21, F22)."""

    def __init__(
        self,
        destination: Destination,
        payloads: Payloads,
        clock: Clock,
        note: Callable[[Destination, Decision], Awaitable[None]],
    ) -> None:
        """`note` hears of what stops more than this upload."""
        self._destination = destination
        self._client = destination.client
        self._payloads = payloads
        self._clock = clock
        self._note = note
        self._chunk_size = destination.settings.chunk_size
        self._preferred = Form(destination.settings.upload_format)

    async def upload(
        self, group: MultiplexGroup, payload: str, *, attempt: int, jitter: float
    ) -> Uploaded | tuple[Decision, Step]:
        """The group's upload by its id, or what the policy makes of a failed call. `payload` is its object's name.

        One object goes into an upload, whole or a group of it, and never two (F37).
        """
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(self._payloads.spool)) as out:

            def write() -> Proof:
                record = f"r{PurePath(payload).stem[:12]}"
                with self._payloads.at_hand(payload) as path, path.open("rb") as content:
                    return write_upload(group, content, cast("BinaryIO", out), record=record, preferred=self._preferred)

            proof = await asyncio.to_thread(write)
            if proof.total_size > UINT32_MAX:
                raise CannotScale("the upload would be over 4 GiB, more than the API takes", where="WaveformData")
            failed: tuple[Decision, Step] = (NewUpload(Reason.UPLOAD_LOST), Step.CHUNK)
            for _ in range(SESSIONS):
                stopped = await self._destination.clear()
                if stopped is not None:
                    return stopped, Step.OPEN_UPLOAD
                opened = await self._client.open_upload(proof.total_size, bytes.fromhex(proof.sha256))
                decision = decide(Step.OPEN_UPLOAD, opened, attempt=attempt, jitter=jitter)
                if not isinstance(decision, Proceed):
                    return decision, Step.OPEN_UPLOAD
                bad = await self._chunks(out, decision.upload_id, attempt, jitter)
                if bad is None:
                    return Uploaded(decision.upload_id, proof.samples_sha256, _told(proof), payload)
                failed = (bad, Step.CHUNK)
                if not isinstance(bad, NewUpload):
                    return failed
            return failed

    async def _chunks(self, file: IO[bytes], upload_id: str, attempt: int, jitter: float) -> Decision | None:
        """Send every chunk in order. None: the upload is whole."""
        file.seek(0)
        offset = 0
        while data := file.read(self._chunk_size):
            failed = await self._chunk(upload_id, offset, data, attempt, jitter)
            if failed is not None:
                return failed
            offset += len(data)
        return None

    async def _chunk(self, upload_id: str, offset: int, data: bytes, attempt: int, jitter: float) -> Decision | None:
        """Send one chunk. The same offset is sent again only behind an answer that allows it (F21)."""
        resend = 1
        while True:
            stopped = await self._destination.clear()
            if stopped is not None:
                return stopped
            sent = await self._client.send_chunk(upload_id, offset, data)
            last = resend == RESENDS
            decision = decide(Step.CHUNK, sent, attempt=attempt if last else resend, jitter=jitter)
            match decision:
                case Proceed():
                    return None
                case Retry(reason=Reason.RATE_LIMITED):  # whoever has many chunks would never end if he began anew
                    await self._note(self._destination, decision)
                case Retry(after=after, pause_destination=False) if not last and after <= LONGEST_WAIT:
                    resend += 1
                    await self._clock.sleep(after)
                case _:
                    return decision


def _told(proof: Proof) -> dict[str, Any]:
    """The proof as the message's history keeps it."""
    return {**asdict(proof), "rate": str(proof.rate), "deviation": f"{proof.deviation:f}"}
