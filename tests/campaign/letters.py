"""What a ward sends, drawn from its seed: admissions, merges, orders, the same orders again, and recordings, of which
some belong to an order, some to none, and some contradict theirs.
"""

import io
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from bridge.sandbox.ecg_object import Scale, Subject, build
from tests.campaign.judge import Expect, Person, Sent
from tests.campaign.stage import sample_pair

FAMILIES = ("Muster", "Probe", "Beispiel", "Exempel", "Modell", "Vorbild")
GIVEN = {"MALE": ("Max", "Moritz", "Hans Otto", "Emil"), "FEMALE": ("Eva", "Erika", "Anna Maria", "Ida")}
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEADS = ("I", "II")
SAMPLES = 500
STAY = 12
"""Letters about the same few patients, before others of a full ward are seen to."""
MICROVOLT = Scale(Decimal(1))
"""One µV a step: a number in the samples is the number that the API reads."""


@dataclass(slots=True)
class Letter:
    """One message: what the judge must know of it, and its bytes: a message, or a data set."""

    sent: Sent
    body: bytes
    about: "Order | None" = None


@dataclass(slots=True)
class Order:
    """An order of the ward's own."""

    number: str
    person: Person
    identifier: str
    recorded: bool = False
    booked: bool = False  # its sender was told a task id


@dataclass(slots=True)
class Patient:
    """Somebody on the ward, under two identifiers until they are merged."""

    person: Person
    merged: bool = False


