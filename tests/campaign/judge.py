"""One judge for every campaign: what senders were told, what the API made, what the store holds; one verdict.

It believes no side by itself. What a sender was told was kept must be in the store, and have come to something that a
person or the API can see; what the API made must be what somebody sent, for the same person, once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.domain.states import SETTLED, State


class Expect(StrEnum):
    """What must become of a message, whatever happens on its way."""

    TASK = "task"
    HOLD = "hold"  # it contradicts what is known: a task of it would be somebody else's
    NOTHING = "nothing"  # no task of its own: an admission, a merge, the same order again


class Told(StrEnum):
    """The last word that its sender had."""

    NOTHING = "nothing"
    KEPT = "kept"  # AA, CA, 0000
    REFUSED = "refused"  # AE, C000: it is not sent again, and must never become a task


@dataclass(frozen=True, slots=True)
class Person:
    """Whom it is about. Any of the identifiers may stand in a task once they are merged."""

    ids: tuple[str, ...]
    family: str
    given: str
    born: str  # ISO 8601
    gender: str  # as the API spells it


@dataclass(slots=True)
class Sent:
    """A message as its sender knows it; resent or not, it is one."""

    kind: str  # hl7 | dicom
    name: str  # MSH-10, or the SOP Instance UID: what the store knows it by
    person: Person
    expect: Expect
    investigation: str = ""  # what its task is known by
    sample: int | None = None  # what the first samples of a recording say
    told: Told = Told.NOTHING


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the API, with the number that its first samples say where it has a record."""

    id: int
    request: Mapping[str, object]
    sample: int | None = None

    @property
    def purpose(self) -> str:
        return "recording" if "upload_id" in self.request else "draft"

    @property
    def investigation(self) -> str:
        return str(self.request.get("investigation_id", ""))

    @property
    def keys(self) -> list[str]:
        """The bridge's own tags, which are never the same twice."""
        tags = self.request.get("searching_tags", ())
        return [str(tag) for tag in tags if str(tag).startswith("br1-")] if isinstance(tags, list | tuple) else []


@dataclass(frozen=True, slots=True)
class Post:
    """A call that asked the API for a task, as the API's journal has it."""

    fault: str
    status: int | None

    @property
    def doubtful(self) -> bool:
        """Whether its answer was one that the bridge cannot know the outcome by (failures.md §3.3)."""
        if self.fault in SPOILED:
            return self.status is not None and self.status < 300
        documented = self.status is not None and (self.status < 300 or self.status in REFUSALS | {401, 403, 429})
        return self.fault in LOST or not documented

    @property
    def refused(self) -> bool:
        """Whether the API said no to what was asked (F17)."""
        return self.status in REFUSALS


LOST = frozenset({"lost_answer", "drop_before", "drop_at_once", "silent", "5xx_before", "5xx_after"})
SPOILED = frozenset({"cut_body", "broken_body", "long_body", "wrong_ids"})
"""Faults that spoil a good answer, and leave a refusal as it is."""
REFUSALS = frozenset({400, 415})


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the store, with its tasks: state and ids of each."""

    kind: str
    name: str
    state: State
    reason: str
    tasks: tuple[tuple[State, tuple[int, ...]], ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(number for _, ids in self.tasks for number in ids)


@dataclass(slots=True)
class Verdict:
    """The figures, and what they rest on, in words."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def against(self, figure: str, note: str) -> None:
        """One more of a figure that must be 0."""
        self.counts[figure] += 1
        self.notes.append(f"{figure}: {note}")

    def line(self) -> str:
        """The verdict in one line, for the console."""
        return ", ".join(f"{name.replace('_', ' ')} {self.counts[name]}" for name in FIGURES)


FIGURES = ("acknowledged", "created", "held", "rejected", "in_doubt", "lost", "twice", "wrong_patient", "doubts_amiss")


