"""F35, F36: a recording is attached to an order only where promise 3 allows it.

`allowed` (tests/campaign/pairs.py) is the rule written a second time, from the promise and not from the code: it is the
judge of every generated case.
"""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.patient import Demographics, Identifier
from bridge.domain.task import NumberKind
from bridge.mapping.matching import (
    Held,
    HoldReason,
    Matched,
    NoOrder,
    OrderFacts,
    RecordingFacts,
    compare,
    match,
)
from tests.campaign.pairs import VALUES, allowed, facts, judged, number

MAX = Demographics("Muster", "Max", "MALE", "1970-01-31")


def recording(numbers=("A1",), identifier=("4711", ""), who=MAX):
    return RecordingFacts(tuple(number(n) for n in numbers), Identifier(*identifier), who)


def order(order_id=1, numbers=("A1",), identifier=("4711", ""), who=MAX):
    return OrderFacts(order_id, tuple(number(n) for n in numbers), Identifier(*identifier), who)


# --- the matrix ------------------------------------------------------------------------------------------------------

STATES = ("agrees", "contradicts", "unknown")


@pytest.mark.parametrize("shared", [True, False])
def test_f35_the_whole_agreement_matrix(shared):
    """Number x identifier x name x birth date x sex, each agreeing, contradicting or unknown: 2 x 3^4 cases."""
    attached = 0
    for states in itertools.product(STATES, repeat=4):
        ids, name, born, sex = states
        rec = recording(
            ("A1",) if shared else ("A2",),
            {"agrees": ("4711", ""), "contradicts": ("0815", ""), "unknown": ("", "")}[ids],
            Demographics(
                **dict(
                    zip(
                        ("last_name", "first_name"),
                        {"agrees": ("MUSTER", "Max"), "contradicts": ("Probe", "Max"), "unknown": ("", "")}[name],
                        strict=True,
                    )
                ),
                gender={"agrees": "MALE", "contradicts": "FEMALE", "unknown": ""}[sex],
                birth_date={"agrees": "1970-01-31", "contradicts": "1970-01-30", "unknown": ""}[born],
            ),
        )
        outcome = match(rec, [order()])
        expected = shared and ids == "agrees" and "agrees" in {name, born} and "contradicts" not in {name, born, sex}
        assert isinstance(outcome, Matched) == expected, states
        assert isinstance(outcome, NoOrder) == (not shared), states
        attached += expected
        if isinstance(outcome, Held):
            told = dict(zip(("patient_id", "name", "birth_date", "sex"), states, strict=True))
            if ids == "unknown":
                told["patient_id"] = "contradicts"  # an identifier that is not there does not agree
            assert set(outcome.agreements) == {k for k, v in told.items() if v == "agrees"}
            assert set(outcome.contradictions) == {k for k, v in told.items() if v == "contradicts"}
            assert outcome.reason is (
                HoldReason.CONTRADICTION if "contradicts" in told.values() else HoldReason.TOO_LITTLE
            )
    assert attached == (6 if shared else 0)


def test_f35_every_fact_equal_different_or_absent_against_the_judge():
    """Number, identifier, authority, name, birth date, sex: 3^6 cases, each with and without a site authority."""
    theirs = {
        "number": "A1", "id": "4711", "authority": "TEST", "name": ("Muster", "Max"), "born": "1970-01-31",
        "sex": "MALE",
    }  # fmt: skip
    others = {
        "number": "A2", "id": "0815", "authority": "OTHER", "name": ("Probe", "Max"), "born": "1970-01-13",
        "sex": "FEMALE",
    }  # fmt: skip
    empty = dict.fromkeys(theirs, "") | {"name": ("", "")}
    ordered = OrderFacts(1, (number("A1"),), Identifier("4711", "TEST"), MAX)
    attached = []
    for picked in itertools.product((theirs, others, empty), repeat=6):
        said = {key: source[key] for key, source in zip(theirs, picked, strict=True)}
        who = Demographics(*said["name"], gender=said["sex"], birth_date=said["born"])
        rec = RecordingFacts((number(said["number"]),), Identifier(said["id"], said["authority"]), who)
        for site in ("", "TEST", "OTHER"):
            got = isinstance(match(rec, [ordered], site_authority=site), Matched)
            assert got == allowed(rec, ordered, site), (said, site)
            if got:
                attached.append((said["authority"], site))
    # Name and birth date: (equal, equal), (equal, absent), (absent, equal); sex equal or absent: 6 ways each.
    assert {pair: attached.count(pair) for pair in set(attached)} == {
        ("TEST", ""): 6, ("TEST", "TEST"): 6, ("TEST", "OTHER"): 6, ("", ""): 6, ("", "TEST"): 6,
    }  # fmt: skip


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (("Muster", "Max"), ("MUSTER", "max"), "agrees"),
        (("Strauß-Müller", "Zoë"), ("STRAUSS MULLER", "ZOE"), "agrees"),
        (("Müller", "Max"), ("MULLER", "MAX"), "agrees"),
        (("Γιώργος", "Τεστ"), ("ΓΙΩΡΓΟΣ", "ΤΕΣΤ"), "agrees"),
        (("Γιώργος", "Τεστ"), ("Γιώργου", "Τεστ"), "contradicts"),
        (("Muster", "Anna"), ("Muster", "Anna Maria"), "agrees"),
        (("Muster", "Anna-Maria"), ("Muster", "Anna Maria"), "agrees"),
        (("Muster", "Anna Maria"), ("Muster", "Anna Luise"), "contradicts"),
        (("Muster", "Anna M"), ("Muster", "Anna Maria"), "unknown"),
        (("Muster", "A"), ("Muster", "Anna"), "unknown"),
        (("Muster", "Ann"), ("Muster", "Anna"), "unknown"),
        (("Muster", ""), ("Muster", "Anna"), "unknown"),
        (("", "Anna"), ("Muster", "Anna"), "unknown"),
        (("---", "Anna"), ("Muster", "Anna"), "unknown"),
        (("Muster", "Anna"), ("Muster", "Max"), "contradicts"),
        (("Muster", "Maria Anna"), ("Muster", "Anna Maria"), "contradicts"),
        (("Max", "Muster"), ("Muster", "Max"), "contradicts"),
        (("Mueller", "Max"), ("Müller", "Max"), "contradicts"),
        (("Muster", ""), ("Probe", ""), "contradicts"),
    ],
)
def test_names(a, b, verdict):
    for one, other in ((a, b), (b, a)):
        told = compare(Demographics(*one), Demographics(*other))
        got = "agrees" if told.agree else "contradicts" if told.contradict else "unknown"
        assert got == verdict


