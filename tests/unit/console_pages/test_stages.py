"""The parts of a message's page, from what the store tells."""

from pathlib import Path
from typing import Any

import pytest

from bridge.console.stages.causes import cause_of
from bridge.console.stages.header_shown import header_shown
from bridge.console.stages.hl7_shown import anchor_of, hl7_shown, plain_shown, used_places
from bridge.console.stages.offers import for_page, offers
from bridge.console.stages.steps import steps
from bridge.dispatch.acts.ways import HELD, Case
from bridge.domain.states import State

HEAD = b"MSH|^~\\&|HIS|TEST|C|B|2026||ORM^O01|C1|P|2.3.1\r"


def case(state: State, reason: str = "", *, told_no: bool = False, kind: str = "dicom") -> Case:
    return Case(1, kind, state, reason, told_no, with_task_fields=True, in_doubt=False)


def found(**more: Any) -> dict[str, Any]:
    return {"type": "ORM^O01", "answer_code": "", "told_later": [], "tasks": [], "task_ids": [], **more}


def marks(state: State, reason: str = "", **more: Any) -> list[str]:
    return [step.mark for step in steps(found(**more), case(state, reason))]


def test_the_five_steps_say_where_it_stopped() -> None:
    made = {"tasks": [{"order_id": "1"}], "task_ids": ["4711"], "answer_code": "AA"}
    assert marks(State.RECEIVED) == ["done", "now", "none", "none", "none"]
    assert marks(State.CREATED, **made) == ["done"] * 5
    assert marks(State.DONE, answer_code="AA") == ["done", "done", "none", "none", "done"]
    assert marks(State.HELD, "cannot_scale") == ["done", "stop", "none", "none", "none"]
    assert marks(State.HELD, "contradicts_order") == ["done", "done", "stop", "none", "none"]
    assert marks(State.HELD, "upload_failed") == ["done", "done", "none", "stop", "none"]
    assert marks(State.RETRY, "unreachable") == ["done", "done", "none", "now", "none"]
    assert marks(State.IN_DOUBT, **made)[3] == "doubt"
    assert marks(State.REJECTED, "required_field_missing", answer_code="AE") == ["done", "stop", "none", "none", "done"]
    assert marks(State.REJECTED, "api_refused", **made)[3] == "stop"
    held = {"told_later": [{"state": "HELD"}], "answer_code": "AA"}
    assert marks(State.CREATED, **held)[4] == "stop"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("reason", ["", *HELD])
def test_there_is_a_form_or_a_word_why_there_is_none(state: State, reason: str) -> None:
    for told_no in (False, True):
        one = case(state, reason, told_no=told_no)
        offered = offers(one)
        forms = bool(offered.release or offered.replay or offered.discard)
        assert forms or offered.nothing or state is State.IN_DOUBT
        assert "--" not in offered.nothing
        if told_no:
            assert offered.release is None
            assert not offered.replay
            assert not offered.resend


@pytest.mark.parametrize("reason", [*HELD, "something_new"])
def test_every_cause_is_told_with_what_to_do(reason: str) -> None:
    cause = cause_of("HELD", reason)
    assert cause.why
    assert cause.to_do
    assert reason.replace("_", " ") in cause.title


@pytest.mark.parametrize(
    ("refused", "instead"),
    [
        ("no discard: it needs a reason: --reason TEXT", "no discard: it needs a reason"),
        ("it needs a reason: --resend --reason TEXT", "it needs a reason"),
        ("it needs a reason: --give-up --reason TEXT", "it needs a reason"),
        (
            "say which order it belongs to, --order ORDER, or --without-order",
            "say which order it belongs to, or without order",
        ),
        (
            "this order is no candidate; bridge messages show 7 lists those that are",
            "this order is no candidate; this page lists those that are",
        ),
        (
            "it has no anomaly 7; bridge messages show lists them",
            "it has no anomaly 7; this page lists them",
        ),
        (
            "where no task has it, say so: --resend --reason TEXT --confirm br1-a",
            "where no task has it, give the tag again: br1-a",
        ),
        ("there is no outbound:7; see bridge messages list --untold", "there is no outbound:7"),
        ("its order was cancelled: --give-up ends the doubt", "its order was cancelled: giving it up ends the doubt"),
    ],
)
def test_refusals_lose_the_words_of_the_command_line(refused: str, instead: str) -> None:
    assert for_page(refused) == instead


