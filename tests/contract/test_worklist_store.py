"""The order book as a worklist, on every engine of the store: what waits, in which window, found by which index."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from alembic import command

from bridge.domain.patient import Identifier, PatientUpdate
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.errors import BadInput, StoreError
from bridge.receive.dicom.worklist import Worklist
from bridge.settings import Settings
from bridge.store import book, migrate, patients, worklist
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.schema import clinical_order
from bridge.store.sqlite import writer_engine
from tests.contract.worklist_scene import CART, IMPLICIT, NOW, Scene, query

MakeScene = Callable[..., Scene]


@pytest.fixture
def scene(store: GroupedStore) -> MakeScene:
    """A scene with worklist settings of the test's own."""

    def made(**settings: Any) -> Scene:
        dicom = {"calling_ae_titles": ["CART1"], "worklist": {"enabled": True, **settings}}
        return Scene(store, Settings.model_validate({"dicom": dicom}))

    return made


def numbered(value: str, *, planned: str = "", station: str = "") -> tuple[str, ...]:
    """The segments of an order with this number, planned for then."""
    ipc = (f"IPC|||||ECG||||{station}",) if station else ()
    return (f"ORC|NW|{value}^HIS|||||^^^{planned}", f"OBR|1|{value}^HIS||93000^ECG^CPT", *ipc)


async def test_only_orders_that_stand_are_told(scene: MakeScene) -> None:
    it = scene()
    for value in ("ACTIVE", "HELD", "CANCELLED", "REPLACED"):
        it.book(*numbered(value))
    for value, control in (("HELD", "HD"), ("CANCELLED", "CA"), ("REPLACED", "RP"), ("UNSEEN", "CA")):
        it.book(*numbered(value), control=control)
    assert it.listed() == ["ACTIVE"]
    it.book(*numbered("HELD"), control="RL")
    assert sorted(it.listed()) == ["ACTIVE", "HELD"]


async def test_an_order_that_is_released_is_due_from_then_on(scene: MakeScene) -> None:
    it = scene()
    it.book()
    it.book(control="HD")
    it.clock.moment = NOW + timedelta(days=20)
    it.book(control="RL")
    assert it.listed() == ["PL-1"]


@pytest.mark.parametrize(
    ("state", "purpose", "listed"),
    [
        (State.CREATED, "recording", []),
        (State.IN_DOUBT, "recording", []),
        (State.INTENT, "recording", []),
        (State.REJECTED, "recording", ["PL-1"]),
        (State.CREATED, "draft", ["PL-1"]),
    ],
)
async def test_an_order_with_a_recordings_task_is_told_no_more(
    scene: MakeScene, state: State, purpose: str, listed: list[str]
) -> None:
    it = scene()
    it.task(it.book(), state, purpose)
    assert it.listed() == listed


@pytest.mark.parametrize(
    ("came", "planned", "listed"),
    [
        (timedelta(days=6, hours=23), "", True),
        (timedelta(days=7, hours=1), "", False),
        (timedelta(days=30), "20260228080000", True),  # ordered long ago, planned for yesterday
        (timedelta(0), "20260201080000", True),  # planned for long ago, and come today
        (timedelta(0), "20260302110000", True),
        (timedelta(0), "20260302130000", False),  # more than a day ahead
    ],
)
async def test_an_order_is_told_within_its_window(
    scene: MakeScene, came: timedelta, planned: str, *, listed: bool
) -> None:
    it = scene()
    it.clock.moment = NOW - came
    it.book(*numbered("PL-1", planned=planned))
    it.clock.moment = NOW
    assert it.listed() == ["PL-1"] * listed
    assert it.listed(PatientID="4711") == it.listed(AccessionNumber="PL-1") == ["PL-1"] * listed


async def test_matches_come_by_their_start(scene: MakeScene) -> None:
    it = scene()
    for value, planned in (("C", "20260302090000"), ("A", "20260228090000"), ("B", "20260301130000")):
        it.book(*numbered(value, planned=planned))
    assert it.listed() == ["A", "B", "C"]


