"""Every row of the table of faults has a test that carries its number, or its reason stands in the README."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = range(1, 46)
_TEST = re.compile(r"def (test_\w+)")
_NUMBER = re.compile(r"(?:(?<=_)|^)f(\d+)(?=_)")
_SEVERAL = re.compile(r"(?:(?<=_)|^)f(\d+)_to_f(\d+)(?=_)")
_REASON = re.compile(r"^\| F(\d+) \| (.{40,}) \|$", re.MULTILINE)


def numbers(name: str) -> set[int]:
    """The faults that a test's name carries: `test_f7_f43_…`, `test_f31_to_f36_…`."""
    found = {int(n) for n in _NUMBER.findall(name)}
    for first, last in _SEVERAL.findall(name):
        found.update(range(int(first), int(last) + 1))
    return found


def counted() -> dict[int, int]:
    """How many tests carry each number."""
    counts = dict.fromkeys(FAULTS, 0)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in _TEST.findall(path.read_text(encoding="utf-8")):
            for number in numbers(name.removeprefix("test_")):
                counts[number] = counts.get(number, 0) + 1
    return counts


def test_each_fault_has_a_test_or_a_written_reason() -> None:
    counts = counted()
    assert set(counts) == set(FAULTS), "a test carries the number of a fault that there is not"
    reasons = {int(n) for n, _ in _REASON.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {n for n in FAULTS if not counts[n]} == reasons


def test_numbers_are_read_as_they_are_meant() -> None:
    assert numbers("f12_a_lost_answer") == {12}
    assert numbers("f7_f43_both") == {7, 43}
    assert numbers("f31_to_f34_a_range") == {31, 32, 33, 34}
    assert numbers("of_f2_and_a_float64_value") == {2}
    assert numbers("a_buf9_name") == set()
