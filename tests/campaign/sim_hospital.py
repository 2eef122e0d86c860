"""What a simulated hospital says: orders, changes, cancels, news of patients, merges, recordings, and its mistakes.

Three people who are easily confused, two of them twins; identifiers that are merged, and given to somebody else; the
same order again, an order number on another patient's form, a cart that records the wrong patient.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tests.acceptance.dry_bridge import hl7
from tests.acceptance.model import Ecg, Event, Id, Merge, Order, Person, Update
from tests.unit.dicom.ecg_factory import Group, ecg, encoded, sines

ANNA = Person("Zwilling", "Anna", "1990-05-05")
ANNE = Person("Zwilling", "Anne", "1990-05-05")  # a twin: one letter apart
CARL = Person("Anders", "Carl", "1950-02-02", "M")
A1, A2, B1, B2, C1 = (Id(value) for value in ("AAA1", "AAA2", "BBB1", "BBB2", "CCC1"))
IDS = {ANNA: [A1, A2], ANNE: [B1, B2], CARL: [C1]}
NUMBERS = {"NUMBER01": ANNA, "NUMBER02": ANNA, "NUMBER03": ANNE, "NUMBER04": CARL}
SPAN = 30.0
"""Seconds over which the letters of one seed come in."""
MAGIC = 0x5CB1
"""First sample of each group; behind it stand the recording's number and the group's."""


class Told(StrEnum):
    """The last word that a sender had of a letter."""

    NOTHING = "nothing"
    KEPT = "kept"
    REFUSED = "refused"


@dataclass(eq=False)
class Letter:
    """One message or object, and what its sender knows of it. `whose` is the truth of a recording's samples."""

    event: Event
    at: float
    name: str  # MSH-10; of an object its UID
    body: bytes
    whose: Person | None = None
    recording: int = 0
    groups: int = 1
    told: Told = Told.NOTHING
    answers: list[bytes] = field(default_factory=list)


class Hospital:
    """The letters of one seed, as lines that each send in their order."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._count = 0
        self._recordings = 0

    def lines(self) -> list[list[Letter]]:
        """Two hospital systems, and a cart for each recording."""
        letters = sorted(self._letters(), key=lambda one: one.at)
        systems: list[list[Letter]] = [[], []]
        carts: list[list[Letter]] = []
        for one in letters:
            if isinstance(one.event, Ecg):
                carts.append([one])
            else:
                self._dice.choice(systems).append(one)
        return [line for line in (*systems, *carts) if line]

    def _letters(self) -> Iterator[Letter]:
        said: list[Letter] = []
        for event in self._events():
            one = self._letter(event)
            said.append(one)
            yield one
            if self._dice.random() < 0.15:  # the same again: an order under a new MSH-10, an object as it is
                old = self._dice.choice(said)
                if isinstance(old.event, Ecg):
                    yield replace(old, at=self._dice.random() * SPAN, told=Told.NOTHING, answers=[])
                else:
                    yield self._letter(old.event)

    def _events(self) -> Iterator[Event]:
        dice = self._dice
        for _ in range(dice.randrange(1, 7)):
            number = dice.choice(list(NUMBERS))
            whose = NUMBERS[number]
            who = dice.choice(IDS[whose])
            match dice.randrange(16):
                case 0 | 1 | 2 | 3 | 4:
                    yield Order("NW", number, who, whose, "Palpitationen", 1)
                case 5:
                    yield Order("XO", number, who, whose, "Synkope", 2)
                case 6:
                    yield Order("CA", number, who, whose, "Palpitationen", 9)
                case 7:
                    yield Update(who, replace(whose, sex=dice.choice(("", "M", "F")) if not whose.sex else whose.sex))
                case 8:
                    retired, survivor = dice.choice(((A1, A2), (A2, A1), (B1, B2)))
                    yield Merge(retired, survivor, dice.choice((Person(), ANNA if retired in IDS[ANNA] else ANNE)))
                case 9:  # another patient's number, or an identifier that was somebody else's
                    other = dice.choice([p for p in IDS if p != whose])
                    yield Order("NW", number, dice.choice(IDS[other]), other, "Etwas anderes", 1)
                case 10:
                    yield Ecg("", who, whose)
                case 11:  # the order of one patient, the identity of another
                    other = dice.choice([p for p in IDS if p != whose])
                    yield Ecg("", dice.choice(IDS[other]), other, number)
                case _:
                    yield Ecg("", who, whose, number)

    def _letter(self, event: Event) -> Letter:
        self._count += 1
        at = self._dice.random() * SPAN
        if not isinstance(event, Ecg):
            return Letter(event, at, f"C{self._count}", hl7(event, self._count).encode())
        self._recordings += 1
        uid, several = f"{UID[:-4]}{1000 + self._recordings}", self._dice.random() < 0.2
        body = an_object(replace(event, uid=uid), self._recordings, several=several)
        return Letter(
            replace(event, uid=uid), at, uid, body, event.person, self._recordings, groups=2 if several else 1
        )


# --- objects, made from two templates --------------------------------------------------------------------------

UID = "1.2.826.0.1.3680043.10.9999.7.1000"
_SIZE = 16
"""Bytes of each text that is put in; blanks fill it up, as DICOM has it."""
_PLACES = ("IIIIIIIIIIIIIIII", "NNNNNNNNNNNNNNNN", "19010101", "QQQQQQQQQQQQQQQQ")


def _template(groups: int) -> bytes:
    made = [Group(sines(40, 2), label=f"GROUP {n}") for n in range(groups)]
    for n, group in enumerate(made):
        group.values[0] = (MAGIC, -1)
        group.values[1] = (n, 0)
    patient, name, born, number = _PLACES
    whole = ecg(
        *made,
        SOPInstanceUID=UID,
        PatientID=patient,
        PatientName=name,
        PatientBirthDate=born,
        PatientSex="O",
        AccessionNumber=number,
        AcquisitionDateTime="20260301113000",
    )
    raw = encoded(whole)
    (length,) = struct.unpack_from("<L", raw, 140)
    return raw[144 + length :]  # the data set alone, as it goes over the wire


_TEMPLATES = {False: _template(1), True: _template(2)}


def an_object(event: Ecg, number: int, *, several: bool) -> bytes:
    """The data set of a recording."""
    raw = _TEMPLATES[several].replace(UID.encode(), event.uid.encode())
    texts = (event.patient.value, f"{event.person.last}^{event.person.first}", event.person.born.replace("-", ""))
    for place, text in zip(_PLACES, (*texts, event.number), strict=True):
        raw = raw.replace(place.encode(), text.ljust(len(place)).encode())
    raw = raw.replace(b"\x40\x00CS\x02\x00O ", b"\x40\x00CS\x02\x00" + (event.person.sex or "O").encode() + b" ")
    return raw.replace(struct.pack("<hh", MAGIC, -1), struct.pack("<hh", MAGIC, number))


def recording_in(upload: bytes) -> tuple[int, int]:
    """The number of the recording whose samples stand in an upload, and the group's."""
    at = upload.index(struct.pack("<h", MAGIC))
    _, number, group, _ = struct.unpack_from("<4h", upload, at)
    return number, group
