"""Upload sessions (cardio_api.md §1, §2), and what the API does where its documentation says nothing."""

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridge.sandbox.cardio_rules import OpenUpload, Refusal
from bridge.sandbox.cardio_wfdb import Record

_Seconds = Annotated[float, Field(ge=0)]


class Unknowns(BaseModel):
    """Each thing that is not documented, as a switch. The defaults are those of an API that means well."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    resent_chunk: Literal["accept", "refuse"] = "accept"  # the newest chunk again, same offset and same bytes
    used_upload: Literal["accept", "refuse"] = "accept"  # a second task POST with one upload_id
    hash_checked: Literal["chunk", "task"] = "chunk"  # at the chunk that makes the file whole, or at the task POST
    upload_ttl: _Seconds | None = None  # seconds from its opening
    max_chunk: Annotated[int, Field(ge=1)] | None = None  # bytes
    processed_after: _Seconds | None = 1.0  # seconds from a task's creation; None: never
    severity: Literal["NONE", "LOW", "MODERATE", "IMPORTANT", "CRITICAL"] | None = None  # of a processed task


@dataclass(slots=True)
class Upload:
    """An upload session. `data` is what has come in so far."""

    total_size: int
    hash_sum: str
    opened: float  # monotonic
    data: bytearray | bytes = field(default_factory=bytearray)
    newest: int = -1  # offset of the newest chunk
    used: bool = False
    records: list[Record] | None = None  # once they were looked for

    def whole(self) -> bool:
        return len(self.data) == self.total_size

    def as_declared(self) -> bool:
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode() == self.hash_sum


class Uploads(dict[str, Upload]):
    """Every session by its id. Refusals are those of the documentation: 400."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._count = 0

    def open(self, asked: OpenUpload) -> str:
        """A new session; its id. The same hash again is another session."""
        self._count += 1
        upload_id = f"up-{self._count}"
        self[upload_id] = Upload(asked.total_size, asked.hash_sum, self._monotonic())
        return upload_id

    def known(self, upload_id: str, unknowns: Unknowns) -> Upload:
        """The session, if it lives. Raises Refusal."""
        upload = self.get(upload_id)
        if upload is None:
            raise Refusal(400, "upload_id: no such upload session")
        if unknowns.upload_ttl is not None and self._monotonic() - upload.opened >= unknowns.upload_ttl:
            raise Refusal(400, "upload_id: the upload session has expired")
        return upload

    def take(self, upload_id: str, offset: int, data: bytes, unknowns: Unknowns) -> None:
        """One chunk: contiguous, within the declared size. Raises Refusal, and keeps nothing then."""
        upload = self.known(upload_id, unknowns)
        if not data:
            raise Refusal(400, "the chunk is empty")
        if unknowns.max_chunk is not None and len(data) > unknowns.max_chunk:
            raise Refusal(400, f"the chunk is longer than {unknowns.max_chunk} bytes")
        here = len(upload.data)
        again = offset == upload.newest and here - offset == len(data) and upload.data[offset:] == data
        if again and unknowns.resent_chunk == "accept":
            self._check(upload, unknowns)
            return
        if offset != here:
            raise Refusal(400, f"offset {offset}: the next offset is {here}")
        if here + len(data) > upload.total_size:
            raise Refusal(400, f"{here + len(data)} bytes are more than total_size {upload.total_size}")
        upload.data += data
        upload.newest = offset
        self._check(upload, unknowns)

    @staticmethod
    def _check(upload: Upload, unknowns: Unknowns) -> None:
        if unknowns.hash_checked == "chunk" and upload.whole() and not upload.as_declared():
            raise Refusal(400, "the whole file does not have the declared hash_sum")

    def finished(self, upload_id: str, unknowns: Unknowns) -> Upload:
        """The session that a task is asked for, whole and as declared. Raises Refusal."""
        upload = self.known(upload_id, unknowns)
        if upload.used and unknowns.used_upload == "refuse":
            raise Refusal(400, "upload_id: the upload session was used before")
        if not upload.whole():
            raise Refusal(400, f"upload_id: {len(upload.data)} of {upload.total_size} bytes are here")
        if upload.records is None and not upload.as_declared():
            raise Refusal(400, "upload_id: the file does not have the declared hash_sum")
        return upload
