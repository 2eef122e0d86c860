"""Every key of a configuration knows who said it: which line, which variable."""

import tomllib
from pathlib import Path

import pytest

from bridge.errors import SettingsError
from bridge.setting_origins import Origin, lines_of, places
from bridge.settings import Settings, load, origins

DOCUMENT = """# the site
[site]
time_zone = "Europe/Berlin"  # there
[hl7]
codes.unknown_code = "AE"
order_filter = [
  "93000",
  # a comment
  "93005",
]
[[hl7.listeners]]
name = "lab"
listen = "127.0.0.1:0"
[hl7.listeners.codes]
not_kept = "AE"
[[hl7.listeners]]
name = "ward"
listen = "127.0.0.1:0"
[hl7.senders."HIS|[NORTH]"]
reply_late = "hold"
"""


def test_a_key_is_found_in_its_line_through_lists_dots_quotes_and_comments() -> None:
    found = lines_of(DOCUMENT)
    assert found["site", "time_zone"] == 3
    assert found["hl7", "codes", "unknown_code"] == 5
    assert found["hl7", "order_filter"] == 6
    assert found["hl7", "listeners", 0, "codes", "not_kept"] == 15
    assert found["hl7", "listeners", 1, "name"] == 17
    assert found["hl7", "senders", "HIS|[NORTH]", "reply_late"] == 20


@pytest.mark.parametrize(
    "text",
    [
        DOCUMENT,
        DOCUMENT.replace("\n", "\r\n"),
        'text = """\n[no.table]\nk = 1\n"""\nbehind = 1\n',
        "a = [\n[1,\n2], [\n{b = 1}]\n]\n[c.d]\n'e f'.g = 1\n[c]\nh = 2",
        "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[a.b.c]\ny = 3\n[[a]]\n[[a.b]]\nx = 4\n",
    ],
)
def test_no_key_of_a_document_is_without_a_line_and_none_is_made_up(text: str) -> None:
    assert set(lines_of(text)) == set(places(tomllib.loads(text)))


def test_the_environment_takes_the_place_of_the_file_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(DOCUMENT)
    settings = load(file, {"BRIDGE_HL7__CODES": '{bad_value = "AE"}', "BRIDGE_SITE__TIME_ZONE": "Europe/Rome"})
    said = origins(settings)
    assert said["site", "time_zone"] == Origin("environment", "BRIDGE_SITE__TIME_ZONE")
    assert said["hl7", "codes", "bad_value"] == Origin("environment", "BRIDGE_HL7__CODES")
    assert ("hl7", "codes", "unknown_code") not in said
    assert said["hl7", "listeners", 1, "listen"] == Origin("file", f"{file}:18")
    assert origins(Settings()) == {}


def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text("[site]\ntime_zone = \n")
    with pytest.raises(SettingsError, match="line 2"):
        load(file, {})
