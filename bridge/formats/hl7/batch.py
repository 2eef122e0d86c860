"""Batches in one frame: FHS, BHS, messages, BTS, FTS (HL7 v2.5.1 §2.10.3)."""

import re
from dataclasses import dataclass
from datetime import datetime

_BEGINS = re.compile(rb"(?:(?<=[\r\n])|\A)(MSH|FHS|BHS|BTS|FTS)(?=[^A-Za-z0-9])")
_BLANK = b"\x0b\r\n\t \x00"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of a batch, in order. `header` is its first FHS and BHS, as sent, each ended by CR.

    Segments that stand outside any message are a message of their own here: they have no MSH, so the reader refuses
    them and their sender is told. They are not joined to the message before them, which may be another patient's.
    """

    messages: list[bytes]
    header: bytes
    notes: tuple[str, ...] = ()


def is_batch(raw: bytes) -> bool:
    """Whether the frame holds a batch, or several messages without one."""
    if raw.startswith(b"MSH") and raw.find(b"\rMSH", 3) < 0 and raw.find(b"\nMSH", 3) < 0:
        return False
    body = _bare(raw)
    first = _BEGINS.match(body)
    if first is None:
        return False
    return first[1] in {b"FHS", b"BHS"} or sum(m[1] == b"MSH" for m in _BEGINS.finditer(body)) > 1


def split(raw: bytes) -> Batch:
    """The parts of a batch; counts that do not agree (BTS-1, FTS-1) are notes. Never fails."""
    body = _bare(raw)
    marks = list(_BEGINS.finditer(body))
    messages: list[bytes] = []
    headers: dict[bytes, bytes] = {}
    notes: list[str] = []
    in_batch = batches = 0
    before = body[: marks[0].start()] if marks else body
    strays = [before] if before.strip(_BLANK) else []
    messages += strays
    for number, mark in enumerate(marks):
        end = marks[number + 1].start() if number + 1 < len(marks) else len(body)
        part = body[mark.start() : end]
        if mark[1] == b"MSH":
            messages.append(part)
            in_batch += 1
            continue
        line = re.split(rb"[\r\n]", part, maxsplit=1)[0]
        if rest := part[len(line) :].strip(_BLANK):
            messages.append(rest + b"\r")
            strays.append(rest)
        if mark[1] in {b"FHS", b"BHS"}:
            headers.setdefault(mark[1], line + b"\r")
        elif mark[1] == b"BTS":
            notes += _count(line, in_batch, "BTS-1", "messages")
            in_batch, batches = 0, batches + 1
        else:
            notes += _count(line, batches, "FTS-1", "batches")
    if strays:
        notes.append("segments outside a message")
    if not headers:
        notes.append("several messages without a batch header")
    return Batch(messages, headers.get(b"FHS", b"") + headers.get(b"BHS", b""), tuple(notes))


def batch_answer(batch: Batch, answers: list[bytes], control_id: str, now: datetime) -> bytes:
    """One batch with the answers, in the order of the messages: as their header, with sender and receiver swapped.

    FHS-12 and BHS-12 give their control id back (HL7 v2.5.1 §2.15.2, §2.15.6).
    """
    headers = [line for line in batch.header.split(b"\r") if line] or [b"BHS|^~\\&"]
    opened = {line[:3]: _header(line, control_id, now) for line in headers}
    separator = headers[-1][3:4]
    parts = [opened.get(b"FHS", b""), opened.get(b"BHS", b""), *answers]
    if b"BHS" in opened:
        parts.append(b"BTS" + separator + str(len(answers)).encode() + b"\r")
    if b"FHS" in opened:
        parts.append(b"FTS" + headers[0][3:4] + (b"1" if b"BHS" in opened else b"0") + b"\r")
    return b"".join(parts)


def _header(line: bytes, control_id: str, now: datetime) -> bytes:
    separator = line[3:4]
    theirs = [line[:3], separator, *line[4:].split(separator, 20)]
    theirs += [b""] * (13 - len(theirs))
    made = [theirs[2], theirs[5], theirs[6], theirs[3], theirs[4], now.strftime("%Y%m%d%H%M%S%z").encode()]
    made += [b"", b"", b"", control_id.encode("ascii"), theirs[11]]
    return line[:4] + separator.join(made).rstrip(separator) + b"\r"


def _count(trailer: bytes, found: int, where: str, what: str) -> list[str]:
    said = trailer[4:].split(trailer[3:4], 1)[0].strip() if len(trailer) > 4 else b""
    if not said or (said.isdigit() and len(said) < 10 and int(said) == found):
        return []
    return [f"{where} does not agree with the {found} {what} found"]


def _bare(raw: bytes) -> bytes:
    body = raw.lstrip(_BLANK)
    if body.startswith(_BOM):
        body = body[3:].lstrip(_BLANK)
    return body.rstrip(b"\x1c\r\n") + b"\r"