def test_undifferentiated_contradicts_no_sex():
    assert compare(Demographics(gender="UNDIFFERENTIATED"), Demographics(gender="MALE")) == compare(
        Demographics(), Demographics()
    )


# --- identifiers and numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "site", "attached"),
    [
        ("", "", "", True), ("TEST", "test", "", True), ("TEST", "", "", True), ("TEST", "", "TEST", True),
        ("TEST", "OTHER", "", False), ("TEST", "", "OTHER", False), ("", "", "TEST", True),
    ],
)  # fmt: skip
def test_an_absent_authority_is_the_sites_own(mine, theirs, site, attached):
    outcome = match(recording(identifier=("4711", mine)), [order(identifier=("4711", theirs))], site_authority=site)
    assert isinstance(outcome, Matched) == attached
    assert attached or outcome.reason is HoldReason.CONTRADICTION


@pytest.mark.parametrize(
    ("mine", "theirs", "candidate"),
    [
        (("A1", ""), ("A1", "HIS"), True), (("A1", "his"), ("A1", "HIS"), True), (("A1", "RIS"), ("A1", "HIS"), False),
        ((" A1 ", ""), ("A1", ""), True), (("a1", ""), ("A1", ""), False), (("A1", ""), ("A10", ""), False),
        (("001", ""), ("1", ""), False), (("", ""), ("", ""), False),
    ],
)  # fmt: skip
def test_a_number_is_equal_or_it_is_another(mine, theirs, candidate):
    rec = RecordingFacts((number(*mine),), Identifier("4711"), MAX)
    ordered = OrderFacts(1, (number(*theirs, kind=NumberKind.PLACER),), Identifier("4711"), MAX)
    assert isinstance(match(rec, [ordered]), Matched if candidate else NoOrder)


def test_f36_no_candidate_says_why():
    assert match(recording(), []) == NoOrder("no order has its number")
    assert match(recording(numbers=()), [order()]) == NoOrder("it has no order number")


def test_f36_two_orders_that_agree_are_for_a_person_and_never_chosen_by_place():
    for orders in itertools.permutations([order(1), order(2)]):
        outcome = match(recording(), orders)
        assert isinstance(outcome, Held)
        assert (outcome.reason, set(outcome.order_ids)) == (HoldReason.AMBIGUOUS, {1, 2})


def test_the_same_order_twice_is_one_and_another_patients_order_does_not_stand_in_the_way():
    assert isinstance(match(recording(), [order(1), order(1)]), Matched)
    other = order(2, identifier=("0815", ""), who=Demographics("Probe", "Petra", "FEMALE", "1980-01-01"))
    assert match(recording(), [other, order(1)]) == Matched(1, ("patient_id", "name", "birth_date", "sex"))


# --- generated -------------------------------------------------------------------------------------------------------


def test_f35_no_wrong_attachment_in_120_000_generated_pairs():
    counts = judged(random.Random(35), 120_000)
    assert (counts["wrong_patient"], counts["broken"]) == (0, 0)
    assert counts["attached"] > 1000  # the judge had something to judge


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_f36_among_several_orders_only_a_lone_rightful_one_is_attached(data):
    def pick(name):
        return data.draw(st.sampled_from(VALUES[name]))

    rec = RecordingFacts(*facts(pick))
    orders = [OrderFacts(n, *facts(pick)) for n in range(data.draw(st.integers(0, 4)))]
    rightful = [o.order_id for o in orders if allowed(rec, o)]
    outcome = match(rec, orders)
    if len(rightful) == 1:
        assert isinstance(outcome, Matched)
        assert outcome.order_id == rightful[0]
    else:
        assert not isinstance(outcome, Matched)
    assert type(match(rec, orders[::-1])) is type(outcome)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_names_of_any_script_compare_the_same_both_ways_and_agree_with_themselves(last, first, other, second):
    a, b = Demographics(last, first), Demographics(other, second)
    assert compare(a, b) == compare(b, a)
    assert compare(a, a).contradict == ()


def test_vowel_signs_are_letters_so_two_names_that_differ_by_one_contradict():
    one = Demographics(last_name="राम", first_name="X")
    assert compare(one, Demographics(last_name="रीम", first_name="X")).contradict == ("name",)
    assert compare(one, one).agree == ("name",)
