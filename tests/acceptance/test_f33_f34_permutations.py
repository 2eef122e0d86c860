"""Every order in which an order's messages, its recording and its patient's news can come in (F29 to F36).

The product's own rules run over a store in memory (`dry_bridge.py`). After every message all that it keeps is compared
with what a model says that is written from the specification (`model.py`): answers, states, tasks and their content,
what is listed for a person. `BRIDGE_EXAMPLES` multiplies how much is tried: 1 is the default and takes about a minute,
20 is a thorough run.
"""

import math
import os
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.acceptance.dry_bridge import Bridge
from tests.acceptance.model import OWN, Ecg, Event, Id, Merge, Model, Order, Person, Update

EXAMPLES = int(os.environ.get("BRIDGE_EXAMPLES", "1"))

BRIDGE = Bridge()


def same(model: Model) -> None:
    """What the bridge keeps is what the model says: outcomes and answers, tasks and their content, what is listed."""
    story = "\n".join(f"{n}. {event}" for n, event in enumerate(model.events, 1))
    assert BRIDGE.outcomes() == model.outcomes, story
    assert BRIDGE.tasks() == model.tasks, story
    assert BRIDGE.listed() == model.listed, story


def play(events: Sequence[Event], *, up: bool) -> Model:
    """All of them, compared after each; where the API is down, it is back at the end."""
    BRIDGE.begin(up=up)
    model = Model(up=up)
    for event in events:
        BRIDGE.arrive(event)
        model.arrive(event)
        same(model)
    recover(model)
    return model


def recover(model: Model) -> None:
    """The API answers from now on."""
    BRIDGE.up = model.up = True
    BRIDGE.send()
    model.send()
    same(model)


# --- one patient, one order, one recording: every order of arrival ----------------------------------------------

MAX = Person("Muster", "Max", "1970-01-31")
OLD, NEW = Id("R1"), Id("S1")
NW = Order("NW", "N1", OLD, MAX, "Palpitationen", 1)
XO = replace(NW, control="XO", wish="Synkope", minute=2)
CA = replace(NW, control="CA", minute=3)
ECG = Ecg("2.25.1", OLD, MAX, "N1")
A08 = Update(OLD, Person("Muster", "Max Emil", "1970-01-31", "M"))
A40 = Merge(OLD, NEW, Person("Muster", "Max"))
STORY: tuple[Event, ...] = (NW, XO, CA, ECG, A08, A40)
REPEATED: dict[bool, tuple[Event, ...]] = {True: (NW, XO, CA, ECG, A40), False: (NW, XO, ECG, A08, A40)}
"""Between which duplicates are put, where the API is up and where it is down; all of `STORY` in a thorough run."""


def walk(model: Model, left: tuple[Event, ...], before: tuple[Event, ...], chance: random.Random | None) -> int:
    """Every order in which the rest can come in, after what came before. Returns how many whole ones there were.

    What is common to several is done once. Where `chance` is given, duplicates of what came before are put between.
    At every point the API may come back for good: what is ready then is sent, and compared too.
    """
    whole = 0
    if not left:
        return 1
    here = BRIDGE.saved()
    for number, event in enumerate(left):
        BRIDGE.restore(here)
        after = model.copy()
        again = [e for e in before if chance is not None and chance.random() < 0.25]
        for one in (*again, event):
            BRIDGE.arrive(one)
            after.arrive(one)
        same(after)
        if not after.up:
            kept = BRIDGE.saved()
            recover(after.copy())
            BRIDGE.up = False
            BRIDGE.restore(kept)
        whole += walk(after, left[:number] + left[number + 1 :], (*before, event), chance)
    return whole


@pytest.mark.parametrize("up", [True, False], ids=["api-answers", "api-down-until-the-end"])
def test_f33_f34_all_720_orders_of_arrival_end_as_the_rules_say(up):
    BRIDGE.begin(up=up)
    assert walk(Model(up=up), STORY, (), None) == 720


