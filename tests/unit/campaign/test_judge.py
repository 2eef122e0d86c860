"""The judge of the campaigns, before journals that were doctored: each thing that must not be is found."""

from dataclasses import replace

import pytest

from bridge.domain.states import State
from tests.campaign.judge import Expect, Person, Post, Row, Sent, Task, Told, judge

MAX = Person(("4711", "4712"), "Muster", "Max", "1970-01-31", "MALE")
EVA = Person(("4713",), "Probe", "Eva", "1980-02-28", "FEMALE")


def request(person: Person, number: str, key: str, **more: object) -> dict[str, object]:
    return {
        "investigation_id": number,
        "patient_id": person.ids[0],
        "patient_last_name": person.family,
        "patient_first_name": person.given,
        "patient_birth_date": person.born,
        "patient_gender": person.gender,
        "searching_tags": [f"br1-{key}"],
        **more,
    }


class Journals:
    """An order and its recording, both made; an order in doubt; a recording that contradicts its order, held."""

    def __init__(self) -> None:
        kept = Told.KEPT
        self.sent = [
            Sent("hl7", "C1", MAX, Expect.TASK, "A1", told=kept),
            Sent("dicom", "1.2.3", MAX, Expect.TASK, "A1", 77, told=kept),
            Sent("hl7", "C2", EVA, Expect.TASK, "A2", told=kept),
            Sent("dicom", "1.2.4", EVA, Expect.HOLD, "A1", 78, told=kept),
            Sent("hl7", "C3", EVA, Expect.NOTHING, told=kept),
            Sent("hl7", "C4", EVA, Expect.TASK, "A4"),
        ]
        self.tasks = [
            Task(1, request(MAX, "A1", "k1")),
            Task(2, request(MAX, "A1", "k2", upload_id="up-1"), 77),
            Task(3, request(EVA, "A2", "k3")),
        ]
        self.rows = [
            Row("hl7", "C1", State.CREATED, "", ((State.CREATED, (1,)),)),
            Row("dicom", "1.2.3", State.CREATED, "", ((State.CREATED, (2,)),)),
            Row("hl7", "C2", State.IN_DOUBT, "answer_lost", ((State.IN_DOUBT, ()),)),
            Row("dicom", "1.2.4", State.HELD, "contradicts_order"),
            Row("hl7", "C3", State.DONE, ""),
        ]

    def figures(self, doubts: int | None = 1, refusals: int = 0) -> dict[str, int]:
        """What must be 0 and is not."""
        found = judge(self.sent, self.tasks, self.rows, doubts=doubts, refusals=refusals)
        wrong = ("lost", "twice", "wrong_patient", "doubts_amiss", "broken")
        assert sum(found.counts[name] for name in wrong) == 0 or found.notes
        return {name: found.counts[name] for name in wrong if found.counts[name]}


@pytest.fixture
def journals() -> Journals:
    return Journals()


def test_nothing_is_wrong_where_nothing_is_wrong(journals: Journals) -> None:
    assert journals.figures() == {}
    found = judge(journals.sent, journals.tasks, journals.rows, doubts=1, refusals=0)
    assert found.line() == (
        "acknowledged 5, created 3, held 1, rejected 0, in doubt 1, lost 0, twice 0, wrong patient 0, doubts amiss 0"
    )


def test_acknowledged_and_not_in_the_store_is_lost(journals: Journals) -> None:
    del journals.rows[4]
    assert journals.figures() == {"lost": 1}


def test_acknowledged_and_left_lying_is_lost(journals: Journals) -> None:
    journals.rows[4] = replace(journals.rows[4], state=State.READY)
    assert journals.figures() == {"lost": 1}


def test_an_order_that_is_done_without_a_task_is_lost(journals: Journals) -> None:
    journals.rows[2] = replace(journals.rows[2], state=State.DONE, tasks=())
    assert journals.figures(doubts=0) == {"lost": 1}


def test_a_task_that_the_api_does_not_know_is_lost(journals: Journals) -> None:
    del journals.tasks[0]
    assert journals.figures() == {"lost": 1}


def test_not_acknowledged_is_not_lost(journals: Journals) -> None:
    journals.sent[0].told = Told.NOTHING
    del journals.rows[0]
    assert journals.figures() == {}


