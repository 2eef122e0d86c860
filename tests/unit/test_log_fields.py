"""What a log line is given gets out: the list of allowed fields drops a patient's values, and nothing by oversight."""

import ast
from pathlib import Path

import bridge
from bridge.logs import FIELDS

LEVELS = {"debug", "info", "warning", "error", "critical"}


def given(path: Path) -> list[tuple[str, int, str]]:
    """Place and name of each field that a file gives to a log line by name."""
    return [
        (path.name, call.lineno, word.arg)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "log"
        for word in call.keywords
        if word.arg is not None
    ]


def test_every_field_that_is_given_is_allowed() -> None:
    found = [one for path in sorted(Path(bridge.__file__).parent.rglob("*.py")) for one in given(path)]
    assert len(found) > 100
    assert [one for one in found if one[2] not in FIELDS] == []
