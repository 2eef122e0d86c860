"""Both engines say the same: whatever a page, a queue or an alarm reads, of one hospital's rows on the one and other.

Every reading function of the store's modules is called, each with whatever fits the names of its parameters.
"""

import asyncio
import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

import bridge.store
from bridge.domain.patient import Identifier
from bridge.domain.states import State
from bridge.domain.task import NumberKind, OrderNumber
from bridge.store import (
    alarms,
    audit,
    backup,
    destinations,
    from_sqlite,
    gauges,
    inbox,
    outbound,
    outdated,
    people,
    prune,
    worklist,
)
from bridge.store.postgres_engine import reader_engine
from bridge.store.schema import millis
from bridge.store.search import Filters
from bridge.store.sqlite import SqliteStore
from bridge.store.sqlite import reader_engine as sqlite_reader
from tests.acceptance.scene import OpenHouse
from tests.contract.test_untold import held
from tests.postgres_server import Server

pytestmark = pytest.mark.peer
SAMPLES = sorted(Path("sample_messages").iterdir())
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
MOST = 120
"""Calls of one function."""

_OF_ONE_ENGINE = {"sqlite", "postgres", "from", "soundness", "backup", "inspection", "dry", "migrate", "engines"}
_WRITES = {"marks.put", "marks.end_line", "quarantine.begin", "workers.sign_on", "prune.erase_what_goes"}
"""Given a connection, and no readers: what the contract tests are about."""
_OF_A_PLACE = {"workers.surely_gone", "workers.by_role", "marks.why_not_trusted", "marks.why_not_shared"}
"""What they say rests on something besides the rows."""


def readers() -> dict[str, Callable[..., Any]]:
    """Every public function of the store's modules that is given a connection, by its module and name."""
    found = {}
    for module in pkgutil.iter_modules(bridge.store.__path__):
        if module.name.partition("_")[0] in _OF_ONE_ENGINE or module.ispkg:
            continue
        whole = importlib.import_module(f"bridge.store.{module.name}")
        for name, one in inspect.getmembers(whole, inspect.isfunction):
            first = next(iter(inspect.signature(one).parameters.values()), None)
            is_own = one.__module__ == whole.__name__ and not name.startswith("_")
            if is_own and first is not None and first.annotation in (sa.Connection, "sa.Connection", "Connection"):
                found[f"{module.name}.{name}"] = one
    return {name: one for name, one in found.items() if name not in _WRITES | _OF_A_PLACE}


def _column(conn: sa.Connection, query: str) -> list[Any]:
    return [value for value in conn.exec_driver_sql(query).scalars() if value is not None]


