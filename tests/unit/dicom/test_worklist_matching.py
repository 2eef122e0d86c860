"""Keys against values (PS3.4 C.2.2.2)."""

import time

import pytest

from bridge.errors import BadInput
from bridge.formats.dicom.matching import date_span, text_matches, time_span


@pytest.mark.parametrize(
    ("vr", "key", "value", "matches"),
    [
        ("LO", "4711", "4711", True),
        ("LO", "4711", "04711", False),
        ("LO", "abc", "ABC", False),  # case counts
        ("SH", " ACC1 ", "ACC1", True),  # padding does not
        ("SH", "ACC1", "", False),  # what is not known matches no value (K.2.2.1.1.1)
        ("CS", "ECG", "ECG", True),
        ("CS", "HD", "ECG", False),
        ("DS", "1*", "1.8", False),  # no wildcards in numbers
    ],
)
def test_ps3_4_c_2_2_2_1_single_value(vr: str, key: str, value: str, *, matches: bool) -> None:
    assert text_matches(vr, key, value) is matches


@pytest.mark.parametrize(
    ("vr", "key", "value", "matches"),
    [
        ("LO", "*", "", True),  # the same as universal matching
        ("LO", "**", "4711", True),
        ("LO", "47*", "4711", True),
        ("LO", "*11", "4711", True),
        ("LO", "4?11", "4711", True),
        ("LO", "4?11", "411", False),
        ("LO", "4*1*2", "4711", False),
        ("LO", "?", "", False),
        ("SH", "acc*", "ACC1", False),
        ("AE", "CART?", "CART1", True),
        ("UI", "1.2*", "1.2.3", False),  # a UID has none
    ],
)
def test_ps3_4_c_2_2_2_4_wildcards(vr: str, key: str, value: str, *, matches: bool) -> None:
    assert text_matches(vr, key, value) is matches


@pytest.mark.parametrize(
    ("key", "value", "matches"),
    [
        ("Muster^Max", "Muster^Max", True),
        ("MUSTER^max", "Muster^Max", True),
        ("muller^jurgen", "Müller^Jürgen", True),
        ("Müller^Jürgen", "MULLER^JURGEN", True),
        ("STRAUSS*", "Strauß-Müller^Eva", True),
        ("obrien*", "O'Brien^Pat", False),  # the apostrophe parts words
        ("o brien*", "O'Brien^Pat", True),
        ("Muster", "Muster^Max", True),  # components that the key leaves out
        ("Muster", "Musterfrau^Max", False),
        ("Muster*", "Musterfrau^Max", True),
        ("^Max", "Muster^Max", True),
        ("^Eva", "Muster^Max", False),
        ("Muster^Max", "Muster^Max^^Dr.", True),
        ("Muster^Max^^Prof.", "Muster^Max^^Dr.", False),
        ("*Max", "Muster^Max", True),  # a run of characters may hold a delimiter
        ("M*^M*", "Muster^Max", True),
        ("M?ster^*", "Müster^Max", True),
        ("von *", "von Muster^Max", True),
        ("von *", "vonMuster^Max", False),
        ("Иванов*", "ИВАНОВ^Иван", True),
        ("παπαδοπουλος^*", "Παπαδόπουλος^Γιώργος", True),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("yamada^tarou", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("=山田^太郎", "Yamada^Tarou=山田^太郎", True),
        ("=Yamada", "Yamada^Tarou=山田^太郎", False),
        ("Yamada=佐藤", "Yamada^Tarou=山田^太郎", False),
        ("*", "", True),
        ("Muster", "", False),
    ],
)
def test_ps3_4_c_2_2_2_1_1_names_without_case_and_accents(key: str, value: str, *, matches: bool) -> None:
    assert text_matches("PN", key, value) is matches


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("20260301", ["20260301"], ["20260228", "20260302", ""]),
        ("20260301-20260303", ["20260301", "20260302", "20260303"], ["20260228", "20260304"]),
        ("-20260301", ["19000101", "20260301"], ["20260302", ""]),
        ("20260301-", ["20260301", "20991231"], ["20260228"]),
        ("2026.03.01 - 2026.03.02", ["20260301", "20260302"], ["20260303"]),
    ],
)
def test_ps3_4_c_2_2_2_5_1_date_ranges(key: str, inside: list[str], outside: list[str]) -> None:
    span = date_span(key, "StudyDate")
    assert span is not None
    assert [span.holds(d) for d in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("10", ["100000", "105959"], ["095959", "110000"]),
        ("1030", ["103000", "103059"], ["102959", "103100"]),
        ("103015", ["103015"], ["103014", "103016"]),
        ("0800-1630", ["080000", "163000", "163059"], ["075959", "163100"]),
        ("-0800", ["000000", "080000"], ["080100", ""]),
        ("2200-", ["220000", "235959"], ["215959", "000000"]),  # never across midnight
        ("10:30:15", ["103015"], ["103016"]),
    ],
)
def test_ps3_4_c_2_2_2_5_2_time_ranges(key: str, inside: list[str], outside: list[str]) -> None:
    span = time_span(key, "StudyTime")
    assert span is not None
    held = [span.holds(f"{t}000000" if t else "") for t in (*inside, *outside)]
    assert held == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize("key", ["", " ", "*"])
def test_ps3_4_c_2_2_2_3_universal_matching(key: str) -> None:
    assert date_span(key, "StudyDate") is None
    assert time_span(key, "StudyTime") is None


@pytest.mark.parametrize("key", ["today", "2026", "2026-03-01", "-", "20260301-x", "20260301-20260302-"])
def test_a_date_that_is_none_is_c000_and_named(key: str) -> None:
    with pytest.raises(BadInput) as problem:
        date_span(key, "ScheduledProcedureStepStartDate")
    assert (problem.value.code, problem.value.where) == (0xC000, "ScheduledProcedureStepStartDate")
    assert key.strip("-") not in str(problem.value) or key == "-"


def test_a_hostile_pattern_costs_its_length_times_the_values() -> None:
    began = time.process_time()
    assert not text_matches("LO", "*a" * 500 + "b", "a" * 64)
    assert not text_matches("PN", "*a" * 500 + "b", "^".join(["a" * 60] * 5))
    assert time.process_time() - began < 5  # backtracking would not end at all
