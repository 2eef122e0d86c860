"""What somebody brings to a page in a form with files: bounded, and gone when the page is made.

A text stays in memory; of a file what is long goes to a temporary file without a name (O_TMPFILE, open(2)), which ends
with this process whatever becomes of it.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

TEXT = 16 * 2**20
"""Bytes of a pasted message; what is over hl7.max_frame and under this is told what its sender would be told."""
FILES = 64 * 2**20
"""Bytes of everything together."""
MANY = 8
"""Files of one form."""
PATIENCE = 120
"""Seconds for all of it to come."""
READ_ON = 4 * FILES
"""Bytes that are read of a form which is too long: a browser shows no answer before it has said all."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A form's fields, and its files in their order: the name that the browser gave, and a descriptor to read from."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, int]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def brought(request: Request) -> AsyncIterator[Brought]:
    """The form of a request; its files are closed, and with that deleted, at the end.

    Raises HTTPException: 413 for too much, 400 for what is no such form, 408 and 507.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "a form with files is expected (multipart/form-data)")
    stream = request.stream()
    try:
        async with asyncio.timeout(PATIENCE):
            form = await _parsed(request, stream)
    except TimeoutError as cause:
        raise HTTPException(408, f"it did not come within {PATIENCE} seconds") from cause
    try:
        found = Brought()
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                found.fields[name] = value
            elif value.filename or value.size:
                found.files.append((value.filename or "without a name", await asyncio.to_thread(_descriptor, value)))
        yield found
    finally:
        await form.close()


async def _parsed(request: Request, stream: AsyncGenerator[bytes, None]) -> FormData:
    parser = MultiPartParser(request.headers, _bounded(stream), max_files=MANY, max_fields=MANY, max_part_size=TEXT)
    try:
        return await parser.parse()
    except MultiPartException as problem:
        async for _ in stream:
            pass
        if "exceeded maximum size" in problem.message:
            raise HTTPException(413, f"a message of more than {TEXT >> 20} MiB; choose it as a file") from problem
        raise HTTPException(400, problem.message) from problem
    except OSError as problem:
        raise HTTPException(507, "no room for it in the folder for temporary files (TMPDIR)") from problem


async def _bounded(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    came = 0
    async for part in stream:
        came += len(part)
        if came <= FILES:
            yield part
    if came > FILES:
        raise HTTPException(413, f"more than {FILES >> 20} MiB together; `bridge map` takes files of any size")


def _descriptor(file: UploadFile) -> int:
    """A number of an open file with all of it; what was in memory goes to its nameless file."""
    number = file.file.fileno()
    file.file.flush()
    return number


@contextlib.contextmanager
def in_memory(text: str) -> Iterator[int]:
    """A descriptor of a file that is in memory alone and holds this text (memfd_create(2))."""
    number = os.memfd_create("text")
    try:
        with os.fdopen(os.dup(number), "wb") as file:
            file.write(text.encode())
        yield number
    finally:
        os.close(number)