def test_used_fields_are_marked_where_they_came_from() -> None:
    raw = HEAD + b"PID|1||4711^^^A~0815^^^B||Muster^Max\rOBX|1|NM|a||1\rOBX|2|NM|b||2\r"
    traces = [
        {"field": "patient_id", "where": "PID-3[2].1"},
        {"field": "patient_last_name", "where": "PID-5"},
        {"field": "patient_height", "where": "OBX[2]-5"},
        {"field": "patient_gender", "where": "(patient record)"},
    ]
    shown = hl7_shown(raw, revealed=True, used=used_places(traces))
    marked = {p.text: p.used for line in shown.lines for p in line.pieces if p.used}
    assert marked == {
        "0815": ("patient_id",),
        "Muster": ("patient_last_name",),
        "Max": ("patient_last_name",),
        "2": ("patient_height",),
    }
    anchors = {p.anchor for p in shown.values()}
    assert {anchor_of(t["where"]) for t in traces[:3]} <= anchors
    assert "".join(p.before + p.text for p in shown.lines[1].pieces) == "|1||4711^^^A~0815^^^B||Muster^Max"
    names = {p.place: p.name for p in shown.values()}
    assert names["PID-3[2].1"] == "Patient identifier list: Id"
    assert names["OBX[2]-5"] == "Observation value"


def test_a_masked_message_shows_its_marks_and_no_value() -> None:
    raw = HEAD + b"PID|1||4711||Muster^Max\rZPD|Muster\rMuster\r"
    shown = hl7_shown(raw, revealed=False, used=used_places([{"field": "patient_id", "where": "PID-3"}]))
    text = "".join(p.text for line in shown.lines for p in line.pieces)
    assert "Muster" not in text
    assert "C1" in text
    assert [p.used for p in shown.values() if p.place == "PID-3.1"] == [("patient_id",)]


@pytest.mark.parametrize(
    "body",
    [b"~" * 1_000_000, b"^" * 1_000_000, b"x" * 1_000_000, b"|" * 400 + b"^~" * 300_000],
    ids=["~", "^", "x", "mix"],
)
def test_f28_a_hostile_field_is_shown_in_bounded_pieces(body: bytes) -> None:
    shown = hl7_shown(HEAD + b"PID|1||" + body + b"\rZPD|last\r", revealed=True)
    assert shown.more
    assert sum(len(line.pieces) for line in shown.lines) < 70_000
    assert sum(len(p.text) for line in shown.lines for p in line.pieces) < 70_000


def test_what_is_no_message_is_shown_as_text_where_it_may_be() -> None:
    raw = b"Muster\rM\xc3\xbcller\xff\r"
    assert [p.text for line in hl7_shown(raw, revealed=True).lines for p in line.pieces] == ["Muster", "Müller\ufffd"]
    assert plain_shown(raw, revealed=False).lines[0].pieces[0].text == "••••••"
    assert plain_shown(b"x" * 99_999, revealed=True).more


def test_the_header_of_an_object_marks_what_was_used_and_hides_the_rest() -> None:
    path = Path("sample_messages/03_ecg_for_order.dcm")
    traces = [{"field": "device_id", "where": "DeviceSerialNumber"}]
    shown = header_shown(path, traces, revealed=False)
    values = {row.place: row.value for row in shown.rows}
    assert values["AccessionNumber"] == "EKG260914002"
    assert values["PatientName"] == values["DeviceSerialNumber"] == "••••••"
    assert [row.place for row in shown.rows if row.used] == ["DeviceSerialNumber"]
    assert [(g.channels, g.samples, g.bits) for g in shown.groups] == [(12, 5000, 16), (12, 600, 16)]
    assert {r.place: r.value for r in header_shown(path, [], revealed=True).rows}["PatientID"] == "4711001"


def test_an_object_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"no DICOM")
    assert "no DICOM" in header_shown(broken, [], revealed=True).problem
    assert "cannot be read" in header_shown(tmp_path / "gone", [], revealed=True).problem
