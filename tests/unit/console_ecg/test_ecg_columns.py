"""Samples that share a pixel column: nothing that a line would show is lost."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.console.ecg.columns import Extremes, kept

VALUES = st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(float("nan"))), max_size=60).map(np.array)


@settings(deadline=None)
@given(VALUES, st.integers(5, 9))
def test_each_column_keeps_its_ends_its_lowest_and_its_highest(values, per):
    places = kept(values, per)
    assert np.array_equal(places, np.unique(places))
    assert set(places.tolist()) <= set(range(len(values)))
    for begin in range(0, len(values), per):
        column = values[begin : begin + per]
        chosen = values[places[(places >= begin) & (places < begin + per)]]
        true, drawn = column[~np.isnan(column)], chosen[~np.isnan(chosen)]
        if true.size:
            assert (drawn[0], drawn[-1]) == (true[0], true[-1])
            assert (drawn.min(), drawn.max()) == (true.min(), true.max())
        assert len(chosen) <= 6


@settings(deadline=None)
@given(VALUES, st.integers(5, 9))
def test_no_line_is_drawn_from_one_column_to_the_next_across_a_gap(values, per):
    places = kept(values, per)
    for one, other in pairwise(places):
        between = values[one : other + 1]
        if one // per != other // per and not np.isnan(values[[one, other]]).any():
            assert not np.isnan(between).any()


@pytest.mark.parametrize("per", [1, 2, 4])
def test_where_there_is_room_every_sample_stays(per):
    assert kept(np.arange(17.0), per).tolist() == list(range(17))


@pytest.mark.parametrize("dtype", ["|i1", "|u1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
@settings(deadline=None)
@given(data=st.data())
def test_a_strip_reaches_as_far_as_its_samples(dtype, data):
    limits = np.iinfo(dtype)
    numbers = st.sampled_from([limits.min, limits.min + 1, 0, 1, 7, limits.max])
    samples = np.array(data.draw(st.lists(numbers, min_size=1, max_size=50)), dtype=dtype)
    columns = data.draw(st.integers(1, 60))
    padding = data.draw(st.sampled_from([None, limits.min, 7]))
    reach = Extremes(len(samples), columns, dtype)
    at = 0
    while at < len(samples):
        block = samples[at : at + data.draw(st.integers(1, 20))]
        reach.add(at, block, padding)
        at += len(block)
    count = min(columns, len(samples))
    assert len(reach.seen) == count
    for column in range(count):
        part = samples[column * len(samples) // count : (column + 1) * len(samples) // count]
        true = part if padding is None else part[part != padding]
        assert reach.seen[column] == len(true)
        if len(true):
            assert (reach.low[column], reach.high[column]) == (true.min(), true.max())
