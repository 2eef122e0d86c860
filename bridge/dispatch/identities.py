"""What an ADT message does to the patient record and to identities, in order of arrival (hl7.md §4.2, F34)."""

from dataclasses import dataclass

from bridge.clock import Clock
from bridge.dispatch.booking import Booking, canonical
from bridge.dispatch.understand import Person, Understood
from bridge.domain.admission import ENDS_VISIT, EVENTS, VISIT_STATUS, Admission
from bridge.domain.patient import Identifier, Merge, PatientUpdate
from bridge.domain.states import State
from bridge.domain.verdict import Condition, Problem
from bridge.mapping.matching import compare
from bridge.settings import Settings
from bridge.store import anomalies, book, line, patients, tasks
from bridge.store.port import Transaction

REUSED = "retired_identifier_reused"
MOVE = "move_needs_a_person"


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of an ADT message. `problem` is told to the sender, and nothing was done."""

    state: State
    reason: str
    problem: Problem | None = None


class Identities:
    """The rules of ADT over the patient record and the alias table."""

    def __init__(self, settings: Settings, clock: Clock, booking: Booking) -> None:
        self._settings = settings
        self._clock = clock
        self._booking = booking
        self._authority = settings.site.assigning_authority

    def enter(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        """Do what the event asks for. A refused merge changes nothing, and none of its message."""
        match EVENTS[understood.event]:
            case Admission.UPDATE:
                return self._update(tx, message_id, understood)
            case Admission.MERGE | Admission.RENAME:
                return self._merges(tx, message_id, understood)
            case Admission.VISIT:
                return self._visits(tx, message_id, understood)
            case Admission.MOVE:
                return self._move(tx, message_id, understood)
            case Admission.DELETE:
                return self._delete(tx, message_id, understood)
            case _:
                return Entered(State.DONE, "link_noted")

    def _canonical(self, tx: Transaction, identifier: Identifier) -> Identifier:
        return canonical(tx, identifier, self._authority)

    # --- the record -----------------------------------------------------------------------------------------

    def _update(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        person = understood.persons[0]
        status = VISIT_STATUS.get(understood.event)
        visit = {**person.update.visit, **({"status": status} if status else {})}
        if not self._record(tx, message_id, person, visit=visit):
            return Entered(State.HELD, REUSED)
        number = person.update.visit.get("number")
        if understood.event in ENDS_VISIT and self._settings.orders.cancel_with_visit and number:
            self._booking.cancel_visit(tx, message_id, person.update.identifier, number)
        return Entered(State.DONE, "patient_record")

    def _record(
        self, tx: Transaction, message_id: int, person: Person, *, visit: dict[str, str | None] | None = None
    ) -> bool:
        """The record as the message says; False where a retired identifier now means somebody else (F34)."""
        said = person.update.identifier
        now = self._canonical(tx, said)
        known = patients.find_patient(tx.conn, now, site_authority=self._authority)
        if now != said and known is not None and compare(person.known, known).contradict:
            return False
        update = PatientUpdate(now, person.update.said, person.update.visit if visit is None else visit)
        if patients.update_patient(tx, update, message_id, site_authority=self._authority):
            self._list_tasks(tx, message_id, now, "patient_changed_after_task")
        return True

    def _list_tasks(self, tx: Transaction, message_id: int, identifier: Identifier, reason: str) -> None:
        """The tasks that were made before this: a person settles them, since the API cannot change one."""
        for one in patients.retired_into(tx.conn, identifier, site_authority=self._authority):
            for row in anomalies.tasks_made_for(tx.conn, one, site_authority=self._authority):
                anomalies.note(
                    tx,
                    message_id=message_id,
                    task_message_id=row.message_id,
                    reason=reason,
                    task_ids=tasks.ids(row),
                    at=self._clock.now(),
                )

    # --- identities -----------------------------------------------------------------------------------------

    def _merges(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        renames = EVENTS[understood.event] is Admission.RENAME
        planned: list[Merge] = []
        for person in understood.persons:
            for merge in person.merges:
                problem = self._cannot(tx, merge, renames=renames, account=understood.event in {"A35", "A36"})
                if problem is not None:
                    return Entered(State.REJECTED, "merge_refused", problem)
                planned.append(merge)
        for merge in planned:
            self._apply(tx, message_id, merge, renames=renames)
        for person in understood.persons:
            if not self._record(tx, message_id, person):
                return Entered(State.HELD, REUSED)
            if person.visits is not None:
                self._rename_visit(tx, person)
        return Entered(State.DONE, "identifier_changed" if renames else "merged")

    def _cannot(self, tx: Transaction, merge: Merge, *, renames: bool, account: bool) -> Problem | None:
        """Why a merge is refused; None where it can be done, or is done already."""
        own = self._authority
        if merge.retired.agrees(merge.survivor, site_authority=own):
            return None if account else _refused("an identifier cannot be merged into itself", merge.retired_at)
        onward = self._canonical(tx, merge.survivor)
        before = self._canonical(tx, merge.retired)
        against = _refused("the merge goes against an earlier one, and would make a circle", merge.retired_at)
        if self._inverse(tx, merge):
            allowed = self._settings.patients.inverse_merge != "refuse" and before == merge.retired
            return None if allowed else against
        if before != merge.retired and before.agrees(onward, site_authority=own):
            return None  # an identical repeat
        if onward.agrees(merge.retired, site_authority=own):
            return against
        if before != merge.retired:
            return _refused("the prior identifier was merged into another one before", merge.retired_at)
        if renames and patients.is_known(tx.conn, merge.survivor, site_authority=own):
            return _refused("the new identifier is another patient's already", merge.survivor_at)
        return None

    def _inverse(self, tx: Transaction, merge: Merge) -> list[patients.Alias]:
        """The merges by which the one that is to stay went into the one that is to go, without a step between."""
        own = self._authority
        found = patients.aliases_of(tx.conn, merge.survivor, site_authority=own)
        return [a for a in found if a.survivor.agrees(merge.retired, site_authority=own)]

    def _apply(self, tx: Transaction, message_id: int, merge: Merge, *, renames: bool) -> None:
        own, now = self._authority, self._clock.now()
        if merge.retired.agrees(merge.survivor, site_authority=own):
            return
        inverse = self._inverse(tx, merge)
        if inverse:
            if self._settings.patients.inverse_merge == "ignore":
                return
            for old in inverse:
                patients.undo(tx, old.id, at=now)
            tx.known.clear()
        if self._canonical(tx, merge.retired) != merge.retired:
            return  # an identical repeat
        self._list_tasks(tx, message_id, merge.retired, "merged_after_task")
        if not renames:
            self._fill(tx, message_id, merge)
        else:
            patients.move_record(tx, merge.retired, merge.survivor, site_authority=own)
        patients.retire(tx, merge.retired, merge.survivor, message_id, at=now)
        tx.known.clear()
        line.rekey(tx, merge.retired, self._canonical(tx, merge.survivor).value, site_authority=own)

    def _fill(self, tx: Transaction, message_id: int, merge: Merge) -> None:
        """What was known under the identifier that goes fills the gaps of the one that stays."""
        own = self._authority
        gone = patients.find_patient(tx.conn, merge.retired, site_authority=own)
        survivor = self._canonical(tx, merge.survivor)
        stays = patients.find_patient(tx.conn, survivor, site_authority=own)
        if gone is not None and (stays is None or not compare(gone, stays).contradict):
            patients.fill_patient(tx, survivor, gone, message_id, site_authority=own)

    # --- visits, moves, deletions ---------------------------------------------------------------------------

    def _visits(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        for person in understood.persons:
            self._rename_visit(tx, person)
            if not self._record(tx, message_id, person):
                return Entered(State.HELD, REUSED)
        return Entered(State.DONE, "visit_changed")

    def _rename_visit(self, tx: Transaction, person: Person) -> None:
        if person.visits is None:
            return
        old, new = person.visits
        identifier = self._canonical(tx, person.update.identifier)
        patients.rename_visit(tx, identifier, old, new, site_authority=self._authority)
        for one in patients.retired_into(tx.conn, identifier, site_authority=self._authority):
            book.rename_visit(tx, one.value, old, new)

    def _move(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        if self._settings.patients.moves == "refuse":
            return Entered(State.REJECTED, "move_refused", _event("moves of identifiers and visits are not done here"))
        identifiers = [i for p in understood.persons for i in (p.update.identifier, *(m.retired for m in p.merges))]
        line.bar(tx, message_id, {self._canonical(tx, i).value for i in identifiers})
        return Entered(State.HELD, MOVE)

    def carry_out(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        """What a person has released of a move (A43, A44, A45): as far as it concerns what the bridge keeps.

        A43 gives an identifier to another person: it stands for his from now on, or, where both sides name the same,
        its record says what PID says. An account or visit that moves (A44, A45) leaves both identifiers as they are.
        Orders keep the patient that they came with: a recording that names the other one is held. Tasks that were
        made under the identifier that something moves away from are listed.
        """
        moved = [(p, m) for p in understood.persons for m in p.merges]
        apart = [m for _, m in moved if not m.retired.agrees(m.survivor, site_authority=self._authority)]
        if understood.event == "A43":
            for merge in apart:
                problem = self._cannot(tx, merge, renames=False, account=False)
                if problem is not None:
                    return Entered(State.REJECTED, "move_refused", problem)
        for _, merge in moved:
            if understood.event == "A43" and merge in apart:
                self._apply(tx, message_id, merge, renames=False)
            else:
                self._list_tasks(tx, message_id, merge.retired, "moved_after_task")
        for person in understood.persons:
            if not self._record(tx, message_id, person):
                text = "the identifier was merged into another one, whose record contradicts what the message says"
                return Entered(State.REJECTED, REUSED, _refused(text, "PID-3"))
        return Entered(State.DONE, "moved")

    def _delete(self, tx: Transaction, message_id: int, understood: Understood) -> Entered:
        if self._settings.patients.deletes == "refuse":
            return Entered(State.REJECTED, "deletion_refused", _event("patients and visits are not deleted here"))
        for person in understood.persons:
            identifier = self._canonical(tx, person.update.identifier)
            patients.mark_inactive(tx, identifier, message_id, site_authority=self._authority)
        return Entered(State.DONE, "patient_inactive")


def _refused(text: str, where: str) -> Problem:
    return Problem(Condition.DUPLICATE_KEY_IDENTIFIER, text, where.partition(".")[0])


def _event(text: str) -> Problem:
    return Problem(Condition.APPLICATION_INTERNAL_ERROR, text, "EVN-1")