def samples(conn: sa.Connection) -> dict[str, list[Any]]:
    """What parameters of a name are given; `module.function.name` where one means something of its own."""
    messages = _column(conn, "SELECT id FROM message ORDER BY id")
    patients = [Identifier(v, a) for v, a in conn.exec_driver_sql("SELECT value, authority FROM patient ORDER BY id")]
    retired = _column(conn, "SELECT retired_value FROM alias ORDER BY id")
    orders = _column(conn, "SELECT id FROM clinical_order ORDER BY id")
    numbers = _column(conn, "SELECT DISTINCT value FROM number ORDER BY value")
    tasks = [part for ids in _column(conn, "SELECT task_ids FROM task ORDER BY id") for part in ids.split(",") if part]
    uids = _column(conn, "SELECT DISTINCT sop_instance_uid FROM message ORDER BY sop_instance_uid")
    words = _column(conn, "SELECT DISTINCT value FROM term ORDER BY value")
    names = _column(conn, "SELECT DISTINCT last_name FROM patient ORDER BY last_name")
    reasons = _column(conn, "SELECT DISTINCT reason FROM event ORDER BY reason")
    states = list(State)
    arrival = inbox.Arrival("hl7", "ORM^O01", NOW, "hl7", "127.0.0.1", "HIS|TEST", None, "d", control_id="MSG00002")
    senders = _column(conn, "SELECT DISTINCT sender FROM message ORDER BY sender")
    everything = Filters(states=["HELD", "DONE"], kinds=["hl7"], sender=senders[0] if senders else "", since=LONG_AGO)
    upto = prune.Upto(*[millis(NOW)] * 3, millis(NOW), millis(NOW))
    return {
        "message_id": messages, "own": messages, "message_ids": [messages, messages[:3], []], "ids": [messages, []],
        "task_message_ids": [messages, []], "order_id": orders, "task_row": _column(conn, "SELECT id FROM task"),
        "task_id": tasks, "tasks.holder_of.task_id": [int(one) for one in tasks], "alarm_ids": [[1, 2], []],
        "person_id": [1], "session_id": [1, 99], "patient_id": [*range(1, len(patients) + 2)], "anomaly_id": [1, 2, 99],
        "row_id": [1, 2], "queue": ["outbound", "commitment"], "name": ["cardio", "", "anna", "line", "nobody"],
        "subject": ["idp 1", "x"], "secret": ["secret", "x"], "identity": [None, "x"], "arrival": [arrival],
        "anomalies.tasks_made_for.patient": patients, "patient": [one.value for one in patients],
        "identifier": [*patients, *(Identifier(value) for value in retired)],
        "survivor": patients, "value": [*(one.value for one in patients), "x"], "authority": ["TEST", ""],
        "patient_value": [one.value for one in patients], "visit": ["", "V1"], "site_authority": ["", "TEST"],
        "patients": [[one.value for one in patients], []], "numbers": [numbers, numbers[:1], []],
        "values": [numbers, [one.value for one in patients], []], "wanted": numbers,
        "own_number": [OrderNumber(number, NumberKind.PLACER, "HIS") for number in numbers[:20]],
        "sop_instance_uid": uids, "sop_instance_uids": [uids, []], "uids": [uids], "digest": ["d"],
        "payload": _column(conn, "SELECT payload FROM message ORDER BY id") or ["x"],
        "text": [*words[::3], *(word[:2] for word in words[::5]), *names, "%", "_", "ä", "must mari", "x 1", ""],
        "beginning": [*words[::4], *(word[:1] for word in words[::7]), ""], "filters": [Filters(), everything],
        "before": [None, 20], "listing.rows.states": [[], ["HELD"], states], "states": [[], ["HELD"], states],
        "state": states, "reason": reasons, "but": [None, *reasons], "known": [["cardio"], [], ["x"]], "key": ["x"],
        "destination": ["cardio", "", "x"], "address": ["127.0.0.1:1"], "requester": ["CART"],
        "channel": ["mail", "x"], "channels": [["mail", "webhook"]], "listeners": [["hl7", "dicom"]],
        "senders": [senders], "without": [[], ["cardio"]],
        "listener": ["hl7"], "kind": ["p", "o", "n"], "outdated.count.kind": list(outdated.KINDS), "edges": [upto],
        "window": [worklist.Window(0, millis(NOW))], "at": [NOW, LONG_AGO], "by_time.first_at.at": [0, millis(NOW)],
        "since": [LONG_AGO, NOW], "audit.acts.since": [0, 2], "by_time.between.since": [None, LONG_AGO, NOW],
        "until": [None, NOW], "now": [NOW], "after": [0, 5], "upto": [9999], "limit": [2, 500], "most": [3, 500],
        "low": [0], "high": [9999], "zone": [ZoneInfo("Europe/Berlin"), UTC], "kinds": [["hl7"]],
        "order": numbers, "control_id": _column(conn, "SELECT DISTINCT control_id FROM message"),
        "of_patients": [True, False],
        "first": [0, 5], "line.unread_from.before": [5, 9999],
        "one": [prune.Going("x", "y")], "patients.record_of.identifier": patients, "case": [""],
    }  # fmt: skip