def judge(
    sent: Sequence[Sent], tasks: Sequence[Task], rows: Sequence[Row], *, doubts: int | None, refusals: int
) -> Verdict:
    """The verdict over three journals. `refusals` is how often the API refused, `doubts` how many answers were lost;
    None: nobody counted them, where the bridge was killed between a POST and its answer.
    """
    verdict = Verdict()
    for name in FIGURES:
        verdict.counts[name] = 0
    _acknowledged(verdict, sent, rows)
    _stored(verdict, rows, {task.id for task in tasks})
    _once(verdict, tasks)
    _asked_for(verdict, sent, tasks)
    verdict.counts["created"] = len(tasks)
    amiss = abs(verdict.counts["in_doubt"] - doubts) if doubts is not None else 0
    if amiss:
        verdict.counts["doubts_amiss"] = amiss
        verdict.notes.append(f"doubts_amiss: {verdict.counts['in_doubt']} in doubt, {doubts} answers were lost")
    if verdict.counts["rejected"] > refusals:
        verdict.against("broken", f"{verdict.counts['rejected']} rejected, the API refused {refusals}")
    return verdict


SEEN = frozenset({State.HELD, State.IN_DOUBT, State.REJECTED, State.CREATED})
"""A task is there, or a person sees why there is none."""


def _acknowledged(verdict: Verdict, sent: Sequence[Sent], rows: Sequence[Row]) -> None:
    """Whatever was acknowledged is there, and came to something."""
    found = {(row.kind, row.name): row for row in rows}
    for one in sent:
        verdict.counts["refused"] += one.told is Told.REFUSED
        if one.told is not Told.KEPT:
            continue
        verdict.counts["acknowledged"] += 1
        row = found.get((one.kind, one.name))
        if row is None:
            verdict.against("lost", f"{one.name} was acknowledged and is not in the store")
        elif row.state not in SETTLED:
            verdict.against("lost", f"{one.name} came to nothing: {row.state} {row.reason}")
        elif one.expect is Expect.TASK and row.state not in SEEN:
            verdict.against("lost", f"{one.name} has no task: {row.state} {row.reason}")


def _stored(verdict: Verdict, rows: Sequence[Row], created: set[int]) -> None:
    """No row has a twin, and no task in it is unknown to the API."""
    for row in rows:
        verdict.counts["held"] += row.state is State.HELD
        verdict.counts["rejected"] += row.state is State.REJECTED
        verdict.counts["in_doubt"] += sum(state is State.IN_DOUBT for state, _ in row.tasks)
        if missing := set(row.ids) - created:
            verdict.against("lost", f"{row.name} is said to have a task that the API does not know: {missing}")
    for name, count in Counter((row.kind, row.name) for row in rows).items():
        if count > 1:
            verdict.against("twice", f"{name} is {count} rows")


def _once(verdict: Verdict, tasks: Sequence[Task]) -> None:
    """No order and no recording has two tasks, and no key of ours either."""
    for (purpose, investigation), count in Counter((t.purpose, t.investigation) for t in tasks).items():
        if count > 1:
            verdict.against("twice", f"{count} tasks: {purpose} of {investigation}")
    for key, count in Counter(key for task in tasks for key in task.keys).items():
        if count > 1:
            verdict.against("twice", f"{count} tasks of the key {key}")


def _asked_for(verdict: Verdict, sent: Sequence[Sent], tasks: Sequence[Task]) -> None:
    """Whatever the API made somebody asked for, for this person, and was not refused. The same order sent again after
    a refusal is asked for again.
    """
    asked: dict[tuple[str, str], list[Sent]] = {}
    for one in sent:
        if one.investigation:
            purpose = "recording" if one.kind == "dicom" else "draft"
            asked.setdefault((purpose, one.investigation), []).append(one)
    for task in tasks:
        said = asked.get((task.purpose, task.investigation), [])
        if not said:
            verdict.against("broken", f"task {task.id}: nobody sent a {task.purpose} of {task.investigation!r}")
        elif not any(_same(one, task) for one in said if one.expect is Expect.TASK):
            verdict.against("wrong_patient", f"task {task.id}: not the person or the samples of {said[0].name}")
        elif all(one.told is Told.REFUSED for one in said if one.expect is not Expect.HOLD):
            verdict.against("broken", f"task {task.id}: {said[0].name} was refused and became a task")


def _same(one: Sent, task: Task) -> bool:
    """The person that the sender named, and the curve that it sent."""
    said = task.request
    person = one.person
    return (
        said.get("patient_id") in person.ids
        and said.get("patient_last_name") == person.family
        and said.get("patient_first_name") == person.given
        and said.get("patient_birth_date") == person.born
        and said.get("patient_gender") == person.gender
        and one.sample == task.sample
    )
