"""The audit trail: what every engine of the store promises of it, and what leaves it (ITI-20, PS3.15 A.5)."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa

from bridge.console.atna import exported
from bridge.errors import StoreConflict
from bridge.store import audit
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.schema import audit as table
from bridge.store.schema import message

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def noted(store: GroupedStore, count: int = 5) -> None:
    """Acts of two persons on a message and on none."""

    def work(tx: Transaction) -> None:
        row = {"kind": "dicom", "type": "12-lead ECG", "state": "HELD", "received_at": 0, "sop_instance_uid": "2.25.1"}
        tx.conn.execute(message.insert(), row)

    await store.write(work)
    for n in range(count):

        def one(tx: Transaction, n: int = n) -> str:
            return audit.note(
                tx,
                at=NOW + timedelta(seconds=n),
                actor="max" if n % 2 else "anna",
                action="release" if n else "discard",
                outcome=audit.DONE if n else audit.REFUSED,
                message_id=1 if n < 4 else None,
                detail={"why": 'Muster^Max was "mixed up"', "state": "READY"},
            )

        await store.write(one)


async def broken(store: GroupedStore) -> audit.Broken | None:
    return await store.read(audit.verify)


async def test_rows_come_back_as_they_were_written_and_the_chain_is_whole(store: GroupedStore) -> None:
    assert await broken(store) is None, "an empty one too"
    await noted(store)
    acts = await store.read(lambda conn: list(audit.acts(conn)))
    assert [(a.actor, a.action, a.outcome, a.message_id, a.kind) for a in acts[:2]] == [
        ("anna", "discard", "refused", 1, "dicom"),
        ("max", "release", "done", 1, "dicom"),
    ]
    assert acts[4].message_id is None
    assert acts[0].at == NOW
    assert await broken(store) is None
    assert await store.read(audit.newest_hash) == acts[-1].hash
    assert len(await store.read(lambda conn: list(audit.acts(conn, since=acts[2].id)))) == 2


CHANGES: dict[str, Any] = {
    "actor": "somebody",
    "at": 1,
    "action": "show",
    "outcome": "done ",
    "message_id": None,
    "detail": "{}",
    "previous": "another",
}


@pytest.mark.parametrize("column", CHANGES)
async def test_a_row_that_was_changed_is_found(store: GroupedStore, column: str) -> None:
    await noted(store)
    await store.write(lambda tx: tx.conn.execute(table.update().where(table.c.id == 3), {column: CHANGES[column]}))
    found = await broken(store)
    assert found is not None
    assert found.id == 3


async def test_a_row_that_was_taken_out_or_put_between_is_found(store: GroupedStore) -> None:
    await noted(store)
    await store.write(lambda tx: tx.conn.execute(table.delete().where(table.c.id == 3)))
    found = await broken(store)
    assert found is not None
    assert found.id == 4


async def test_a_changed_row_with_a_hash_made_anew_is_found_at_the_next_one(store: GroupedStore) -> None:
    await noted(store)

    def forge(tx: Transaction) -> None:
        row = dict(tx.conn.execute(sa.select(table).where(table.c.id == 3)).mappings().one())
        row["actor"] = "somebody"
        made = audit._hashed(row["previous"], row)
        tx.conn.execute(table.update().where(table.c.id == 3), {"actor": "somebody", "hash": made})

    await store.write(forge)
    found = await broken(store)
    assert found is not None
    assert found.id == 4


async def test_the_chain_has_no_fork(store: GroupedStore) -> None:
    await noted(store, 2)

    def fork(tx: Transaction) -> None:
        row = dict(tx.conn.execute(sa.select(table).where(table.c.id == 2)).mappings().one())
        tx.conn.execute(table.insert(), {**row, "id": 9, "hash": "another"})

    with pytest.raises(StoreConflict):
        await store.write(fork)


async def test_iti_20_the_export_has_the_parts_of_an_audit_message_and_no_patients_value(store: GroupedStore) -> None:
    await noted(store)
    lines = await store.read(lambda conn: list(exported(audit.acts(conn), host="bridge1")))
    assert len(lines) == 5
    assert not [line for line in lines if "Muster" in line or "\n" in line]
    refused, done = (ET.fromstring(line) for line in lines[:2])
    assert [part.tag for part in refused] == [
        "EventIdentification",
        "ActiveParticipant",
        "ActiveParticipant",
        "AuditSourceIdentification",
        "ParticipantObjectIdentification",
        "ParticipantObjectIdentification",
    ]
    identification = done[0]
    assert identification.get("EventOutcomeIndicator") == "0"
    assert refused[0].get("EventOutcomeIndicator") == "4"
    assert identification.get("EventDateTime") == "2026-03-01T12:00:01+00:00"
    assert identification[0].attrib == {
        "csd-code": "110103",
        "codeSystemName": "DCM",
        "originalText": "DICOM Instances Accessed",
    }
    assert identification[1].get("csd-code") == "release"
    assert [(p.get("UserID"), p.get("UserIsRequestor")) for p in done[1:3]] == [
        ("max", "true"),
        ("cardio-bridge", "false"),
    ]
    assert done[4].get("ParticipantObjectID") == "message/1"
    assert re.fullmatch(r"2\.25\.1", done[5].get("ParticipantObjectID") or "")
    assert done[5][0].get("codeSystemName") == "cardio-bridge", "DCM has a code for its class and its study alone"
