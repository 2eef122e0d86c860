"""The key of a task, failures.md §3.1."""

import re

from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.key import tagged, task_key

SITE = bytes(range(32))
NAMED = {"destination": "https://api.example", "organization": "clinic", "purpose": "recording"}
TEXTS = st.lists(st.text(max_size=8), max_size=4)


def test_3_1_the_key_has_its_form_and_stays_what_it_is():
    key = task_key(SITE, **NAMED, parts=("1.2.840.1", "ab" * 32))
    assert re.fullmatch(r"br1-[a-z2-7]{26}", key)
    # a changed key would let a recording that has a task become a second one after an upgrade
    assert key == "br1-b7bggsidq3elpi5ttnujchpixy"


def test_3_1_every_ingredient_counts():
    keys = {task_key(SITE, **NAMED, parts=("a", "b")), task_key(SITE[::-1], **NAMED, parts=("a", "b"))}
    keys |= {task_key(SITE, **NAMED | {name: "other"}, parts=("a", "b")) for name in NAMED}
    keys |= {task_key(SITE, **NAMED, parts=parts) for parts in [("b", "a"), ("ab",), ("a", "b", ""), ("", "a", "b")]}
    assert len(keys) == 9


@given(one=TEXTS, other=TEXTS)
def test_3_1_no_two_lists_of_parts_read_the_same(one, other):
    def key(parts):
        return task_key(SITE, **NAMED, parts=tuple(parts))

    assert (key(one) == key(other)) == (one == other)


def test_3_1_a_re_send_carries_its_generation():
    assert [tagged("br1-k", n) for n in (1, 2, 3)] == ["br1-k", "br1-k-g2", "br1-k-g3"]


@given(st.text())
def test_phi_no_part_shows_in_the_key(part):
    key = task_key(SITE, **NAMED, parts=(part,))
    assert key.removeprefix("br1-") != part
    assert len(key) == 30