@pytest.mark.parametrize("seed", range(EXAMPLES))
@pytest.mark.parametrize("up", [True, False], ids=["api-answers", "api-down-until-the-end"])
def test_f32_f33_f34_every_order_of_arrival_with_duplicates_in_between(up, seed):
    story = STORY if EXAMPLES > 1 else REPEATED[up]
    BRIDGE.begin(up=up)
    assert walk(Model(up=up), story, (), random.Random(seed)) == math.factorial(len(story))


@settings(
    max_examples=120 * EXAMPLES,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_f32_duplicates_anywhere_change_nothing(data):
    """Any order of arrival, each message under either identifier, repeats anywhere; then the whole day once more."""
    events = [
        replace(e, patient=data.draw(st.sampled_from([OLD, NEW]))) if isinstance(e, Order | Ecg | Update) else e
        for e in data.draw(st.permutations(STORY))
    ]
    for place in data.draw(st.lists(st.integers(0, len(events) - 1), max_size=6)):
        later = data.draw(st.integers(place + 1, len(events)))
        events.insert(later, events[place])
    model = play(events, up=data.draw(st.booleans()))
    made = dict(model.tasks)
    for event in events:
        BRIDGE.arrive(event)
        model.arrive(event)
        same(model)
    assert model.tasks == made, "replaying the day's log made a task"


# --- the smallest cases of what went wrong once -----------------------------------------------------------------

CARL = Person("Anders", "Carl", "1950-02-02", "M")
FOREIGN = Id("R1", "OTHER")  # the same value, issued by somebody else, to somebody else
SMALLEST: dict[str, tuple[bool, list[Event]]] = {
    "f34_a_retired_identifier_that_is_another_patients_now": (
        True,
        [Update(NEW, MAX), A40, replace(NW, person=CARL), replace(ECG, person=CARL)],
    ),
    "f34_a_change_under_the_retired_identifier_before_the_draft": (False, [A40, replace(NW, patient=NEW), XO]),
    "f34_a_change_under_the_retired_identifier_before_the_ecg": (True, [A40, replace(NW, patient=NEW), XO, ECG]),
    "f34_a_merge_of_another_authority_lists_nobody_elses_task": (True, [replace(NW, patient=FOREIGN), A40]),
    "f34_a_merge_against_the_last_of_a_chain_undoes_nothing": (
        True,
        [Merge(OLD, NEW), Merge(Id("Q1"), OLD), Merge(OLD, Id("Q1")), replace(NW, patient=Id("Q1"))],
    ),
    "f33_a_change_of_an_order_whose_recording_came_first": (True, [ECG, NW, XO]),
    "f33_a_cancel_of_an_order_whose_recording_came_first": (True, [ECG, NW, CA]),
    "f33_no_draft_for_an_order_whose_recording_went_out_first": (False, [ECG, NW]),
    "f33_an_order_does_not_take_back_its_change": (True, [ECG, XO, NW, replace(ECG, uid="2.25.2")]),
    "f33_a_cancelled_order_is_answered_at_once": (False, [XO, CA, NW]),
    "f33_a_cancel_of_another_patients_number_makes_no_change_old": (
        True,
        [CA, replace(NW, patient=NEW), replace(XO, patient=NEW)],
    ),
    "f32_a_change_again_after_its_order": (True, [XO, NW, XO]),
    "f32_a_change_that_came_too_late_again": (True, [NW, XO, XO]),
    "f32_an_order_again_does_not_take_back_its_change": (True, [ECG, NW, XO, NW, replace(ECG, uid="2.25.2")]),
}


@pytest.mark.parametrize("case", list(SMALLEST))
def test_smallest_case(case):
    up, events = SMALLEST[case]
    play(events, up=up)


def test_the_model_says_what_the_specification_says():
    """The model is pinned where the words of hl7.md §4.1 leave no doubt, so that both cannot err alike."""
    for up, events, answers in (
        (True, [NW, XO, ECG, CA], ["OK d1", "UX d1", " r3", "UC d1 r3"]),
        (False, [NW, XO, CA, ECG], ["OC", "XR", "CR", " r4"]),
        (True, [CA, NW, XO, ECG], ["UC", "OC", "UX", " r4"]),
        (True, [CA, replace(NW, minute=4)], ["UC", "OK d2"]),
        (True, [ECG, NW, NW], [" r1", "OK r1", "OK r1"]),
        (True, [XO, NW, ECG], ["XR d1", "OK d1", " r3"]),
        (True, [NW, replace(ECG, patient=NEW), A40], ["OK d1", "", ""]),
    ):
        told = [" ".join([o.control, *o.tasks]) for o in play(events, up=up).outcomes]
        assert told == answers, events
    model = play([NW, A40, ECG], up=True)
    assert [(t.label, t.patient, t.draft) for t in model.tasks.values()] == [("d1", "R1", ""), ("r3", "S1", "d1")]
    assert model.listed == {("merged_after_task", 1)}


# --- a ward: several patients, orders and merges ---------------------------------------------------------------

ANNA = Person("Zwilling", "Anna", "1990-05-05")
ANNE = Person("Zwilling", "Anne", "1990-05-05")  # a twin: one letter apart
A1, A2, A3, B1, B2 = (Id(value) for value in ("A1", "A2", "A3", "B1", "B2"))
FOREIGN_A1 = Id("A1", "OTHER")
FOREIGN_NEW = Id("C2", "OTHER")
OF = {A1: ANNA, A2: ANNA, A3: ANNA, B1: ANNE, B2: ANNE, FOREIGN_A1: CARL, FOREIGN_NEW: CARL}
NUMBERS = {"N1": ANNA, "N3": ANNE, "N4": CARL}
IDS = st.sampled_from(list(OF))
OWN_IDS = st.sampled_from([i for i in OF if i.authority == OWN])


SOME_NUMBER = st.sampled_from(["N1", "N1", "N1", "N1", *NUMBERS])


def ids_of(person: Person) -> st.SearchStrategy[Id]:
    return st.sampled_from([i for i, whose in OF.items() if whose == person])


class Ward(RuleBasedStateMachine):
    """What the days of several patients can look like. After each message the bridge and the model keep the same.

    What a person could not tell apart either is left out: a wrong identifier of somebody of whom nothing is known.
    """

    sound = False  # nothing has failed so far

    @initialize(up=st.booleans(), known=st.lists(IDS, unique=True, max_size=3))
    def opens(self, up: bool, known: list[Id]) -> None:
        BRIDGE.begin(up=up)
        self.model = Model(up=up)
        self.said: list[Event] = []
        self.objects = 0
        self.sound = True
        for who in known:
            self.comes(Update(who, OF[who]))

    def comes(self, event: Event) -> None:
        self.said.append(event)
        self.sound = False
        BRIDGE.arrive(event)
        self.model.arrive(event)
        same(self.model)
        for body in BRIDGE.bodies():
            whose = next(p for p in (ANNA, ANNE, CARL) if p.first == body["patient_first_name"].split()[0])
            ours = {i.value for i, person in OF.items() if person == whose}
            assert body["patient_id"] in ours, f"a task of another patient: {self.said}"
        self.sound = True

    def _is_known(self, who: Id) -> bool:
        """Whether the record of whoever has this identifier now would tell another person from him."""
        record = self.model.records.get(self.model.now(who), {})
        return bool(record.get("born") and record.get("first") and record.get("last"))

    @rule(number=SOME_NUMBER, data=st.data())
    def orders(self, number: str, data: st.DataObject) -> None:
        """A new order, under any of the patient's identifiers."""
        self._orders("NW", number, data, "Palpitationen", 1)

    @rule(number=SOME_NUMBER, data=st.data(), second=st.booleans())
    def changes_an_order(self, number: str, data: st.DataObject, second: bool) -> None:
        """One of two changes, in either order; the later one stands."""
        self._orders("XO", number, data, "Brustschmerz" if second else "Synkope", 3 if second else 2)

    @rule(number=SOME_NUMBER, data=st.data(), sure=st.booleans())
    def cancels_an_order(self, number: str, data: st.DataObject, sure: bool) -> None:
        """Half as often as the others: nothing much comes after it."""
        if sure:
            self._orders("CA", number, data, "Palpitationen", 9)

    def _orders(self, control: str, number: str, data: st.DataObject, wish: str, minute: int) -> None:
        who = data.draw(ids_of(NUMBERS[number]))
        self.comes(Order(control, number, who, OF[who], wish, minute))

    @rule(who=IDS, number=SOME_NUMBER, control=st.sampled_from(["NW", "XO", "CA"]), wrong=st.booleans())
    def mistakes_the_number(self, who: Id, number: str, control: str, wrong: bool) -> None:
        """Another patient's order number, or another order's content."""
        if number in self.model.book and wrong:
            self.comes(Order(control, number, who, OF[who], "Etwas anderes", 1 if control == "NW" else 4))

    @rule(number=st.sampled_from(list(NUMBERS)), data=st.data())
    def orders_again_after_the_cancel(self, number: str, data: st.DataObject) -> None:
        """An order that is newer than the cancel of its number that came before it (F33)."""
        booked = self.model.book.get(number)
        if booked is not None and booked.standing == "unseen":
            who = data.draw(ids_of(NUMBERS[number]))
            self.comes(Order("NW", number, who, OF[who], "Palpitationen", 11))

    @rule(who=IDS, more=st.sampled_from(["", " Emil"]), sex=st.sampled_from(["", "M", "F"]))
    def tells_of_a_patient(self, who: Id, more: str, sex: str) -> None:
        """A08. A middle name and a sex come and go; who it is stays."""
        person = OF[who]
        self.comes(Update(who, replace(person, first=person.first + more, sex=person.sex or sex)))

    @rule(retired=IDS, data=st.data(), trigger=st.sampled_from(["A40", "A40", "A18", "A47"]), named=st.booleans())
    def merges(self, retired: Id, data: st.DataObject, trigger: str, named: bool) -> None:
        """Chains, repeats, the inverse, an identifier into itself; across authorities, which is never one person."""
        usual = [i for i, whose in OF.items() if whose == OF[retired] and i != retired]
        odd = [i for i in OF if i == retired or i.authority != retired.authority]
        survivor = data.draw(st.sampled_from([*usual * 6, *odd]))
        self.comes(Merge(retired, survivor, OF[survivor] if named else Person(), trigger))

    @rule(who=OWN_IDS, number=st.sampled_from(["", "", "N1", "N1", "N3", "N9"]))
    def records(self, who: Id, number: str) -> None:
        """A recording with its own patient's identifier: no order number, his own order's, or by mistake another's."""
        self._records(who, OF[who], number)

    @rule(who=OWN_IDS, person=st.sampled_from([ANNA, ANNE, CARL]), number=st.sampled_from(["", "N1", "N3"]))
    def records_under_the_wrong_identifier(self, who: Id, person: Person, number: str) -> None:
        """A cart where two patients were mixed up: wherever it can be told, no task may come of it (promise 3)."""
        if person != OF[who] and self._is_known(who):
            self._records(who, person, number)

    def _records(self, who: Id, person: Person, number: str) -> None:
        self.objects += 1
        self.comes(Ecg(f"2.25.{self.objects}", who, person, number))

    @rule(who=OWN_IDS, control=st.sampled_from(["NW", "NW", "XO", "CA"]), number=st.sampled_from(["N7", "N8"]))
    def gives_a_retired_identifier_to_somebody_else(self, who: Id, control: str, number: str) -> None:
        """An identifier that was merged away comes back with another patient (F34): an order, then a recording."""
        if self.model.now(who) != who and self._is_known(who):
            self.comes(Order(control, number, who, CARL, "Palpitationen", {"NW": 1, "XO": 2, "CA": 9}[control]))
            if self._is_known(who):
                self._records(who, CARL, number)

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def repeats(self, data: st.DataObject) -> None:
        """Any message again under a new MSH-10, or an object again."""
        self.comes(data.draw(st.sampled_from(self.said)))

    @rule()
    def loses_the_api(self) -> None:
        BRIDGE.up = self.model.up = False

    @rule()
    def finds_the_api_again(self) -> None:
        recover(self.model)

    def teardown(self) -> None:
        if self.sound:
            recover(self.model)


def test_f31_to_f36_a_ward_of_patients_and_merges_keeps_to_the_rules():
    budget = settings(
        max_examples=250 * EXAMPLES,
        stateful_step_count=25,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(Ward, settings=budget)
