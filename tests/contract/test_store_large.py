"""What a large SQLite store costs: a reader's connection keeps little of it."""

import json
import subprocess
import sys
from datetime import UTC, datetime

from bridge.store import inbox
from bridge.store.port import Transaction
from bridge.store.sqlite import SqliteStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS, EACH = 3000, 2000
"""Messages, and bytes of each: 6 MB, three times what SQLite keeps of a database by itself."""
READERS = 8
MOST = 8.0
"""MB for all readers together. With a cache of SQLite's own size they take 17, with ours 3 (measured)."""

_READERS = """
import json, sys, threading
from pathlib import Path
from bridge.store.schema import message
from bridge.store.sqlite import reader_engine
import sqlalchemy as sa

path, readers = Path(sys.argv[1]), int(sys.argv[2])
engine = reader_engine(path)
read, measured = threading.Barrier(readers + 1), threading.Barrier(readers + 1)
whole = sa.select(sa.func.sum(message.c.size)).where(message.c.peer != "")

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

def look():
    with engine.connect() as conn:
        seen.append(conn.execute(whole).scalar())
        read.wait()
        measured.wait()

seen = []
with engine.connect() as conn:
    conn.execute(whole)
    before = resident()
    threads = [threading.Thread(target=look) for _ in range(readers)]
    for thread in threads:
        thread.start()
    read.wait()
    print(json.dumps({"seen": seen, "grown": resident() - before}))
    measured.wait()
    for thread in threads:
        thread.join()
"""


def fill(tx: Transaction) -> None:
    for number in range(ROWS):
        own = f"m{number}"
        inbox.keep(
            tx,
            inbox.Arrival("hl7", "ADT^A01", NOW, "hl7", "127.0.0.1", "HIS|TEST", own, own, raw=bytes(EACH), size=EACH),
        )


async def test_readers_keep_little_of_what_they_have_read(sqlite_store: SqliteStore) -> None:
    """Each thread that reads has its connection's pages in an arena of its own, and the allocator keeps the room."""
    await sqlite_store.write(fill)
    command = [sys.executable, "-c", _READERS, str(sqlite_store.path), str(READERS)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: ASYNC221  nothing else is to be done
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout)
    assert told["seen"] == [ROWS * EACH] * READERS
    assert told["grown"] < MOST
