"""Logs: one JSON line an event on standard error. Events are `noun.verb`; fields are ids and codes that we minted.

Only what is on the list gets out: a value that is not named here is dropped, so that no patient's value can slip in.
A thread of its own writes the lines: whoever logs leaves his line and goes on, however slow, full or gone the sink is
(F45). What finds no place in the queue, or no room in the sink, is counted and told as soon as a line goes out again.
"""

import atexit
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

FIELDS = frozenset(
    {
        "event", "level", "timestamp", "message", "reason", "error", "listener", "known", "state", "swept", "in_doubt",
        "resumed", "mid_frame", "part", "address", "number", "seconds", "outbound", "commitment", "failed",
        "beyond", "withheld", "held", "action", "audit", "destination", "took", "workers", "ended",
    }
)  # fmt: skip
"""Every field that a log line may carry."""
MOST = 10_000
"""Lines that wait for a slow sink: some 2 MB."""
_AT_THE_END = 1.0
"""Seconds for what waits when the process ends."""
_STDERR = 2


def _allowed(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in line.items() if key in FIELDS}


class Sink:
    """A file handle behind a queue. `write` never waits and never raises."""

    def __init__(self, fd: int = _STDERR, most: int = MOST) -> None:
        self._fd = fd
        self._most = most
        self._lines: deque[bytes] = deque()
        self._there = threading.Condition()
        self._thread: threading.Thread | None = None
        self._writing = False
        self._untold = 0
        self.dropped = 0
        """Lines that never came out, since the process began."""
        os.register_at_fork(after_in_child=self._alone)

    def _alone(self) -> None:
        """In the child of a fork nothing waits, and no thread is there."""
        self._there = threading.Condition()
        self._lines.clear()
        self._thread = None
        self._writing = False

    def write(self, text: str) -> int:
        """Leave a line, or a part of one."""
        with self._there:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()
            if len(self._lines) >= self._most:
                self._drop(1)
            else:
                self._lines.append(text.encode("utf-8", "replace"))
                self._there.notify_all()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: the thread is at it."""

    def drain(self, seconds: float = _AT_THE_END) -> bool:
        """Wait until everything is written, and no longer than that. Whether it is."""
        by = time.monotonic() + seconds
        with self._there:
            return self._there.wait_for(lambda: not self._lines and not self._writing, by - time.monotonic())

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._untold += lines

    def _run(self) -> None:
        while True:
            with self._there:
                self._writing = False
                self._there.notify_all()
                self._there.wait_for(lambda: self._lines)
                self._writing = True
                waiting = list(self._lines)
                self._lines.clear()
                lost, self._untold = self._untold, 0
            if lost and not self._out(_told(lost)):
                with self._there:
                    self._untold += lost
            for line in waiting:
                if not self._out(line):
                    with self._there:
                        self._drop(1)

    def _out(self, line: bytes) -> bool:
        """Write all of it. Where a part is out already and no more goes, the next one begins on a line of its own."""
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except (OSError, ValueError):  # full, gone, closed
            if len(view) < len(line):
                with contextlib.suppress(OSError, ValueError):
                    os.write(self._fd, b"\n")
            return False
        return True


def _told(lost: int) -> bytes:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f'{{"number": {lost}, "event": "log.dropped", "level": "warning", "timestamp": "{at}"}}\n'.encode()


SINK = Sink()
"""The process's own."""


def configure(level: str = "info") -> None:
    """Set logging up for the process; libraries' own logs are kept to errors."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allowed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", SINK)),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.CRITICAL, stream=SINK)
    atexit.register(SINK.drain)