def test_two_tasks_of_an_order_are_twice(journals: Journals) -> None:
    journals.tasks.append(Task(9, request(MAX, "A1", "other")))
    assert journals.figures() == {"twice": 1}


def test_one_key_in_two_tasks_is_twice(journals: Journals) -> None:
    journals.tasks[2] = Task(3, request(EVA, "A2", "k1"))
    assert journals.figures() == {"twice": 1}


def test_one_message_in_two_rows_is_twice(journals: Journals) -> None:
    journals.rows.append(journals.rows[4])
    assert journals.figures() == {"twice": 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patient_id", "4713"),
        ("patient_last_name", "Probe"),
        ("patient_first_name", "Moritz"),
        ("patient_birth_date", "1970-01-13"),
        ("patient_gender", "FEMALE"),
    ],
)
def test_a_task_that_says_another_person_is_the_wrong_patient(journals: Journals, field: str, value: str) -> None:
    journals.tasks[0] = Task(1, request(MAX, "A1", "k1", **{field: value}))
    assert journals.figures() == {"wrong_patient": 1}


def test_a_task_that_says_nobody_is_the_wrong_patient(journals: Journals) -> None:
    said = request(MAX, "A1", "k1")
    del said["patient_id"]
    journals.tasks[0] = Task(1, said)
    assert journals.figures() == {"wrong_patient": 1}


def test_the_curve_of_another_recording_is_the_wrong_patient(journals: Journals) -> None:
    journals.tasks[1] = replace(journals.tasks[1], sample=78)
    assert journals.figures() == {"wrong_patient": 1}


def test_a_contradicting_recording_that_was_attached_is_the_wrong_patient(journals: Journals) -> None:
    del journals.sent[1], journals.rows[1]
    journals.tasks[1] = Task(2, request(EVA, "A1", "k2", upload_id="up-1"), 78)
    assert journals.figures() == {"wrong_patient": 1}


def test_a_merged_identifier_is_the_same_person(journals: Journals) -> None:
    journals.tasks[0] = Task(1, request(MAX, "A1", "k1", patient_id="4712"))
    assert journals.figures() == {}


def test_a_task_that_nobody_asked_for_is_found(journals: Journals) -> None:
    journals.tasks.append(Task(9, request(EVA, "A9", "k9")))
    assert journals.figures() == {"broken": 1}


def test_refused_and_made_all_the_same_is_found(journals: Journals) -> None:
    journals.sent[0].told = Told.REFUSED
    assert journals.figures() == {"broken": 1}


def test_refused_and_sent_again_may_be_made(journals: Journals) -> None:
    journals.sent[0].told = Told.REFUSED
    journals.sent.append(replace(journals.sent[0], name="C9", expect=Expect.NOTHING, told=Told.KEPT))
    journals.rows.append(Row("hl7", "C9", State.CREATED, "", ((State.CREATED, (1,)),)))
    assert journals.figures() == {}


@pytest.mark.parametrize("doubts", [0, 2])
def test_doubts_are_the_answers_that_were_lost(journals: Journals, doubts: int) -> None:
    assert journals.figures(doubts=doubts) == {"doubts_amiss": 1}
    assert journals.figures(doubts=None) == {}


def test_rejected_without_a_refusal_is_found(journals: Journals) -> None:
    journals.rows[2] = replace(journals.rows[2], state=State.REJECTED, tasks=((State.REJECTED, ()),))
    assert journals.figures(doubts=0) == {"broken": 1}
    assert journals.figures(doubts=0, refusals=1) == {}


@pytest.mark.parametrize(
    ("fault", "status", "doubtful"),
    [
        ("", 201, False),
        ("latency", 201, False),
        ("429", 429, False),
        ("401", 401, False),
        ("400", 400, False),
        ("lost_answer", None, True),
        ("drop_at_once", None, True),
        ("silent", None, True),
        ("5xx_before", 500, True),
        ("5xx_after", 503, True),
        ("status", 409, True),
        ("broken_body", 201, True),
        ("broken_body", 400, False),
        ("wrong_ids", 201, True),
    ],
)
def test_which_answers_leave_a_doubt(fault: str, status: int | None, doubtful: bool) -> None:
    assert Post(fault, status).doubtful is doubtful
