"""The product's own rules over a store in memory, without sockets and files, as `bridge map` runs them."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from bridge.dispatch.answers import Answers
from bridge.dispatch.concluding import Told, concluded
from bridge.dispatch.deciding import Attach, Deciding, Hold, Post, WaitForRelease, orders_of
from bridge.dispatch.entering import Entering
from bridge.dispatch.understand import doubts_from_json, understand_message, understand_recording
from bridge.domain.found import Found
from bridge.domain.recording import MultiplexGroup, Originality, Recording
from bridge.domain.states import SETTLED, State
from bridge.domain.verdict import OrderReply
from bridge.formats.dicom.reader import ECG_SOP_CLASSES, EcgObject
from bridge.formats.hl7.reader import read
from bridge.mapping.rules import load_rules
from bridge.settings import Settings
from bridge.store import book, dry, inbox, line, tasks
from bridge.store.port import Transaction
from tests.acceptance.model import OWN, Ecg, Event, Merge, Order, Outcome, Task, Update

RHYTHM = MultiplexGroup(1, Originality.ORIGINAL, "", Decimal(500), 5000, (), "<i2", 16, None, Decimal(0), 0, 0)
SEX = {"MALE": "M", "FEMALE": "F", None: ""}


class Ticking:
    """A clock that moves when it is read."""

    def __init__(self) -> None:
        self._ticks = 0

    def now(self) -> datetime:
        self._ticks += 1
        return datetime(2026, 3, 1, 11, tzinfo=UTC) + timedelta(seconds=self._ticks)


class Header:
    """A DICOM header, by keyword."""

    def __init__(self, **values: str) -> None:
        self._values = values

    def find(self, address: str) -> list[Found]:
        value = self._values.get(address)
        return [Found(value, address)] if value else []


class Bridge:
    """The product's rules: kept, understood, entered, and sent to an API that answers with ids of its own."""

    def __init__(self) -> None:
        document = {"site": {"time_zone": "Europe/Berlin", "assigning_authority": OWN}}
        self._settings = Settings.model_validate(document)
        self._rules = load_rules(None, name="defaults")
        self._clock: Any = Ticking()
        self._answers = Answers(self._settings.hl7, self._clock)
        self._entering = Entering(self._settings, self._clock, self._answers)
        self._deciding = Deciding(self._settings, b"invented" * 4, self._clock)
        self._books = dry.books()
        self._driver: Any = self._books.raw_connection().driver_connection
        self._empty: bytes = self._driver.serialize()
        self._count = itertools.count(1)
        self._answered: dict[int, bytes] = {}
        self.up = True

    def begin(self, *, up: bool) -> None:
        """Empty books."""
        self.restore((self._empty, {}))
        self.up = up

    def saved(self) -> tuple[bytes, dict[int, bytes]]:
        """All that is kept."""
        return self._driver.serialize(), dict(self._answered)

    def restore(self, saved: tuple[bytes, dict[int, bytes]]) -> None:
        """As it was then."""
        self._driver.deserialize(saved[0])
        self._answered = dict(saved[1])

    # --- coming in ------------------------------------------------------------------------------------------

    def arrive(self, event: Event) -> None:
        with self._books.begin() as conn:
            tx = Transaction(conn)
            if isinstance(event, Ecg):
                self._store(tx, event)
            else:
                self._hear(tx, hl7(event, next(self._count)))
        if self.up:
            self.send()

    def _hear(self, tx: Transaction, text: str) -> None:
        raw, now = text.encode(), self._clock.now()
        claimed = self._keep(tx, "hl7", "HIS|TEST", None, raw=raw)
        message, rules = read(raw), self._settings.hl7
        understood = understand_message(message, "HIS|TEST", self._rules, self._settings, now, rules)
        assert claimed is not None
        self._entering.enter(tx, claimed, understood, message)

    def _store(self, tx: Transaction, ecg: Ecg) -> None:
        header = Header(
            PatientID=ecg.patient.value,
            PatientName=f"{ecg.person.last}^{ecg.person.first}",
            PatientBirthDate=ecg.person.born.replace("-", ""),
            PatientSex=ecg.person.sex,
            AccessionNumber=ecg.number,
            AcquisitionDateTime="20260301113000",
        )
        recording = Recording(next(iter(ECG_SOP_CLASSES)), ecg.uid, "1.2.840.10008.1.2.1", (RHYTHM,))
        found = EcgObject(recording, header, Path("invented"), patient_identity_removed=False)
        claimed = self._keep(tx, "dicom", "CART", f"sop:{ecg.uid}", sop_instance_uid=ecg.uid, payload="invented")
        if claimed is not None:
            understood = understand_recording(found, "CART", self._rules, self._settings)
            self._entering.enter(tx, claimed, understood, None)

    def _keep(self, tx: Transaction, kind: str, sender: str, identity: str | None, **more: Any) -> line.Claimed | None:
        arrival = inbox.Arrival(
            kind=kind,
            type="",
            received_at=self._clock.now(),
            listener=kind,
            peer="",
            sender=sender,
            identity=identity,
            digest="",
            **more,
        )
        return None if inbox.keep(tx, arrival).known else line.next_received(tx, 1)[0]

    # --- going out ------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Everything that is ready, in line order; each step as the dispatcher does it, outcome and all."""
        claimed = True
        while claimed:
            with self._books.begin() as conn:
                tx = Transaction(conn)
                claimed = line.claim(tx, "test", 1, at=self._clock.now())
                for one in claimed:
                    self._recording(tx, one) if one.kind == "dicom" else self._orders(tx, one)

    def _recording(self, tx: Transaction, claimed: line.Claimed) -> None:
        mapped = book.mapped_from_json(json.loads(claimed.understood or "")["recording"])
        state = State.READY
        step: Any = self._deciding.attach(tx, claimed, mapped)
        if isinstance(step, Attach):
            self._move(tx, claimed, state, State.UPLOADING)
            state = State.UPLOADING
            uid = claimed.sop_instance_uid
            step = self._deciding.recording(tx, claimed, mapped, f"upload-{uid}", f"samples-{uid}")
        if not isinstance(step, Post):
            self._set_aside(tx, claimed, state, step)
            return
        self._move(tx, claimed, state, State.INTENT)
        self._created(tx, step)
        self._move(tx, claimed, State.INTENT, State.CREATED)

    def _orders(self, tx: Transaction, claimed: line.Claimed) -> None:
        document = json.loads(claimed.understood or "")
        state, told = claimed.state, list[Told]()
        for order, settled in orders_of(document):
            step: Any = settled or self._deciding.draft(tx, claimed.id, order)
            if isinstance(step, Post):
                self._move(tx, claimed, state, State.INTENT)
                state = State.INTENT
                control = order.asked.done if order.asked else "OK"
                step = Told(OrderReply(control, (self._created(tx, step),)), State.CREATED)
            if not isinstance(step, Told):
                self._set_aside(tx, claimed, state, step)
                return
            told.append(step)
        message, rules = self._answers.read(claimed)
        after, reason, verdict = concluded(told, doubts_from_json(document), rules.codes)
        columns = self._answers.settled(tx, claimed, message, verdict)
        self._move(tx, claimed, state, after, reason=reason, **columns)

    def _created(self, tx: Transaction, post: Post) -> int:
        tasks.settle(tx, post.task_row, State.CREATED, at=self._clock.now(), task_ids=(4710 + post.task_row,))
        return 4710 + post.task_row

    def _set_aside(self, tx: Transaction, claimed: line.Claimed, state: State, step: Hold | WaitForRelease) -> None:
        if isinstance(step, WaitForRelease):
            later = round((self._clock.now().timestamp() + 1e8) * 1000)
            self._move(tx, claimed, state, State.RETRY, reason=line.ON_HOLD, next_at=later, owner=None)
            return
        columns = self._answers.held(tx, claimed)
        self._move(tx, claimed, state, State.HELD, reason=step.reason, detail=step.detail, **columns)

    def _move(self, tx: Transaction, claimed: line.Claimed, before: State, after: State, **more: Any) -> None:
        assert inbox.move(tx, claimed.id, before, after, at=self._clock.now(), **more)

    # --- looking --------------------------------------------------------------------------------------------

    def _rows(self, query: str) -> list[Any]:
        return self._driver.execute(query).fetchall()

    def _places(self) -> dict[int, int]:
        """Messages counted from 1, as the model does: a number is passed over where an object came again."""
        return {number: place for place, (number,) in enumerate(self._rows("SELECT id FROM message ORDER BY id"), 1)}

    def labels(self) -> dict[str, str]:
        """What the model calls each task id."""
        places = self._places()
        rows = self._rows("SELECT task_ids, purpose, message_id FROM task WHERE state = 'CREATED' ORDER BY id")
        return {ids: f"{purpose[0]}{places[message]}" for ids, purpose, message in rows}

    def outcomes(self) -> list[Outcome]:
        """Where each message stands, and what its sender was told."""
        labels, found = self.labels(), list[Outcome]()
        by_place = {int(label[1:]): label for label in labels.values()}
        rows = self._rows("SELECT id, kind, state, answer FROM message ORDER BY id")
        for place, (number, kind, state, answer) in enumerate(rows, 1):
            if kind == "dicom":
                assert answer is None
                made = by_place.get(place)
                found.append(Outcome(state, tasks=(made,) if made else ()))
                continue
            assert (answer is not None) == (State(state) in SETTLED), f"message {number}: {state}, {answer!r}"
            if answer is None:
                found.append(Outcome(state))
                continue
            assert self._answered.setdefault(number, answer) == answer, f"message {number} was answered twice"
            found.append(Outcome(state, *told(answer, labels)))
        return found

    def tasks(self) -> dict[str, Task]:
        """Every task, with what was sent; each row is checked on the way."""
        labels, places, made = self.labels(), self._places(), dict[str, Task]()
        keys, orders = set[tuple[str, int]](), set[int]()
        for key, generation, purpose, order, state, body, message in self._rows(
            "SELECT key, generation, purpose, order_id, state, body, message_id FROM task ORDER BY id"
        ):
            assert state == "CREATED"
            assert (key, generation) not in keys, "a second task of one key"
            keys.add((key, generation))
            assert generation == 1
            if purpose == "draft":
                assert order not in orders, "a second draft of one order"
                orders.add(order)
            sent = json.loads(body)
            tag = next((t.removeprefix("draft=") for t in sent["searching_tags"] if t.startswith("draft=")), "")
            label = f"{purpose[0]}{places[message]}"
            assert label not in made, "a second task of one message"
            wishes = sent.get("indications", [""])
            assert len(wishes) == 1
            number, sex = sent.get("investigation_id", ""), SEX[sent.get("patient_gender")]
            made[label] = Task(label, sent["patient_id"], number, wishes[0], sex, labels.get(tag, ""))
        return made

    def listed(self) -> set[tuple[str, int]]:
        """What a person is to settle: why, and the message whose task it is. Each once."""
        places = self._places()
        rows = [(why, places[message]) for why, message in self._rows("SELECT reason, task_message_id FROM anomaly")]
        assert len(set(rows)) == len(rows)
        return set(rows)

    def bodies(self) -> list[dict[str, Any]]:
        """What was sent, as JSON values."""
        return [json.loads(body) for (body,) in self._rows("SELECT body FROM task ORDER BY id")]


