"""What the sandbox API was given and what it did with it: the journal that judges the bridge.

Invented patients only: unlike the bridge's own logs, it shows whole request bodies.
"""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Entry:
    """One request. `status` is None where no status was answered (yet)."""

    number: int  # from 1, never used twice
    time: float  # seconds since 1970, when its head was read
    method: str
    call: str  # uploads, chunks, tasks, status, downloads; "" for a path that is not documented
    template: str
    path: str
    query: str
    status: int | None = None
    fault: str = ""
    text: str = ""  # the refusal's
    body: Any = None  # of a JSON call
    size: int = 0  # of the body, bytes
    sha256: str = ""  # of a chunk
    upload_id: str = ""  # that was opened, or whose chunk was taken
    task_ids: tuple[int, ...] = ()  # that were created

    def shown(self) -> dict[str, Any]:
        """As JSON values; ids are strings, since browsers round integers above 2^53."""
        made: dict[str, Any] = {
            "number": self.number,
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(),
            "method": self.method,
            "call": self.call,
            "template": self.template,
            "path": self.path,
            "query": self.query,
            "size": self.size,
            "status": self.status,
            "fault": self.fault or None,
        }
        applied: dict[str, Any] = {}
        if self.upload_id:
            applied["upload_id"] = self.upload_id
        if self.task_ids:
            applied["created_task_ids"] = [str(i) for i in self.task_ids]
        made["applied"] = applied or None
        made |= {k: v for k, v in (("body", self.body), ("sha256", self.sha256), ("text", self.text)) if v}
        return made


class Journal:
    """Every request, oldest first; the newest `most` are kept. Numbers go on after `clear`.

    Read in the process or over HTTP, an entry is the same dict: `Entry.shown`.
    """

    def __init__(self, most: int = 1_000_000) -> None:
        self._entries: deque[Entry] = deque(maxlen=most)
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.select())

    def add(self, method: str, call: str, template: str, path: str, query: str) -> Entry:
        """Note a request as it comes in; what becomes of it is written into the entry."""
        self._count += 1
        entry = Entry(self._count, time.time(), method, call, template, path, query)
        self._entries.append(entry)
        return entry

    def select(self, path: str = "", since: int = 0) -> list[dict[str, Any]]:
        """Those after number `since`, of a call by its name (`tasks`) or of a path that begins so (`/v3/uploads`)."""
        return [
            e.shown()
            for e in self._entries
            if e.number > since and (not path or e.call == path or (path.startswith("/") and e.path.startswith(path)))
        ]

    def clear(self) -> None:
        """Forget what was noted."""
        self._entries.clear()


class TaskFile:
    """A file with a JSON line for each created task, handed to the system before the answer goes out.

    So it outlives the sandbox, and can be read while it runs.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, number: int, created: datetime, request: dict[str, Any], task_ids: tuple[int, ...]) -> None:
        """One line a task; `request` is the body as it came."""
        when = created.isoformat()
        for task_id in task_ids:
            line = {"id": task_id, "time": when, "number": number, "request": request}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
