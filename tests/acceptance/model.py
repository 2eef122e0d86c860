"""What hl7.md §3.6, §4.1, §4.2, failures.md F29 to F36 and DESIGN.md ask for, as a model of its own.

It is written from the specification and shares no code with the bridge: dictionaries and lists, no store, no HL7 text.
Events are what a hospital says. The model tells what each is answered, which tasks exist with which content, and what
is listed for a person.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

OWN = "TEST"
"""The site's own assigning authority: an identifier without one is of this authority (DESIGN.md, promise 3)."""


@dataclass(frozen=True)
class Person:
    """A human being; what is empty is not said."""

    last: str = ""
    first: str = ""
    born: str = ""
    sex: str = ""

    def said(self) -> dict[str, str]:
        """What is known, by name."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Id:
    """A patient identifier and who issued it."""

    value: str
    authority: str = OWN


@dataclass(frozen=True)
class Order:
    """NW, XO or CA of an order number. `wish` is what is ordered (OBR-31), `minute` the time of MSH-7."""

    control: str
    number: str
    patient: Id
    person: Person
    wish: str
    minute: int


@dataclass(frozen=True)
class Update:
    """A08: what is said of a person."""

    patient: Id
    person: Person


@dataclass(frozen=True)
class Merge:
    """`retired` goes into `survivor` (A40, A18), or is called so from now on (A47)."""

    retired: Id
    survivor: Id
    person: Person = field(default_factory=Person)
    trigger: str = "A40"


@dataclass(frozen=True)
class Ecg:
    """A recording of a cart: it says an identifier, never who issued it, and may say an order number."""

    uid: str
    patient: Id
    person: Person
    number: str = ""


Event = Order | Update | Merge | Ecg


@dataclass(frozen=True)
class Outcome:
    """Where a message stands, and what its sender was told: MSA-1, ORC-1 and the tasks named. Empty: nothing yet."""

    state: str
    code: str = ""
    control: str = ""
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A task that the API named: `label` is d or r and the number of the message that made it."""

    label: str
    patient: str
    number: str
    wish: str
    sex: str
    draft: str  # the draft that a recording's task names


@dataclass
class Booked:
    """An order of the book. `standing` is active, cancelled, or unseen: cancelled before it came (F33)."""

    owner: int  # the message that brought it
    patient: Id
    person: Person
    wish: str  # what is ordered now
    ordered: str  # what was ordered first; empty until the order itself has come
    minute: int
    standing: str = "active"
    draft: str = ""
    recordings: list[str] = field(default_factory=list)
    behind: bool = False  # a change came that a task of it does not have

    @property
    def made(self) -> tuple[str, ...]:
        """The tasks of the order."""
        return (*([self.draft] if self.draft else []), *self.recordings)


