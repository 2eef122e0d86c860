"""An order book on a store, and a cart that asks for its worklist."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from bridge.clock import SystemClock
from bridge.dispatch.booking import Booking
from bridge.dispatch.understand import understand_message
from bridge.domain.states import State
from bridge.formats.hl7.reader import read
from bridge.mapping.rules import load_rules
from bridge.receive.dicom.session import Session
from bridge.receive.dicom.worklist import Worklist
from bridge.settings import Settings
from bridge.store import inbox, tasks
from bridge.store.grouped import GroupedStore
from bridge.store.port import Transaction
from bridge.store.schema import clinical_order

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IMPLICIT = "1.2.840.10008.1.2"
RULES = load_rules(None)
CART = Session("CART1", "CARDIOBRIDGE", "127.0.0.1")


class FixedClock(SystemClock):
    """A clock that stands until a test moves it."""

    moment = NOW

    def now(self) -> datetime:
        return self.moment


@dataclass
class Scene:
    """A store with an order book, and a cart that asks for its worklist."""

    store: GroupedStore
    settings: Settings
    clock: FixedClock = field(default_factory=FixedClock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def book(self, *segments: str, patient: str = "4711", name: str = "Muster^Max", control: str = "NW") -> int:
        """Enter an order as the service does; its message."""
        text = "\r".join(
            (
                "MSH|^~\\&|HIS|TEST|||20260301120000+0000||ORM^O01|C1|P|2.5",
                f"PID|1||{patient}^^^TEST^MR||{name}||19700131|M",
                *(segments or ("ORC|NW|PL-1^HIS", "OBR|1|PL-1^HIS||93000^12-lead ECG^CPT")),
                "",
            )
        ).replace("ORC|NW", f"ORC|{control}")
        now = self.clock.now()
        listener = self.settings.hl7.all()["hl7"]
        understood = understand_message(read(text.encode()), "HIS|TEST", RULES, self.settings, now, listener)

        def work(tx: Transaction) -> int:
            kept = self.keep(tx)
            for order in understood.orders:
                Booking(self.settings, self.clock).enter(tx, kept, order, understood.sent_at)
            return kept

        return self.store.write_from_thread(work)

    def keep(self, tx: Transaction, kind: str = "hl7") -> int:
        arrival = inbox.Arrival(
            kind=kind,
            type="ORM^O01",
            received_at=self.clock.now(),
            listener="hl7",
            peer="127.0.0.1",
            sender="HIS|TEST",
            identity=str(next(self.numbers)),
            digest="d",
            control_id="C1",
            raw=b"MSH|x",
        )
        return inbox.keep(tx, arrival).id

    def task(self, order_message: int, state: State, purpose: str = "recording") -> None:
        """A task of that message's order."""

        def work(tx: Transaction) -> None:
            query = sa.select(clinical_order.c.id).where(clinical_order.c.message_id == order_message)
            order = tx.conn.execute(query).scalar_one()
            row = tasks.intend(
                tx,
                message_id=self.keep(tx, "dicom"),
                position=0,
                order_id=order,
                purpose=purpose,
                key=f"br1-{next(self.numbers)}",
                generation=1,
                body=b"{}",
                traces=(),
                at=self.clock.now(),
            )
            if state is not State.INTENT:
                tasks.settle(tx, row, state, at=self.clock.now(), task_ids=(4712,))

        self.store.write_from_thread(work)

    def ask(self, session: Session = CART, step: dict[str, str] | None = None, **keys: str) -> list[Dataset]:
        """The matches of a query."""
        found = Worklist(self.store, self.settings, self.clock, site_key=b"a secret of the site").find(
            query(step, **keys), IMPLICIT, session
        )
        return [read_dataset(BytesIO(answer), is_implicit_VR=True, is_little_endian=True) for _, answer in found]

    def listed(self, **keys: str) -> list[str]:
        """The accession numbers of what is told, in order."""
        return [str(found.AccessionNumber) for found in self.ask(**keys)]


def query(step: dict[str, str] | None = None, **keys: str) -> bytes:
    """What a cart asks for, besides patient, numbers and the step's start."""
    made = Dataset()
    for keyword in ("PatientName", "PatientID", "AccessionNumber"):
        setattr(made, keyword, keys.pop(keyword, ""))
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    item = Dataset()
    asked = {"ScheduledStationAETitle": "", "ScheduledProcedureStepStartDate": "", **(step or {})}
    for keyword, value in {**asked, "ScheduledProcedureStepStartTime": ""}.items():
        setattr(item, keyword, value)
    made.ScheduledProcedureStepSequence = Items([item])
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = True, True
    write_dataset(file, made)
    return bytes(file.getvalue())