def calls(name: str, one: Callable[..., Any], given: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Ways to call it: what has to be given in every mixture, what may be given once each."""
    wanted: dict[str, list[Any]] = {}
    for parameter in list(inspect.signature(one).parameters.values())[1:]:
        values = given.get(f"{name}.{parameter.name}", given.get(parameter.name))
        if parameter.default is not parameter.empty:
            values = [*(values or [])[:6], parameter.default]
        assert values is not None, f"{name}({parameter.name}): say what it is given"
        wanted[parameter.name] = values
    for mixture in itertools.islice(itertools.product(*wanted.values()), MOST):
        yield dict(zip(wanted, mixture, strict=True))


def plain(value: Any) -> Any:
    """As it can be compared: rows, views and iterators are lists of what they hold."""
    if isinstance(value, gauges.Gauges):  # SQLite has one process, and it is there
        return replace(value, workers={})
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    if isinstance(value, sa.Row) or hasattr(value, "_asdict"):
        return {key: plain(one) for key, one in value._asdict().items()}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, Iterator)):
        return [plain(one) for one in value]
    return value


def said(conn: sa.Connection, one: Callable[..., Any], values: dict[str, Any]) -> Any:
    try:
        return plain(one(conn, **values))
    except (sa.exc.SQLAlchemyError, conn.dialect.dbapi.Error):  # type: ignore[union-attr]
        raise
    except Exception as problem:  # noqa: BLE001  what it refuses, it refuses on both
        return repr(problem)


async def a_hospital(house: OpenHouse) -> Path:
    """A store in which something of everything is; its file."""
    async with house(BRIDGE_SITE__ASSIGNING_AUTHORITY="TEST") as it:
        for file in SAMPLES:
            if file.suffix == ".hl7":
                await it.hl7(file.read_bytes())
            elif file.suffix == ".dcm":
                await it.store(file)
        await it.until(lambda rows: len(rows) > 30 and all(row.state != State.RECEIVED for row in rows))
        store = it.up.store
        await held(store)

        def more(tx: inbox.Transaction) -> None:
            person = people.make(tx, "anna", "admin", at=NOW, password="hash", subject="idp 1")
            people.begin(tx, person, "secret", at=NOW)
            alarms.begin(tx, "queue_old", "cardio", at=NOW, detail={"number": 1}, channels=["mail", "webhook"])
            audit.note(tx, at=NOW, actor="anna", action="release", outcome=audit.DONE, message_id=1, detail={"a": "ä"})
            destinations.note(tx, "cardio", down=True, at=NOW, reason="unreachable")
            outbound.add(
                tx, message_id=2, kind="task_ids", listener="hl7", address="127.0.0.1:1", order_key=None,
                control_id="CB2", body=b"MSH", at=NOW - timedelta(days=1),
            )  # fmt: skip

        await store.write(more)
        assert isinstance(store, SqliteStore)
        return store.path


async def test_both_engines_say_the_same(house: OpenHouse, postgres: Server, tmp_path: Path) -> None:
    copy, path = tmp_path / "copy.db", tmp_path / "there" / "bridge.db"
    backup.copy(await a_hospital(house), copy)
    backup.put_back(copy, path)
    database = postgres.database("both_engines", "template0")
    try:
        from_sqlite.put_over(database, copy, tmp_path / "host")
        told = await asyncio.to_thread(_compared, path, database)
    finally:
        postgres.drop("both_engines")
    assert told["calls"] > 2000
    assert told["functions"] > 130
    assert told["something"] > 95, "most find something"


def _compared(path: Path, database: sa.URL) -> dict[str, int]:
    sqlite, postgres = sqlite_reader(path), reader_engine(database)
    counted = {"calls": 0, "functions": 0, "something": 0}
    with sqlite.connect() as here:
        given = samples(here)
        with postgres.connect() as there:
            # As in a large store: what has no order comes by its index.
            there.exec_driver_sql("SET enable_seqscan = off")
            for name, one in readers().items():
                found = False
                for values in calls(name, one, given):
                    try:
                        ours, others = said(here, one, values), said(there, one, values)
                    except Exception as problem:
                        problem.add_note(f"{name}({values})")
                        raise
                    assert ours == others, (name, values)
                    counted["calls"] += 1
                    found = found or bool(ours)
                counted["functions"] += 1
                counted["something"] += found
    for engine in (sqlite, postgres):
        engine.dispose()
    return counted
