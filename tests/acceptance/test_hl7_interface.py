"""`deploy/hl7-interface.md` says what the code does: its tables and examples are made anew and compared."""

from pathlib import Path

import pytest

from bridge.domain.admission import EVENTS
from bridge.domain.order import CONTROLS
from bridge.formats.hl7.batch import is_batch, split
from bridge.formats.hl7.lint import check_answer, lint
from bridge.hl7_settings import AnswerCodes, ListenerSettings
from tests.interface import situations, tables
from tests.interface.__main__ import made
from tests.interface.page import COMMAND, PAGE, filled, names_in

TEXT = PAGE.read_text(encoding="utf-8")


async def test_the_page_is_what_the_code_makes_of_it(tmp_path: Path) -> None:
    parts = await made(tmp_path)
    assert sorted(names_in(TEXT)) == sorted(parts), "a part that the page has no place for, or has twice"
    assert filled(TEXT, parts) == TEXT, f"the code says otherwise; {COMMAND} writes the page anew"


async def test_every_answer_on_the_page_is_conformant(tmp_path: Path) -> None:
    seen = await situations.run(tmp_path)
    told = 0
    for situation, answer in seen.answers:
        raw = answer.encode()
        for one in split(raw).messages if is_batch(raw) else [raw]:
            told += 1
            assert [f for f in check_answer(one) if "MSA[1]-2" not in f or "|AR|" not in answer] == [], situation.words
    assert told > len(situations.SITUATIONS)
    assert len(seen.later) == 2
    assert [f for text in seen.later for f in lint(text.encode()) if f.severity == "error"] == []


def test_the_words_of_the_tables_are_for_what_there_is_and_for_nothing_else() -> None:
    assert tables.EVENT_NAMES.keys() == EVENTS.keys()
    assert tables.CASES.keys() == AnswerCodes.model_fields.keys()
    assert tables.SETTINGS.keys() == ListenerSettings.model_fields.keys()
    assert {s.key for s in (*situations.SITUATIONS, situations.NO_ROOM)} - {""} == tables.CASES.keys()


def test_every_control_and_event_has_its_line() -> None:
    lines = TEXT.splitlines()
    named = {name for line in lines for name in line.split("|")[1:2] for name in name.replace("`", "").split(", ")}
    assert {n.strip() for n in named} >= CONTROLS.keys() | EVENTS.keys()


def test_a_changed_line_is_noticed() -> None:
    part = tables.controls()
    assert "`XR`" in part
    changed = TEXT.replace("`XR`", "`XS`")
    assert changed != TEXT
    parts = dict.fromkeys(names_in(TEXT), "")
    assert part in filled(changed, {**parts, "controls": part})
    with pytest.raises(KeyError):
        filled("<!-- made: nothing -->\n<!-- end -->", parts)