async def test_beyond_the_limit_the_newest_are_told_and_the_end_is_a700(scene: MakeScene) -> None:
    it = scene(most_answers=3)
    for hour in range(3):
        it.book(*numbered(f"N{hour}", planned=f"2026030113{hour}000"))
    assert it.listed() == ["N0", "N1", "N2"]
    it.book(*numbered("N3", planned="20260301133000"))
    found = Worklist(it.store, it.settings, it.clock, site_key=b"a secret of the site").find(query(), IMPLICIT, CART)
    told = [next(found) for _ in range(3)]
    assert [b"N%d" % n in answer for n, (_, answer) in enumerate(told, 1)] == [True] * 3
    with pytest.raises(BadInput, match="more match than 3: ask more closely") as problem:
        next(found)
    assert problem.value.code == 0xA700


async def test_a_query_reads_page_after_page_until_it_has_looked_at_every_order(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = scene()
    for n in range(7):
        it.book(*numbered(f"N{n}"), name="Muster^Max" if n % 3 else "Anders^Anna")  # all due at the same moment
    small = worklist.NEWEST.statement.limit(None).limit(2)
    monkeypatch.setattr(worklist, "PAGE", 2)
    monkeypatch.setattr(worklist, "NEWEST", worklist.Prepared(small))
    assert it.listed() == [f"N{n}" for n in range(7)]
    assert it.listed(PatientName="Anders*") == ["N0", "N3", "N6"]


async def test_ps3_4_c_2_2_2_1_a_patient_is_found_under_the_identifier_that_stands(scene: MakeScene) -> None:
    it = scene()
    first = it.book(*numbered("OLD"))
    it.book(*numbered("NEW"), patient="0815")
    it.book(*numbered("OTHER"), patient="1", name="Anders^Anna")
    old, new = Identifier("4711", "TEST"), Identifier("0815", "TEST")
    await it.store.write(lambda tx: patients.retire(tx, old, new, first, at=NOW))
    assert it.listed(PatientID="0815") == ["OLD", "NEW"]
    assert it.listed(PatientID="4711") == []
    assert {str(m.PatientID) for m in it.ask()} == {"0815", "1"}


async def test_a_later_name_of_the_patient_record_is_told(scene: MakeScene) -> None:
    it = scene()
    it.book()
    who = Identifier("4711", "TEST")

    def rename(tx: Transaction) -> None:
        update = PatientUpdate(who, {"last_name": "Neumann", "first_name": "Max"})
        patients.update_patient(tx, update, it.keep(tx), site_authority="")

    await it.store.write(rename)
    (match,) = it.ask(PatientName="neumann*")
    assert match.PatientName == "Neumann^Max"
    assert it.ask(PatientName="Muster*") == []


async def test_a_change_of_the_time_alone_counts_and_silence_keeps_it(scene: MakeScene) -> None:
    it = scene()
    it.book(*numbered("PL-1", planned="20260301140000"))
    it.book(*numbered("PL-1", planned="20260302090000"), control="XO")
    assert [m.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime for m in it.ask()] == ["090000"]
    it.book(*numbered("PL-1"), control="XO")
    assert [m.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime for m in it.ask()] == ["090000"]


async def test_an_order_that_its_sender_calls_complete_is_told_no_more(scene: MakeScene) -> None:
    it = scene()
    it.book(*numbered("PL-1"))
    it.book("ORC|SC|PL-1^HIS|||CM", "OBR|1|PL-1^HIS||93000^ECG^CPT")
    assert it.listed() == []


async def test_the_station_that_is_planned_is_kept_apart_from_the_others(scene: MakeScene) -> None:
    it = scene()
    it.book(*numbered("MINE", station="CART1"))
    it.book(*numbered("THEIRS", station="CART2"))
    it.book(*numbered("ANYBODYS"))
    found = it.ask(step={"ScheduledStationAETitle": "CART1"})
    assert [str(m.AccessionNumber) for m in found] == ["MINE", "ANYBODYS"]
    assert {str(m.ScheduledProcedureStepSequence[0].ScheduledStationAETitle) for m in found} == {"CART1"}


async def test_ps3_4_c_2_2_2_5_2_times_are_in_the_zone_that_the_query_names(scene: MakeScene) -> None:
    it = scene()
    it.book(*numbered("PL-1", planned="20260301233000+0000"))
    (found,) = it.ask(step={"ScheduledProcedureStepStartDate": "20260302"}, TimezoneOffsetFromUTC="+0100")
    assert found.TimezoneOffsetFromUTC == "+0100"
    assert found.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime == "003000"
    assert it.ask(step={"ScheduledProcedureStepStartDate": "20260302"}) == []


async def test_an_offset_that_is_none_is_c000_and_not_told_back(scene: MakeScene) -> None:
    with pytest.raises(BadInput) as problem:
        scene().ask(TimezoneOffsetFromUTC="CET")
    assert (problem.value.code, problem.value.where) == (0xC000, "TimezoneOffsetFromUTC")


async def test_a_store_that_cannot_be_read_is_a_store_error(scene: MakeScene) -> None:
    it = scene()
    await it.store.write(lambda tx: tx.conn.exec_driver_sql("ALTER TABLE clinical_order RENAME TO gone"))
    with pytest.raises(StoreError):
        it.ask()
    await it.store.write(lambda tx: tx.conn.exec_driver_sql("ALTER TABLE gone RENAME TO clinical_order"))


async def test_an_order_that_is_booked_anew_after_a_refusal_has_the_plan_of_its_new_message(scene: MakeScene) -> None:
    it = scene()
    it.book()
    row = await it.store.read(lambda conn: conn.execute(sa.select(clinical_order)).one())
    other = Identifier("0815", "TEST")

    def replace(tx: Transaction) -> None:
        fields = {"patient_id": "0815", "patient_last_name": "Anders", "patient_first_name": "Anna"}
        mapped = Mapped(fields, patient_authority="TEST")
        book.replace_order(tx, row.id, it.keep(tx), 1, mapped, "d2", patient_id=other)

    await it.store.write(replace)
    (match,) = it.ask()
    assert (match.PatientID, match.PatientName) == ("0815", "Anders^Anna")  # never the first message's name


async def test_a_log_of_what_was_told_names_no_patient(scene: MakeScene) -> None:
    it = scene()
    it.book()
    with structlog.testing.capture_logs() as lines:
        assert it.listed(PatientName="Muster*", PatientID="4711") == ["PL-1"]
    events = [
        line["event"] for line in lines if line["event"] != "store.not_followed"
    ]  # another thread's, of its server
    assert events == ["worklist.told"]
    told = [str(value) for line in lines for value in line.values()]
    assert not [v for v in told if "Muster" in v or "4711" in v or "PL-1" in v]


async def test_0004_what_was_ordered_before_is_due_since_it_came(tmp_path: Path) -> None:
    engine = writer_engine(tmp_path / "bridge.db")
    with engine.connect() as conn:
        config = migrate._config()
        config.attributes["connection"] = conn
        command.upgrade(config, "0003")
        conn.exec_driver_sql(
            "INSERT INTO message (id, kind, type, state, reason, received_at, listener, peer, sender, control_id, "
            "sop_instance_uid, digest, size, order_number, answer_code, attempts) "
            "VALUES (7, 'hl7', '', 'CREATED', '', 1234, '', '', '', '', '', '', 0, '', '', 0)"
        )
        conn.exec_driver_sql(
            "INSERT INTO clinical_order (number, authority, message_id, position, patient_value, patient_authority, "
            "mapped, digest) VALUES ('PL-1', 'HIS', 7, 1, '4711', '', '{}', 'd')"
        )
        conn.commit()
    migrate.upgrade(engine)
    with engine.connect() as conn:
        row = conn.execute(sa.select(clinical_order.c.due_at, clinical_order.c.plan)).one()
    engine.dispose()
    assert tuple(row) == (1234, "")
