"""Streams of bytes, generated and mutated, cut anywhere: what the frames are is said by a reading of our own.

An input is one stream. It is given whole and in random cuts, and sometimes byte by byte: the events are the same, the
decoder raises nothing, and the bodies are those that a plain search for VT and FS finds, so no byte moved or went.
"""

import random
import re
from collections.abc import Iterator

from bridge.formats.hl7.mllp import Event, Frame, FrameDecoder, Garbage, TooLong, encode
from tests.campaign.fuzz_findings import Findings, raised
from tests.campaign.results import Result, Say

LIMIT, GARBAGE = 40, 20
"""Bytes: so small that streams of some dozen bytes reach them and go beyond."""
PIECES = (
    b"\x0b", b"\x0b", b"\x1c", b"\x1c\r", b"\x1c\r", b"\r", b"\n", b"\x00", b"\x0b\x0b", b"\x1c\x1c\r", b"\x1c\n",
    b"\x0bMSH|^~\\&|A\r", b"\x0bMSH|", b"\x0bMSH", b"\x0bMSHx", b"\x0bBHS|", b"\x0bFHS#", b"MSH|^~\\&|HIS\r",
    b"PID|1\r",
    b"\xef\xbb\xbf", b"\xff\xfe", b"keep-alive\r\n", b"G" * 19, b"G" * 21, b"x" * 39, b"x" * 40, b"x" * 41, b"\x1b$B",
    encode(b""), encode(b"A"), encode(b"MSH|^~\\&|1\rPID|1\r"), encode(b"y" * 40), encode(b"y" * 41),
)  # fmt: skip
_ANEW = re.compile(rb"\x0b(?=(?:MSH|FHS|BHS)[^A-Za-z0-9])")


def streams(dice: random.Random) -> Iterator[bytes]:
    """Streams without end: pieces of the protocol, noise, and what is made of an earlier stream by damaging it."""
    pieces, choices, randrange, noise = PIECES, dice.choices, dice.randrange, dice.randbytes
    last = b""
    while True:
        way = randrange(8)
        if way < 5:
            last = b"".join(choices(pieces, k=1 + randrange(8)))
        elif way == 5:
            last = noise(randrange(12)) + b"".join(choices(pieces, k=randrange(4))) + noise(randrange(60))
        elif way == 6:
            at = randrange(len(last) + 1)
            last = last[:at] + choices(pieces)[0] + last[at + randrange(3) :]
        else:
            at = randrange(len(last) + 1)
            last = last[at:] + last[:at]
        yield last


def expected(stream: bytes) -> list[Event]:
    """What the protocol's words say of a stream, notes left out: by searching, with nothing remembered."""
    found: list[Event] = []
    at = 0
    while True:
        start = stream.find(b"\x0b", at)
        outside = stream[at : len(stream) if start < 0 else start]
        if len(outside.translate(None, b"\r\n\x00\x1c")) > GARBAGE:
            found.append(Garbage(GARBAGE + 1))
        end = stream.find(b"\x1c", start) if start >= 0 else -1
        if end < 0:
            return found
        body = stream[start:end].lstrip(b"\x0b")
        if len(body) > LIMIT:
            found.append(TooLong(len(body)))
        else:
            anew = list(_ANEW.finditer(body))
            found.append(Frame(body[anew[-1].end() :] if anew else body))
        at = end + 1


def fault(stream: bytes, cuts: list[int]) -> str:
    """What is wrong with how a stream is read; empty where nothing is."""
    try:
        whole, cut = FrameDecoder(LIMIT, GARBAGE), FrameDecoder(LIMIT, GARBAGE)
        events = whole.feed(stream)
        pieces: list[Event] = []
        at = 0
        for to in cuts:
            pieces += cut.feed(stream[at:to])
            at = to
        pieces += cut.feed(stream[at:])
    except Exception as problem:  # noqa: BLE001  whatever it raises is the finding
        return raised(problem)
    if pieces != events or whole.mid_frame != cut.mid_frame:
        return "other frames in other cuts"
    bare = [Frame(e.body) if isinstance(e, Frame) else e for e in events]
    return "" if bare == expected(stream) else "not the frames of these bytes"


def run(seed: int, minutes: float, say: Say) -> Result:
    """Streams for so long, each in two ways of cutting it."""
    found = Findings("framing", seed, say)
    dice, counts = found.dice, found.counts
    made = streams(dice)

    def batch() -> None:
        for _ in range(2000):
            stream = next(made)
            size = len(stream)
            if counts["inputs"] % 64 == 0:
                cuts = list(range(1, size))
            else:
                cuts = sorted(dice.randrange(size + 1) for _ in range(1 + dice.randrange(4)))
            counts["inputs"] += 1
            if wrong := fault(stream, cuts):
                found.note(wrong, (stream, cuts))

    return found.go_on(minutes, batch)
