"""The judge of a cluster can be red: tasks in another order than their letters, doubts that nothing explains."""

import pytest

from bridge.domain.states import State
from tests.campaign.cluster_judge import Doubt, explained, in_order
from tests.campaign.judge import Expect, Person, Row, Sent, Task, Told, Verdict

MAX = Person(("P1", "Q1"), "Muster", "Max", "1970-01-01", "MALE")
EVA = Person(("P2", "Q2"), "Probe", "Eva", "1980-02-02", "FEMALE")


def order(number: int, person: Person = MAX, told: Told = Told.KEPT) -> Sent:
    return Sent("hl7", f"C{number}", person, Expect.TASK, f"ACC{number}", told=told)


def made(number: int) -> Task:
    return Task(100 + number, {"investigation_id": f"ACC{number}"})


def row(number: int, state: State = State.CREATED, of_task: State = State.CREATED) -> Row:
    return Row("hl7", f"C{number}", state, "", ((of_task, (100 + number,)),))


def judged(sent: list[Sent], tasks: list[Task], rows: list[Row]) -> Verdict:
    verdict = Verdict()
    in_order(verdict, sent, tasks, rows)
    return verdict


ROWS = [row(1), row(2), row(3)]


def test_tasks_in_the_order_of_their_letters_are_right() -> None:
    verdict = judged([order(1), order(2), order(3)], [made(1), made(2), made(3)], ROWS)
    assert (verdict.counts["out_of_order"], verdict.notes) == (0, [])


def test_a_task_before_that_of_an_earlier_letter_is_out_of_order() -> None:
    verdict = judged([order(1), order(2), order(3)], [made(1), made(3), made(2)], ROWS)
    assert verdict.counts["out_of_order"] == 1
    assert "C3 was sent behind C2" in verdict.notes[0]


def test_patients_do_not_wait_for_each_other() -> None:
    verdict = judged([order(1), order(2, EVA), order(3)], [made(2), made(1), made(3)], ROWS)
    assert verdict.counts["out_of_order"] == 0


@pytest.mark.parametrize(
    ("late", "of_task"),
    [(State.IN_DOUBT, State.IN_DOUBT), (State.CREATED, State.IN_DOUBT), (State.HELD, State.CREATED)],
)
def test_what_holds_nobody_up_may_be_late(late: State, of_task: State) -> None:
    rows = [row(1, late, of_task), row(2)]
    assert judged([order(1), order(2)], [made(2), made(1)], rows).counts["out_of_order"] == 0


def test_a_letter_that_was_not_acknowledged_has_no_place() -> None:
    sent = [order(1, told=Told.NOTHING), order(2)]
    assert judged(sent, [made(2), made(1)], ROWS).counts["out_of_order"] == 0


@pytest.mark.parametrize(("pids", "amiss"), [({7}, 0), ({7, 9}, 0), ({9}, 1), (set(), 1)])
def test_a_doubt_is_of_somebody_who_was_struck(pids: set[int], amiss: int) -> None:
    verdict = Verdict()
    explained(verdict, [Doubt("C1", "interrupted", frozenset(pids))], {7: ["kill"], 8: ["freeze"]})
    assert verdict.counts["doubts_amiss"] == amiss