class Model:
    """The rules. Messages are counted from 1, as they come in."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up  # whether the API answers
        self.events: list[Event] = []
        self.outcomes: list[Outcome] = []
        self.tasks: dict[str, Task] = {}
        self.listed: set[tuple[str, int]] = set()  # why, and the message whose task it is
        self.book: dict[str, Booked] = {}
        self.merged: dict[Id, Id] = {}
        self.records: dict[Id, dict[str, str]] = {}
        self.seen: set[str] = set()
        self.orderless: dict[str, Ecg] = {}  # tasks of recordings that found no order

    def copy(self) -> "Model":
        """The same, to go on from twice."""
        other = Model(up=self.up)
        other.events, other.outcomes = list(self.events), list(self.outcomes)
        other.tasks, other.listed = dict(self.tasks), set(self.listed)
        other.book = {
            number: replace(booked, recordings=list(booked.recordings)) for number, booked in self.book.items()
        }
        other.merged, other.seen, other.orderless = dict(self.merged), set(self.seen), dict(self.orderless)
        other.records = {i: dict(r) for i, r in self.records.items()}
        return other

    def arrive(self, event: Event) -> None:
        """One message or object comes in; where the API answers, its task is made at once."""
        if isinstance(event, Ecg):
            if event.uid in self.seen:
                return  # the same object again finds its own row (F7)
            self.seen.add(event.uid)
        self.events.append(event)
        match event:
            case Order():
                outcome = self._order(event, len(self.events))
            case Update():
                outcome = self._update(event)
            case Merge():
                outcome = self._merge(event)
            case Ecg():
                outcome = Outcome("READY")
        self.outcomes.append(outcome)
        if self.up:
            self.send()

    def send(self) -> None:
        """The API answers: what is ready goes out, in order of arrival."""
        for at, outcome in enumerate(self.outcomes):
            if outcome.state == "READY":
                event = self.events[at]
                self.outcomes[at] = (
                    self._recording(event, at + 1) if isinstance(event, Ecg) else self._draft(event, at + 1)
                )

    # --- identities -----------------------------------------------------------------------------------------

    def now(self, who: Id) -> Id:
        """The identifier that counts now: merges followed (hl7.md §4.2)."""
        while who in self.merged:
            who = self.merged[who]
        return who

    def _group(self, who: Id) -> Iterator[Id]:
        """An identifier, and all that became it."""
        yield who
        for retired, survivor in self.merged.items():
            if survivor == who:
                yield from self._group(retired)

    def _list(self, reason: str, labels: Iterable[str]) -> None:
        self.listed |= {(reason, int(label[1:])) for label in labels}

    def _sent_for(self, who: Id) -> Iterator[str]:
        """The tasks that were sent for a patient, under whichever of his identifiers."""
        group = {i.value for i in self._group(who)}
        for task in self.tasks.values():
            event = self.events[int(task.label[1:]) - 1]
            own = event.patient.authority if isinstance(event, Order | Ecg) else ""
            if task.patient in group and own == who.authority:
                yield task.label

    def _say(self, who: Id, said: dict[str, str]) -> bool:
        """The record as an ADT says; false where a retired identifier now means somebody else (F34)."""
        now = self.now(who)
        record = self.records.get(now, {})
        if now != who and contradicts(said, record):
            return False
        if any(record.get(name, value) != value for name, value in said.items()):
            self._list("patient_changed_after_task", self._sent_for(now))
        self.records[now] = {**record, **said}
        return True

    def _update(self, event: Update) -> Outcome:
        return Outcome("DONE" if self._say(event.patient, event.person.said()) else "HELD", "AA")

    def _merge(self, event: Merge) -> Outcome:
        retired, survivor = event.retired, event.survivor
        before, onward = self.now(retired), self.now(survivor)
        inverse = self.merged.get(survivor) == retired
        repeat = before == onward and before != retired != survivor and not inverse
        if not repeat:
            taken = event.trigger == "A47" and survivor in self.records
            if retired.authority != survivor.authority or retired in {survivor, onward} or before != retired or taken:
                return Outcome("REJECTED", "AE")
            self._list("merged_after_task", self._sent_for(retired))
            gone, stays = self.records.get(retired, {}), self.records.get(onward, {})
            if gone and not contradicts(gone, stays):
                self.records[onward] = {**gone, **stays}
            if event.trigger == "A47":
                self.records.pop(retired, None)
            self.merged[retired] = survivor
        return Outcome("DONE" if self._say(survivor, event.person.said()) else "HELD", "AA")

    # --- orders ---------------------------------------------------------------------------------------------

    def _order(self, event: Order, message: int) -> Outcome:
        found = self.book.get(event.number)
        mine = found is not None and self.now(found.patient) == self.now(event.patient)
        if event.control == "NW":
            return self._new(event, message, found, mine=mine)
        unable, code = ("UX", "XO") if event.control == "XO" else ("UC", "CA")
        if found is None:
            if code == "XO":
                return self._enter(event, message)
            self._enter(event, message, "unseen")
        if found is None or not mine:
            return Outcome("REJECTED", "AE", unable)  # 204: unknown, or another patient's
        return self._change(event, found) if code == "XO" else self._cancel(event, found)

    def _enter(self, event: Order, message: int, standing: str = "active") -> Outcome:
        """A new entry of the book. An order opens its patient's record or fills its gaps."""
        ordered = event.wish if event.control == "NW" else ""
        self.book[event.number] = Booked(
            message, event.patient, event.person, event.wish, ordered, event.minute, standing
        )
        if standing == "active":
            self._note_patient(event)
        return Outcome("READY")

    def _note_patient(self, event: Order) -> None:
        """What is said of a retired identifier fills nobody's record (F34)."""
        if self.now(event.patient) == event.patient:
            self.records[event.patient] = {**event.person.said(), **self.records.get(event.patient, {})}

    def _new(self, event: Order, message: int, found: Booked | None, *, mine: bool) -> Outcome:
        if found is None or (found.standing == "unseen" and (not mine or event.minute > found.minute)):
            return self._enter(event, message)  # whoever was meant by the cancel, it was not this order
        if mine:
            found.ordered = found.ordered or event.wish
            if found.standing == "unseen" or (found.standing == "cancelled" and event.wish in self._known(found)):
                found.standing = "cancelled"
                return Outcome("CANCELLED", "AA", "OC")
        self._note_patient(event)
        return Outcome("READY")

    def _change(self, event: Order, found: Booked) -> Outcome:
        """What is not sent goes out changed; what is sent cannot be, and is listed (UX)."""
        if found.standing != "active":
            return Outcome("DONE", "AA", "UX")
        if event.minute < found.minute:  # a later word stands already
            return Outcome("DONE", "AA", "XR", found.made)
        if event.wish == found.wish:
            return Outcome("DONE", "AA", "UX" if found.behind else "XR", found.made)
        found.wish, found.minute = event.wish, event.minute
        if not found.made:
            self._note_patient(event)
            return Outcome("DONE", "AA", "XR")
        found.behind = True
        self._list("changed_after_task", found.made)
        return Outcome("DONE", "AA", "UX", found.made)

    def _cancel(self, event: Order, found: Booked) -> Outcome:
        """In time where nothing was sent (CR); else it is listed, and no recording matches it any more (UC)."""
        if found.standing == "unseen":
            return Outcome("REJECTED", "AE", "UC")
        found.standing = "cancelled"
        self._list("cancelled_after_task", found.made)
        return Outcome("DONE", "AA", "UC" if found.made else "CR", found.made)

    @staticmethod
    def _known(found: Booked) -> set[str]:
        return {found.ordered, found.wish}

    def _draft(self, event: Order, message: int) -> Outcome:
        """An order's turn to be sent: its twin's ids, its recording's, or a draft (at most one a number)."""
        booked = self.book[event.number]
        done = "XR" if event.control == "XO" else "OK"
        if booked.owner != message:
            same = self.now(booked.patient) == self.now(event.patient)
            if not same or event.wish not in self._known(booked):
                return Outcome("REJECTED", "AE", "UA")  # 205: the number was used for another order
        if booked.standing != "active":
            return Outcome("CANCELLED", "AA", "OC")
        if booked.draft:
            return Outcome("CREATED", "AA", done, (booked.draft,))
        for label, ecg in list(self.orderless.items()):
            if ecg.number == event.number and self._belongs(ecg, booked):
                booked.recordings.append(label)
                del self.orderless[label]
        if booked.recordings:
            return Outcome("CREATED", "AA", done, tuple(booked.recordings))
        now = self.now(booked.patient)
        record = self.records.get(now, {})
        if now != booked.patient and contradicts(booked.person.said(), record):
            return Outcome("HELD", "AA")  # the retired identifier may be somebody else's by now
        booked.draft = f"d{message}"
        self._make(booked.draft, booked.patient, booked.person, event.number, booked.wish)
        return Outcome("CREATED", "AA", done, (booked.draft,))

    # --- recordings and tasks -------------------------------------------------------------------------------

    def _belongs(self, ecg: Ecg, booked: Booked) -> bool:
        """The number is the same: do identifier, and name or birth date, agree, and nothing contradict (promise 3)?"""
        same = self.now(ecg.patient) == self.now(booked.patient)
        mine, theirs = ecg.person.said(), booked.person.said()
        return same and bool({"name", "born"} & agrees(mine, theirs)) and not contradicts(mine, theirs)

    def _recording(self, event: Ecg, message: int) -> Outcome:
        label, now = f"r{message}", self.now(event.patient)
        record = self.records.get(now, {})
        booked = self.book.get(event.number)
        if booked is not None and booked.standing == "active":
            reused = now != booked.patient and contradicts(booked.person.said(), record)
            if reused or not self._belongs(event, booked):
                return Outcome("HELD")
            booked.recordings.append(label)
            self._make(label, event.patient, event.person, event.number, booked.wish, booked.draft)
        elif contradicts(event.person.said(), record):
            return Outcome("HELD")
        else:
            self.orderless[label] = event
            self._make(label, event.patient, event.person, event.number, "")
        return Outcome("CREATED", tasks=(label,))

    def _make(self, label: str, who: Id, person: Person, number: str, wish: str, draft: str = "") -> None:
        """A task, with what counts at the time of sending: merges followed, gaps filled from the record."""
        now = self.now(who)
        record = self.records.get(now, {})
        sex = person.sex or ("" if contradicts(person.said(), record) else record.get("sex", ""))
        self.tasks[label] = Task(label, now.value, number, wish, sex, draft)


def contradicts(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether two accounts cannot be of one person: a given name may go on, nothing else may differ."""
    for name in ("last", "born", "sex"):
        if a.get(name) and b.get(name) and a[name] != b[name]:
            return True
    first, other = a.get("first", "").split(), b.get("first", "").split()
    same_family = bool(a.get("last")) and a.get("last") == b.get("last")
    return same_family and any(x != y for x, y in zip(first, other, strict=False))


def agrees(a: Mapping[str, str], b: Mapping[str, str]) -> set[str]:
    """What both say, and say alike; a name needs both its parts."""
    alike = {"born"} if a.get("born") and a.get("born") == b.get("born") else set()
    whole = all(a.get(part) and b.get(part) for part in ("last", "first"))
    if whole and not contradicts({**a, "born": "", "sex": ""}, {**b, "born": "", "sex": ""}):
        alike.add("name")
    return alike