@dataclass
class Ward:
    """A ward's letters, one after the other, each from the dice and from what the ones before came to."""

    name: str
    seed: int
    recordings: bool = True
    beds: int = 0  # patients at the most, who come again and again; 0: ever new ones
    patients: list[Patient] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"{self.seed}/{self.name}")
        self._count = 0

    def next(self) -> Letter:
        """The next letter."""
        self._count += 1
        patient = self._patient()
        open_ones = [order for order in self.orders[-20:] if not order.recorded]
        booked = [order for order in self.orders[-20:] if order.booked]
        match self._dice.random():
            case x if x < 0.06:
                return self._admission(patient)
            case x if x < 0.10 and not patient.merged:
                return self._merge(patient)
            case x if x < 0.15 and self.orders:
                return self._order(self._dice.choice(self.orders[-20:]), again=True)
            case x if x < 0.35 and self.recordings and open_ones:
                return self._recording_of(self._dice.choice(open_ones))
            case x if x < 0.45 and self.recordings:
                number = f"{self.name}R{self._count}"
                return self._recording(number, patient.person, self._identifier(patient), Expect.TASK)
            case x if x < 0.48 and self.recordings and booked:
                return self._contradiction(self._dice.choice(booked))
        order = Order(f"{self.name}N{self._count}", patient.person, self._identifier(patient))
        self.orders.append(order)
        return self._order(order)

    def heard(self, letter: Letter, answer: bytes) -> None:
        """What came back of an order: with a task id, it is in the book."""
        if letter.about is not None and b"task=" in answer:
            letter.about.booked = True

    # --- who --------------------------------------------------------------------------------------------------

    def _patient(self) -> Patient:
        full = self.beds > 0 and len(self.patients) >= self.beds
        if not self.patients or (not full and self._dice.random() < 0.2):
            number = len(self.patients)
            gender = self._dice.choice(("MALE", "FEMALE"))
            born = datetime(1930, 1, 1, tzinfo=UTC) + timedelta(days=self._dice.randrange(30_000))
            ids = (f"{self.name}P{number}", f"{self.name}Q{number}")
            family, given = self._dice.choice(FAMILIES), self._dice.choice(GIVEN[gender])
            self.patients.append(Patient(Person(ids, family, given, born.date().isoformat(), gender)))
        first = self._count // STAY % len(self.patients) if full else -8
        return self._dice.choice(self.patients[first:][:8])

    def _identifier(self, patient: Patient) -> str:
        """The one that counts; once merged, the old one too, now and then."""
        return self._dice.choice(patient.person.ids) if patient.merged else patient.person.ids[0]

    def _other(self, person: Person) -> Person:
        """Somebody else: what a cart sends whose operator took the wrong order."""
        return replace(person, family=f"{person.family}s", given="Ruth", born="1999-09-09")

    # --- HL7 --------------------------------------------------------------------------------------------------

    def _message(self, kind: str, sent: Sent, *segments: str, about: Order | None = None) -> Letter:
        moment = (START + timedelta(seconds=self._count)).strftime("%Y%m%d%H%M%S")
        head = f"MSH|^~\\&|HIS|{self.name}|CARDIO|BRIDGE|{moment}+0000||{kind}|{sent.name}|P|2.5.1"
        return Letter(sent, "\r".join((head, *segments, "")).encode(), about)

    def _name(self) -> str:
        return f"{self.name}C{self._count}"

    def _admission(self, patient: Patient) -> Letter:
        sent = Sent("hl7", self._name(), patient.person, Expect.NOTHING)
        kind = self._dice.choice(("ADT^A01", "ADT^A04", "ADT^A08"))
        return self._message(kind, sent, _pid(patient.person, self._identifier(patient)), "PV1|1|I|WARD^1^1")

    def _merge(self, patient: Patient) -> Letter:
        """The second identifier becomes the first. Both may be used from now on."""
        patient.merged = True
        sent = Sent("hl7", self._name(), patient.person, Expect.NOTHING)
        first, second = patient.person.ids
        return self._message("ADT^A40", sent, _pid(patient.person, first), f"MRG|{second}^^^TEST^MR")

    def _order(self, order: Order, *, again: bool = False) -> Letter:
        expect = Expect.NOTHING if again else Expect.TASK
        sent = Sent("hl7", self._name(), order.person, expect, f"ACC{order.number}")
        return self._message(
            "ORM^O01",
            sent,
            _pid(order.person, order.identifier),
            f"ORC|NW|{order.number}^HIS",
            f"OBR|1|{order.number}^HIS||93000^12-lead ECG^CPT||||||||||||||ACC{order.number}",
            about=order,
        )

    # --- DICOM ------------------------------------------------------------------------------------------------

    def _recording_of(self, order: Order) -> Letter:
        order.recorded = True
        patient = next(p for p in self.patients if p.person == order.person)
        identifier = self._identifier(patient) if patient.merged else order.identifier
        return self._recording(order.number, order.person, identifier, Expect.TASK)

    def _contradiction(self, order: Order) -> Letter:
        """The order's number, and somebody else's name and birth date."""
        return self._recording(order.number, self._other(order.person), order.identifier, Expect.HOLD)

    def _recording(self, number: str, person: Person, identifier: str, expect: Expect) -> Letter:
        sample = self._dice.randrange(1 << 28)
        made = build(
            _curve(sample),
            rate=500,
            seed=f"{self.seed}/{self.name}/{self._count}",
            subject=Subject(
                identifier, f"{person.family}^{person.given}", person.born.replace("-", ""), person.gender[0], "TEST"
            ),
            start=START + timedelta(seconds=self._count),
            leads=LEADS,
            scale=MICROVOLT,
            accession=f"ACC{number}",
        )
        sent = Sent("dicom", str(made.SOPInstanceUID), person, expect, f"ACC{number}", sample)
        return Letter(sent, _encoded(made))


def _curve(sample: int) -> np.ndarray:
    """A sine that begins with the recording's number."""
    wave = np.rint(800 * np.sin(np.arange(SAMPLES)[:, None] / (40, 50))).astype(np.int32)
    wave[0] = sample_pair(sample)
    return wave


def _encoded(made: Dataset) -> bytes:
    """The data set alone, as it goes over the wire."""
    out = io.BytesIO()
    dcmwrite(out, Dataset(made), implicit_vr=False, little_endian=True)
    return out.getvalue()


def _pid(person: Person, identifier: str) -> str:
    born, sex = person.born.replace("-", ""), person.gender[0]
    given = person.given.replace(" ", "^", 1)
    return f"PID|1||{identifier}^^^TEST^MR||{person.family}^{given}||{born}|{sex}"
