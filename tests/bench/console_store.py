"""A store as it is after months: messages, their history, tasks and words, made by the engine itself in a minute.

A message's raw text and what was understood of it are shorter than real ones, for the disk's sake. What the searches of
the benchmark look for is spread as it is in a hospital: few senders, many patients, some names that every tenth has.
"""

import contextlib
import sqlite3
from datetime import datetime
from pathlib import Path

from bridge.store.migrate import upgrade
from bridge.store.sqlite import writer_engine

GAP = 15_000
"""Milliseconds between two messages: 5,760 a day."""
RARE, COMMON, FIRST = "quast", "muster", "max"
"""A name of few; one that every fortieth has, and no Max; the first name of every twentieth."""

_WHO = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :many)
INSERT INTO who SELECT i, i * 7919 % (:many / 5 + 7), (i * 2654435761 >> 9) % 1000,
    CASE WHEN i > :many - 40 THEN 'o' WHEN i % 20 < 11 THEN 'a' WHEN i % 20 < 17 THEN 'n' ELSE 'd' END FROM n
"""
_MESSAGE = """
INSERT INTO message (id, kind, type, state, reason, received_at, listener, peer, sender, control_id, sop_instance_uid,
    identity, digest, raw, size, order_key, order_number, understood, answer_code, answer, attempts, destination)
SELECT i, CASE sort WHEN 'd' THEN 'dicom' ELSE 'hl7' END,
    CASE sort WHEN 'a' THEN 'ADT^A08' WHEN 'd' THEN 'TwelveLeadECGWaveformStorage' ELSE 'ORM^O01' END,
    CASE WHEN sort = 'o' THEN CASE i % 3 WHEN 0 THEN 'READY' WHEN 1 THEN 'RETRY' ELSE 'RECEIVED' END
         WHEN sort = 'a' THEN 'DONE' WHEN luck < 3 THEN 'HELD' WHEN luck < 10 THEN 'REJECTED'
         WHEN i % 99991 = 3 THEN 'IN_DOUBT' WHEN luck < 20 THEN 'FILTERED' ELSE 'CREATED' END,
    CASE WHEN sort NOT IN ('a', 'o') AND luck < 3 THEN 'no_match' ELSE '' END, :start + i * :gap,
    CASE sort WHEN 'd' THEN 'dicom' ELSE 'hl7' END, '10.0.0.' || (i % 7),
    CASE sort WHEN 'a' THEN 'HIS|NORTH' WHEN 'd' THEN 'CART' || (i % 40) ELSE 'ORDERS|NORTH' END,
    CASE sort WHEN 'd' THEN '' ELSE 'MSG' || printf('%08d', i) END,
    CASE sort WHEN 'd' THEN '2.25.3141592653589793.' || (i * 7) ELSE '' END,
    'k' || i, printf('%064d', i), zeroblob(500), 500, printf('%07d', person),
    CASE sort WHEN 'a' THEN '' ELSE 'PL-' || (i / 20 * 6 + i % 20 % 6) END,
    printf('{"orders": [], "recording": null, "warnings": [], "doubts": [], "filled": "%0350d"}', i),
    'AA', zeroblob(250), 0, CASE sort WHEN 'a' THEN '' ELSE 'cardio' END
FROM who
"""
_EVENT = """
INSERT INTO event (message_id, at, actor, state, reason, detail)
SELECT i, :start + i * :gap, 'bridge', state, '', '' FROM who
CROSS JOIN (SELECT 'RECEIVED' AS state UNION ALL SELECT 'DONE') WHERE i > 0
"""
_TASK = """
INSERT INTO task (message_id, position, purpose, key, generation, state, reason, body, sent, traces, intent_at,
    settled_at, task_ids, api_text, watched)
SELECT id, 1, CASE kind WHEN 'dicom' THEN 'recording' ELSE 'draft' END, 'br1-' || id, 1, state, '', zeroblob(250), 1,
    '[]', received_at, received_at + 50, CASE state WHEN 'CREATED' THEN 700000000 + id ELSE '' END, '', ''
FROM message WHERE state IN ('CREATED', 'IN_DOUBT', 'REJECTED')
"""
_NUMBER = """
INSERT INTO number (role, message_id, position, value, kind, authority)
SELECT CASE kind WHEN 'dicom' THEN 'recording' ELSE 'order' END, id, 1, order_number, 'placer', 'HIS'
FROM message WHERE order_number != ''
"""
_WORDS = (
    "SELECT id, lower(control_id), 'c' FROM message WHERE control_id != ''",
    "SELECT id, sop_instance_uid, 'i' FROM message WHERE sop_instance_uid != ''",
    "SELECT id, lower(sender), 's' FROM message",
    "SELECT id, 'north', 's' FROM message WHERE kind = 'hl7'",
    "SELECT id, peer, 'a' FROM message",
    "SELECT i, printf('%07d', person), 'p' FROM who",
    """SELECT i, CASE WHEN person % 40 = 1 THEN :common WHEN person % 9973 = 5 THEN :rare
    ELSE 'family' || (person % 5000) END, 'n' FROM who""",
    "SELECT i, CASE person % 20 WHEN 2 THEN :first ELSE 'given' || (person % 300) END, 'n' FROM who",
    "SELECT id, lower(order_number), 'o' FROM message WHERE order_number != ''",
    "SELECT id, 'acc' || id, 'o' FROM message WHERE order_number != ''",
    "SELECT message_id, task_ids, 't' FROM task WHERE task_ids != ''",
)


def fill(path: Path, many: int, *, until: datetime) -> None:
    """Make a store with so many messages, the newest of which came at `until`."""
    engine = writer_engine(path)
    upgrade(engine)
    engine.dispose()
    start = round(until.timestamp() * 1000) - many * GAP
    given = {"many": many, "start": start, "gap": GAP, "common": COMMON, "rare": RARE, "first": FIRST}
    with contextlib.closing(sqlite3.connect(path)) as conn:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-200000", "temp_store=MEMORY"):
            conn.execute(f"PRAGMA {pragma}")
        indexes = conn.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            conn.execute(f"DROP INDEX {name}")
        conn.execute("CREATE TEMP TABLE who (i INTEGER PRIMARY KEY, person INTEGER, luck INTEGER, sort TEXT)")
        for statement in (_WHO, _MESSAGE, _EVENT, _TASK, _NUMBER):
            conn.execute(statement, {name: given[name] for name in given if f":{name}" in statement})
        words = " UNION ALL ".join(_WORDS)
        conn.execute(
            f"INSERT INTO term (message_id, value, kind) SELECT * FROM ({words}) ORDER BY 1, 2, 3",
            {name: given[name] for name in ("common", "rare", "first")},
        )
        for _, sql in indexes:
            conn.execute(sql)
        conn.commit()
        conn.execute("PRAGMA journal_mode=WAL")
