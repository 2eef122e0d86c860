"""A recording's upload file, made and sent chunk by chunk (cardio_api.md §1, §2).

The file is deterministic: a start from offset 0 sends the same bytes again. Small ones stay in memory.
"""

import asyncio
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from bridge.dispatch.cardio.client import CardioClient
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


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload that is whole, with the proof that no sample changed."""

    upload_id: str
    samples_sha256: str
    proof: dict[str, Any]


class Uploading:
    """Sends recordings. A session that turns out to be unusable is opened anew, from offset 0 (F21, F22)."""

    def __init__(self, client: CardioClient, payloads: Payloads, chunk_size: int, preferred: Form) -> None:
        self._client = client
        self._payloads = payloads
        self._chunk_size = chunk_size
        self._preferred = preferred

    async def upload(
        self, group: MultiplexGroup, path: Path, *, attempt: int, jitter: float
    ) -> Uploaded | tuple[Decision, Step]:
        """The group's upload by its id, or what the policy makes of the call that failed. `path` is the payload."""
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(self._payloads.spool)) as out:

            def write() -> Proof:
                record = f"r{path.stem[:12]}"
                with path.open("rb") as payload:
                    return write_upload(group, payload, cast("BinaryIO", out), record=record, preferred=self._preferred)

            proof = await asyncio.to_thread(write)
            if proof.total_size > UINT32_MAX:
                raise CannotScale("the upload would be over 4 GiB, more than the API takes", where="WaveformData")
            failed: tuple[Decision, Step] = (NewUpload(Reason.UPLOAD_LOST), Step.CHUNK)
            for _ in range(SESSIONS):
                opened = await self._client.open_upload(proof.total_size, bytes.fromhex(proof.sha256))
                decision = decide(Step.OPEN_UPLOAD, opened, attempt=attempt, jitter=jitter)
                if not isinstance(decision, Proceed):
                    return decision, Step.OPEN_UPLOAD
                bad = await self._chunks(out, decision.upload_id, attempt, jitter)
                if bad is None:
                    return Uploaded(decision.upload_id, proof.samples_sha256, _told(proof))
                failed = (bad, Step.CHUNK)
                if not isinstance(bad, NewUpload):
                    return failed
            return failed

    async def _chunks(self, file: IO[bytes], upload_id: str, attempt: int, jitter: float) -> Decision | None:
        """Send every chunk in order. None: the upload is whole."""
        file.seek(0)
        offset = 0
        while data := file.read(self._chunk_size):
            for resend in range(1, RESENDS + 1):
                sent = await self._client.send_chunk(upload_id, offset, data)
                decision = decide(Step.CHUNK, sent, attempt=attempt, jitter=jitter)
                if isinstance(decision, Proceed):
                    break
                if not isinstance(decision, Retry) or decision.pause_destination or resend == RESENDS:
                    return decision
            offset += len(data)
        return None


def _told(proof: Proof) -> dict[str, Any]:
    """The proof as the message's history keeps it."""
    return {**asdict(proof), "rate": str(proof.rate), "deviation": f"{proof.deviation:f}"}
