"""EDF, 1992: physical and digital extremes, eight characters each, and the line that readers draw through them."""

import contextlib
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import CannotScale
from bridge.formats.ecg.edf_scale import MOST_DEVIATION, allowed, bounds_of, deviation

ORDINARY = ("1", "1.25", "2.5", "4.88", "5", "0.152587890625", "3.0517578125", "0.1", "2.44140625", "1.953125")
ODD = ("0.7324219", "0.333333")


def off(step: str, offset: str, lowest: int, highest: int) -> Fraction:
    """What the found ends are off, after a look at all that is promised of them."""
    scale = Fraction(step), Fraction(offset)
    low, high = bounds_of(*scale, lowest, highest)
    assert -32768 <= low.digital <= lowest <= highest <= high.digital <= 32767
    assert low.digital < high.digital
    for end in (low, high):
        assert len(end.text) <= 8
        assert set(end.text) <= set("-0123456789.")
        assert Decimal(end.text).is_finite()
    # The line through the two ends, at each end and at the samples in between, without a float
    gain = (Fraction(high.text) - Fraction(low.text)) / (high.digital - low.digital)
    read = {d: Fraction(low.text) + (d - low.digital) * gain for d in (low.digital, lowest, highest, high.digital)}
    most = max(abs(value - (d * scale[0] + scale[1])) for d, value in read.items())
    assert most == deviation(*scale, low, high) <= allowed(scale[0])
    return most


@pytest.mark.parametrize("step", ORDINARY)
def test_ordinary_sensitivities_are_exact(step):
    assert off(step, "0", -5000, 5000) == 0


@pytest.mark.parametrize("step", ORDINARY)
def test_ordinary_sensitivities_are_said_in_whole_microvolts(step):
    low, high = bounds_of(Fraction(step), Fraction(0), -5000, 5000)
    assert "." not in low.text + high.text


@pytest.mark.parametrize("step", ODD)
@pytest.mark.parametrize("offset", ["0", "-7.5"])
def test_odd_sensitivities_keep_the_documented_bound(step, offset):
    assert off(step, offset, -5000, 5000) <= Fraction("0.024")


@pytest.mark.parametrize("step", ORDINARY)
@pytest.mark.parametrize("offset", ["0.5", "12.34", "-100.1", "2500"])
def test_baselines_between_two_steps_are_exact(step, offset):
    assert off(step, offset, -500, 500) == 0


@pytest.mark.parametrize("step", ["1", "1.25", "2.5", "5", "0.1"])
def test_rails_are_exact_where_eight_characters_suffice(step):
    assert off(step, "0", -32768, 32767) == 0


@pytest.mark.parametrize("step", ["4.88", "0.333333"])
def test_rails_without_room_are_refused(step):
    with pytest.raises(CannotScale) as refused:
        bounds_of(Fraction(step), Fraction(0), -32768, 32767)
    assert refused.value.where == "ChannelSensitivity"


def test_the_limits_edge_is_taken_and_one_past_it_is_not():
    # No decimal is left at -163840 µV, and no other end lies beyond that sample
    assert off("5", "0.05", -32768, 0) == MOST_DEVIATION
    with pytest.raises(CannotScale):
        bounds_of(Fraction(5), Fraction("0.051"), -32768, 0)


def test_a_tenth_of_a_step_is_the_limit_of_small_steps():
    assert off("0.001", "1000.0001", -5, 5) == Fraction("0.0001")
    with pytest.raises(CannotScale):
        bounds_of(Fraction("0.001"), Fraction("1000.00011"), -5, 5)


@pytest.mark.parametrize("flat", [-32768, -1, 0, 7, 32767])
@pytest.mark.parametrize("step", ["1", "0.7324219"])
def test_a_flat_line_has_two_ends(step, flat):
    off(step, "0", flat, flat)


@pytest.mark.parametrize(("step", "offset"), [("1000000000", "0"), ("1", "1000000000"), ("0.00001", "1000000.05")])
def test_what_has_no_room_at_all_is_refused(step, offset):
    with pytest.raises(CannotScale):
        bounds_of(Fraction(step), Fraction(offset), -5, 5)


@given(
    step=st.decimals("0.001", "1000", places=7),
    offset=st.decimals("-20000", "20000", places=6),
    span=st.tuples(st.integers(-32768, 32767), st.integers(-32768, 32767)).map(sorted),
)
@example(step=Decimal("4.88"), offset=Decimal(0), span=[-32750, 32750])
@example(step=Decimal("4.88"), offset=Decimal(0), span=[-32751, 32750])
def test_whatever_is_found_keeps_its_promises(step, offset, span):
    with contextlib.suppress(CannotScale):
        off(str(step), str(offset), *span)


@given(
    step=st.decimals("0.5", "10", places=7),
    offset=st.decimals("-1000", "1000", places=6),
    span=st.tuples(st.integers(-9800, 9800), st.integers(-9800, 9800)).map(sorted),
)
def test_within_100_millivolts_no_ordinary_step_is_refused(step, offset, span):
    off(str(step), str(offset), *span)


@given(step=st.integers(1, 400), offset=st.integers(-1000, 1000), span=st.integers(1, 300))
def test_hundredths_of_a_microvolt_are_always_exact(step, offset, span):
    assert off(f"{Decimal(step) / 100}", f"{Decimal(offset) / 100}", -span, span) == 0
