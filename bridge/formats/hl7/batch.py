"""Batches in one frame: FHS, BHS, messages, BTS, FTS (HL7 v2.5.1 §2.10.3)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

_NAMES = rb"(?:MSH|FHS|BHS|BTS|FTS)"
_FIRST = re.compile(_NAMES + rb"(?=[^A-Za-z0-9])")
_SIGN = rb"[!-/:-@\[-`{-~]"
# CR ends a segment, whatever follows. LF may be the text's own, and "MSH: see above" may follow it: there the header
# must have its encoding characters, and a trailer a count.
_NEXT = re.compile(
    rb"\r\n?(?=" + _NAMES + rb"[^A-Za-z0-9])"
    rb"|\n(?=(?:MSH|FHS|BHS)(?:[|]|" + _SIGN + rb"{2})|[BF]TS(?:" + _SIGN + rb"\s*(?:[0-9]|[\r\n]|\Z)|[\r\n]|\Z))"
)
_LINE = re.compile(rb"[^\r\n]*")
_BLANK = b"\x0b\r\n\t \x00"
_BOM = b"\xef\xbb\xbf"
_ENCODING = b"^~\\&"
_MOST_PARTS = 50_000  # of 10 MB: 200 bytes a message; what is beyond stays whole, and the reader refuses it
_MOST_NOTES = 10  # of one batch: each of its messages carries them


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
    body, _ = _bare(raw)
    if _FIRST.match(body) is None:
        return False
    if body.startswith((b"FHS", b"BHS")):
        return True
    headers = (name for name, _ in _parts(body) if name == b"MSH")
    return next(headers, None) is not None and next(headers, None) is not None


def split(raw: bytes) -> Batch:
    """The parts of a batch; counts that do not agree (BTS-1, FTS-1) are notes. Never fails."""
    body, before = _bare(raw)
    found = _Split(before)
    for name, part in _parts(body):
        found.take(name, part)
    return found.batch()


class _Split:
    """The batch as far as it has been read."""

    def __init__(self, notes: list[str]) -> None:
        self._messages: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._notes = notes
        self._strays = False
        self._in_batch = 0  # messages since BHS
        self._not_counted = 0  # messages since BTS: more than those, where a BHS had no BTS
        self._batches = 0  # of the file, by BHS or BTS
        self._opened = False
        self._bare_messages = False  # a file may hold messages without BHS: no batch, or one

    def take(self, name: bytes, part: bytes) -> None:
        """What begins with a segment of that name, up to the next such."""
        if name == b"MSH":
            self._messages.append(part)
            self._in_batch += 1
            self._not_counted += 1
            self._bare_messages |= not self._opened
            return
        line = _line(part) if name else b""
        if rest := part[len(line) :].strip(_BLANK):
            self._messages.append(rest + b"\r")
            self._strays = True
        if name in {b"FHS", b"BHS"}:
            self._headers.setdefault(name, line + b"\r")
        if name == b"FHS":
            self._batches, self._bare_messages = 0, False
        elif name == b"BHS":
            self._batches += 1
            self._in_batch, self._opened = 0, True
        elif name == b"BTS":
            self._batches += not self._opened
            self._note(_count(line, {self._in_batch, self._not_counted}, "BTS-1", "messages"))
            self._in_batch = self._not_counted = 0
            self._opened = self._bare_messages = False
        elif name == b"FTS":
            self._note(_count(line, {self._batches, self._batches + self._bare_messages}, "FTS-1", "batches"))
            self._batches, self._opened, self._bare_messages = 0, False, False

    def batch(self) -> Batch:
        if self._strays:
            self._note("segments outside a message")
        if not self._headers:
            self._note("several messages without a batch header")
        header = self._headers.get(b"FHS", b"") + self._headers.get(b"BHS", b"")
        return Batch(self._messages, header, tuple(self._notes))

    def _note(self, note: str) -> None:
        if note and note not in self._notes and len(self._notes) < _MOST_NOTES:
            self._notes.append(note)


def batch_answer(batch: Batch, answers: list[bytes], control_id: str, now: datetime) -> bytes:
    """One batch with the answers, in the order of the messages: as their header, with sender and receiver swapped.

    FHS-12 and BHS-12 give their control id back (HL7 v2.5.1 §2.15.2, §2.15.6). FHS and BHS may have delimiters of
    their own; a header that names none gets the default ones.
    """
    headers = [line for line in batch.header.split(b"\r") if line] or [b"BHS|" + _ENCODING]
    opened = {line[:3]: _header(line, control_id, now) for line in headers}
    parts = [opened.get(b"FHS", b""), opened.get(b"BHS", b""), *answers]
    if header := opened.get(b"BHS"):
        parts.append(b"BTS" + header[3:4] + str(len(answers)).encode() + b"\r")
    if header := opened.get(b"FHS"):
        parts.append(b"FTS" + header[3:4] + (b"1" if b"BHS" in opened else b"0") + b"\r")
    return b"".join(parts)


def _header(line: bytes, control_id: str, now: datetime) -> bytes:
    separator = line[3:4]
    if re.fullmatch(_SIGN, separator) is None:
        separator, line = b"|", line[:3]
    theirs = [line[:3], separator, *line[4:].split(separator, 20)]
    theirs += [b""] * (13 - len(theirs))
    made = [theirs[2] or _ENCODING, theirs[5], theirs[6], theirs[3], theirs[4]]
    made += [now.strftime("%Y%m%d%H%M%S%z").encode(), b"", b"", b"", control_id.encode("ascii"), theirs[11]]
    return line[:3] + separator + separator.join(made).rstrip(separator) + b"\r"


def _count(trailer: bytes, found: set[int], where: str, what: str) -> str:
    said = trailer[4:].split(trailer[3:4], 1)[0].strip() if len(trailer) > 4 else b""
    if not said or (said.isdigit() and len(said) < 10 and int(said) in found):
        return ""
    return f"{where} does not agree with the {min(found)} {what} found"


def _parts(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each MSH, FHS, BHS, BTS and FTS with all that follows it up to the next; the name is empty for what is before."""
    start = 0
    for found in islice(_NEXT.finditer(body), _MOST_PARTS):
        yield _named(body[start : found.end()])
        start = found.end()
    yield _named(body[start:])


def _named(part: bytes) -> tuple[bytes, bytes]:
    return part[:3] if _FIRST.match(part) else b"", part


def _line(part: bytes) -> bytes:
    line = _LINE.match(part)
    return line[0] if line else b""


def _bare(raw: bytes) -> tuple[bytes, list[str]]:
    """The body without framing, blank lines and byte order mark around it, and what of it was there."""
    notes: list[str] = []
    body = raw.lstrip(_BLANK)
    if len(body) != len(raw):
        notes.append("blank lines or framing bytes before the batch")
    if body.startswith(_BOM):
        body = body[3:].lstrip(_BLANK)
        notes.append("byte order mark before the batch")
    if body.endswith((b"\x1c", b"\x1c\r")):
        notes.append("framing bytes after the batch")
    return body.rstrip(b"\x1c\r\n") + b"\r", notes
