"""MLLP frames without sockets: bytes in, frames out (HL7 v2 Minimal Lower Layer Protocol: VT body FS CR).

Tolerated, and noted on a frame: a missing CR after FS, doubled VT and FS, CR, LF and NUL between frames, a little junk
between frames, a frame that begins anew before it has ended.
"""

import re
from dataclasses import dataclass

_VT = 0x0B
_FS = 0x1C
_START = b"\x0b"
_END = b"\x1c"
_QUIET = b"\r\n\x00\x1c"  # between frames these are no junk; FS: some senders double it
_BEGINS_ANEW = re.compile(rb"\x0b(?=(?:MSH|FHS|BHS)[^A-Za-z0-9])")

JUNK = "junk before the frame"
BETWEEN = "NUL, CR or LF between frames"
DOUBLED_VT = "doubled VT"
DOUBLED_FS = "the frame before had a doubled FS"
NO_CR = "the frame before had no CR after FS"
UNFINISHED = "a frame that began before this one and did not end was dropped"


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood between VT and FS. `notes` name each tolerance that was used to read it, without a value.

    What follows an FS is known only when the next frame begins: such a note is on that frame, and says so.
    """

    body: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Garbage:
    """More bytes outside a frame than allowed: the peer does not speak MLLP. Said once until the next frame."""

    size: int


@dataclass(frozen=True, slots=True)
class TooLong:
    """A frame over the limit has ended; nothing of it was kept. `size` is that of its body."""

    size: int


Event = Frame | Garbage | TooLong


class FrameDecoder:
    """Turns a stream, cut anywhere, into frames. Linear in the bytes; holds one body, and never more than `limit`.

    FS ends a frame at once, whatever follows. Waiting for the byte after it would leave a sender that omits the CR
    without an answer, and a rule that looks at it would read one stream differently in different cuts. No character
    set that can be read here uses 0x1C inside a character; UTF-16 and UTF-32 do, so such a body may arrive cut, and
    its beginning is refused by the reader as UTF-16. What follows a stray FS is junk, and is counted as such.

    VT before `MSH` inside a frame begins the frame anew: its sender, or a gateway in between, was cut off in the
    middle of a message. Read as one, the two would put one patient's segments into another's message. The first was
    never ended and never answered, so it is sent again.
    """

    def __init__(self, limit: int = 10_000_000, garbage_limit: int = 1024) -> None:
        self._limit = limit
        self._garbage_limit = garbage_limit
        self._body = bytearray()
        self._size = 0
        self._junk = 0
        self._inside = False
        self._ended = False  # a frame has ended, and nothing but FS has come after it
        self._after_fs = False  # the last byte outside a frame was FS: a CR now belongs to it
        self._first = True  # no frame has ended yet
        self._notes: set[str] = set()

    @property
    def mid_frame(self) -> bool:
        """A frame has begun and is not complete."""
        return self._inside

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        events: list[Event] = []
        at, end = 0, len(data)
        while at < end:
            if not self._inside:
                start = data.find(_START, at)
                self._outside(data[at : end if start < 0 else start], events)
                if start < 0:
                    break
                self._begin()
                at = start + 1
            else:
                stop = data.find(_END, at)
                self._keep(data, at, end if stop < 0 else stop)
                if stop < 0:
                    break
                events.append(self._complete())
                at = stop + 1
        return events

    def _outside(self, gap: bytes, events: list[Event]) -> None:
        if not gap:
            return
        self._note(gap)
        if self._junk > self._garbage_limit:
            return
        self._junk += len(gap.translate(None, _QUIET))
        if self._junk > self._garbage_limit:
            events.append(Garbage(self._garbage_limit + 1))

    def _note(self, gap: bytes) -> None:
        """Notes of what stands between frames; what is kept of it is such that no cut of the stream changes them."""
        if self._ended and (after := gap.lstrip(_END)[:1]):
            self._ended = False
            if after != b"\r":
                self._notes.add(NO_CR)
        if gap == b"\r" and self._after_fs:
            self._after_fs = False
            return
        if _FS in gap:
            self._notes.add(JUNK if self._first else DOUBLED_FS)
        rest = (_END + gap if self._after_fs else gap).replace(b"\x1c\r", b"").translate(None, _END)
        other = rest.translate(None, _QUIET)
        if other:
            self._notes.add(JUNK)
        if len(other) < len(rest):
            self._notes.add(BETWEEN)
        self._after_fs = gap[-1] == _FS

    def _begin(self) -> None:
        if self._ended:
            self._notes.add(NO_CR)
        self._inside = True
        self._ended = self._after_fs = False

    def _keep(self, data: bytes, at: int, end: int) -> None:
        if not self._size and data[at : at + 1] == _START:
            self._notes.add(DOUBLED_VT)
            at = end - len(data[at:end].lstrip(_START))
        self._size += end - at
        if self._size <= self._limit:
            self._body += data[at:end]
        else:
            self._body = bytearray()

    def _complete(self) -> Event:
        event: Event
        if self._size > self._limit:
            event = TooLong(self._size)
        else:
            event = Frame(self._last_begun(bytes(self._body)), tuple(sorted(self._notes)))
        self._body = bytearray()
        self._size = self._junk = 0
        self._inside = self._first = False
        self._ended = self._after_fs = True
        self._notes = set()
        return event

    def _last_begun(self, body: bytes) -> bytes:
        if _START not in body:
            return body
        begins = max((found.end() for found in _BEGINS_ANEW.finditer(body)), default=0)
        if begins:
            self._notes.add(UNFINISHED)
        return body[begins:]


def encode(body: bytes) -> bytes:
    """The body as one frame: VT body FS CR."""
    return b"%c%b%c\r" % (_VT, body, _FS)
