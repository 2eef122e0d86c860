"""MLLP frames without sockets: bytes in, frames out (HL7 v2 Minimal Lower Layer Protocol: VT body FS CR).

Tolerated: a missing CR after FS, doubled VT and FS, CR, LF and NUL between frames, a little junk between frames.
"""

from dataclasses import dataclass

_VT = 0x0B
_FS = 0x1C
_START = b"\x0b"
_END = b"\x1c"
_QUIET = b"\r\n\x00\x1c"  # between frames these are no junk; FS: some senders double it


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood between VT and FS."""

    body: bytes


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
    """

    def __init__(self, limit: int = 10_000_000, garbage_limit: int = 1024) -> None:
        self._limit = limit
        self._garbage_limit = garbage_limit
        self._body = bytearray()
        self._size = 0
        self._junk = 0
        self._inside = False

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
                self._inside = True
                at = start + 1
            else:
                stop = data.find(_END, at)
                self._keep(data, at, end if stop < 0 else stop)
                if stop < 0:
                    break
                events.append(self._complete())
                at = stop + 1
        return events

    def _outside(self, junk: bytes, events: list[Event]) -> None:
        if not junk or self._junk > self._garbage_limit:
            return
        self._junk += len(junk.translate(None, _QUIET))
        if self._junk > self._garbage_limit:
            events.append(Garbage(self._garbage_limit + 1))

    def _keep(self, data: bytes, at: int, end: int) -> None:
        while not self._size and at < end and data[at] == _VT:  # a doubled VT
            at += 1
        self._size += end - at
        if self._size <= self._limit:
            self._body += data[at:end]
        else:
            self._body = bytearray()

    def _complete(self) -> Event:
        event = Frame(bytes(self._body)) if self._size <= self._limit else TooLong(self._size)
        self._body = bytearray()
        self._size = self._junk = 0
        self._inside = False
        return event


def encode(body: bytes) -> bytes:
    """The body as one frame: VT body FS CR."""
    return b"%c%b%c\r" % (_VT, body, _FS)
