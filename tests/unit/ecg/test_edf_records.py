"""EDF, 1992 and EDF+ §2.2.4: samples cut into data records, not one more and not one less."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.recording import Channel, MultiplexGroup, Originality
from bridge.errors import CannotScale
from bridge.formats.ecg.edf_records import ADVISED, MOST, layout_of

GROUP = MultiplexGroup(
    number=1, originality=Originality.ORIGINAL, label="", rate=Decimal(500), samples=5000, channels=(),
    dtype="<i2", bits_stored=16, padding=None, time_offset_ms=Decimal(0), offset=0, length=0,
)  # fmt: skip


def group(samples, rate="500", channels=12):
    return replace(GROUP, samples=samples, rate=Decimal(rate), channels=(Channel("I", Decimal(1)),) * channels)


@pytest.mark.parametrize(
    ("samples", "rate", "channels", "cut"),
    [
        (5000, "500", 12, (10, 500, "1")),
        (86_400_000, "1000", 12, (86_400, 1000, "1")),
        (10_000, "1000", 12, (10, 1000, "1")),
        (4999, "500", 12, (1, 4999, "9.998")),  # a prime number
        (9998, "1000", 12, (2, 4999, "4.999")),
        (2499, "250", 12, (1, 2499, "9.996")),
        (1283, "500", 3, (1, 1283, "2.566")),
        (80_000, "8000", 12, (32, 2500, "0.3125")),  # a second is longer than the advised size
        (2500, "249.75", 3, None),  # no divisor has a duration that a decimal can say
        (1283, "128", 12, None),  # a prime number, 10.0234375 s
        (3600, "360", 2, (10, 360, "1")),
        (1, "10", 1, (1, 1, "0.1")),
        (1, "500", 1, None),
        (99_999_989, "10", 1, (99_999_989, 1, "0.1")),  # a prime number; one past this count has nine characters
        (100_000_007, "10", 1, None),
        (43_200_007, "500", 12, None),  # a prime number, 24 h: nine characters of duration
        (436_889, "500", 12, (1, 436_889, "873.778")),  # the last prime number whose record is within 10 MiB
        (436_913, "500", 12, None),
        (100_003, "500", 12, (1, 100_003, "200.006")),
    ],
)
def test_how_samples_are_cut(samples, rate, channels, cut):
    if cut is None:
        with pytest.raises(CannotScale) as refused:
            layout_of(group(samples, rate, channels))
        assert refused.value.where == "WaveformSequence[1].NumberOfWaveformSamples"
    else:
        layout = layout_of(group(samples, rate, channels))
        assert (layout.records, layout.frames, layout.seconds) == cut


def test_more_channels_than_the_count_has_characters_for_are_refused():
    assert layout_of(group(5, "10", 9998)).header_bytes == 256 * 10_000
    with pytest.raises(CannotScale):
        layout_of(group(5, "10", 9999))


@given(
    samples=st.integers(1, 200_000),
    rate=st.sampled_from(["50", "128", "180", "250", "256", "360", "499.5", "500", "977", "1000", "2000", "333.3333"]),
    channels=st.integers(1, 24),
)
def test_every_cut_is_exact_and_its_records_can_be_read(samples, rate, channels):
    try:
        layout = layout_of(group(samples, rate, channels))
    except CannotScale:
        return
    assert layout.records * layout.frames == samples
    assert layout.frames / Fraction(layout.seconds) == Fraction(rate)
    assert len(layout.seconds) <= 8
    assert len(str(layout.records)) <= 8
    assert 2 * layout.words <= MOST
    if Fraction(samples, 1) / Fraction(rate) % 1 == 0 and 2 * layout.channels * Fraction(rate) < ADVISED - 100:
        assert 2 * layout.words <= ADVISED


def test_2_2_4_each_record_says_when_it_begins():
    layout = layout_of(group(9998, "1000"))
    assert layout.notes(0, 2) == b"+0.000\x14\x14\0\0" + b"+4.999\x14\x14\0\0"
    layout = layout_of(group(86_400_000, "1000"))
    assert layout.notes(86_399, 1) == b"+86399\x14\x14\0\0"
    assert layout.notes(0, 1) == b"+0\x14\x14\0\0\0\0\0\0"