def hl7(event: Order | Update | Merge, number: int) -> str:
    """The message. MSH-10 is new each time: the same event again is a business duplicate (F32)."""
    kind = "ORM^O01" if isinstance(event, Order) else "ADT^A08" if isinstance(event, Update) else f"ADT^{event.trigger}"
    who = event.survivor if isinstance(event, Merge) else event.patient
    minute = event.minute if isinstance(event, Order) else 0
    said = event.person
    text = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|2026030112{minute:02}00+0100||{kind}|C{number}|P|2.5\r"
    text += f"PID|1||{who.value}^^^{who.authority}^MR||{said.last}^{said.first}"
    text += f"||{said.born.replace('-', '')}|{said.sex}\r"
    if isinstance(event, Merge):
        text += f"MRG|{event.retired.value}^^^{event.retired.authority}^MR\r"
    if isinstance(event, Order):
        own = f"{event.number}^HIS"
        obr = {1: "1", 2: own, 4: "93000^ECG^CPT", 18: event.number, 31: event.wish}
        text += f"ORC|{event.control}|{own}\rOBR|{'|'.join(obr.get(n, '') for n in range(1, 32))}\r"
    return text


def told(answer: bytes, labels: dict[str, str]) -> tuple[str, str, tuple[str, ...]]:
    """MSA-1, ORC-1, and the tasks that MSA-3 names."""
    segments = {line[:3]: line.split("|") for line in answer.decode().split("\r")}
    msa, orc = segments["MSA"], segments.get("ORC", ["", ""])
    text = msa[3] if len(msa) > 3 and msa[3].startswith("task=") else ""
    ids = text.removeprefix("task=").split(",") if text else []
    if ids and len(orc) > 3:
        assert orc[3] == f"{ids[0]}^CARDIO"
    return msa[1], orc[1], tuple(labels[i] for i in ids)
