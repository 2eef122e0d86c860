"""The sheet of the rules says of each field who says it, and notices a file that says something else by now."""

from pathlib import Path

from bridge.mapping.in_force import rules_in_force
from bridge.mapping.rules import Fields, Numbers, Part, Patient
from bridge.mapping.sheet import DEFAULT, Line, Sheet, sheets
from bridge.settings import Settings

RULES = """[fields.investigation_id]
hl7 = ["OBR-19.1", "ORC-2.1"]
[fields.device_id]
constant = "ECG-ROOM-1"
[fields.patient_age]
omit = true
[tables.gender]
x = "UNDIFFERENTIATED"
[senders."HIS|NORTH"]
time_zone = "Europe/London"
fields.device_id.hl7 = ["OBX-18"]
[ae_titles.CART1]
height_unit = "cm"
"""


def told(tmp_path: Path, text: str = RULES) -> tuple[Settings, list[Sheet]]:
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    settings = Settings.model_validate({"mapping": {"file": str(file)}})
    return settings, sheets(settings, rules_in_force(settings))


def line(sheet: Sheet, name: str) -> Line:
    (found,) = (one for one in sheet.fields if one.name == name)
    return found


def test_each_source_is_the_default_or_a_line_of_the_file(tmp_path: Path) -> None:
    _, (sheet,) = told(tmp_path)
    number = line(sheet, "fields.investigation_id")
    assert (number.hl7.value, number.hl7.origin) == (("OBR-19.1", "ORC-2.1"), f"{sheet.file}:2")
    assert number.dicom.origin == DEFAULT
    device = line(sheet, "fields.device_id")
    assert (device.rule.value, device.rule.origin) == ("always ECG-ROOM-1", f"{sheet.file}:4")
    assert line(sheet, "fields.patient_age").rule.value == "left out"
    assert dict(sheet.more)["tables.gender.X"].origin == f"{sheet.file}:8"
    assert dict(sheet.more)["tables.gender.M"].origin == DEFAULT


def test_a_peer_has_its_own_lines_and_the_site_s_under_them(tmp_path: Path) -> None:
    _, (sheet,) = told(tmp_path)
    north, cart = sheet.peers
    assert (north.peer, cart.peer) == ("HIS|NORTH", "CART1")
    device = line(north, "fields.device_id")
    assert (device.hl7.value, device.hl7.origin, device.hl7.own) == (("OBX-18",), f"{sheet.file}:11", True)
    assert device.rule.value == "first of the chain"  # sources of a peer lift the site's constant
    number = line(north, "fields.investigation_id")
    assert (number.hl7.origin, number.hl7.own) == (f"{sheet.file}:2", False)
    assert dict(cart.more)["height_unit"].own


def test_every_rule_that_there_is_stands_on_the_sheet() -> None:
    settings = Settings()
    (sheet,) = sheets(settings, rules_in_force(settings))
    assert {one.name for one in sheet.fields} == {
        *(f"fields.{name}" for name in Fields.model_fields),
        *(f"numbers.{name}" for name in Numbers.model_fields),
        "destination",
    }
    more = {name for name, _ in sheet.more}
    assert {f"patient.{name}" for name in Patient.model_fields} <= more
    tables = {"fields", "numbers", "patient", "tables", "destination"}
    assert set(Part.model_fields) - tables == {name for name in more if "." not in name}


def test_a_file_that_was_changed_since_the_start_is_named_without_a_line(tmp_path: Path) -> None:
    settings, _ = told(tmp_path)
    rules = rules_in_force(settings)
    Path(settings.mapping.file).write_text('[fields.device_id]\nconstant = "ANOTHER"\n')
    (sheet,) = sheets(settings, rules)
    assert sheet.changed
    assert line(sheet, "fields.investigation_id").hl7.origin == sheet.file
    assert line(sheet, "fields.investigation_id").dicom.origin == DEFAULT
    assert line(sheet, "fields.device_id").rule.value == "always ECG-ROOM-1"  # as in force
    Path(settings.mapping.file).unlink()
    assert sheets(settings, rules)[0].changed


def test_a_listener_with_rules_of_its_own_has_a_sheet_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "lab.toml"
    own.write_text('[fields.device_id]\nconstant = "LAB"\n')
    listeners = [
        {"name": "lab", "listen": "127.0.0.1:0", "mapping": str(own)},
        {"name": "ward", "listen": "127.0.0.1:0"},
    ]
    settings = Settings.model_validate({"hl7": {"listeners": listeners}})
    site, lab = sheets(settings, rules_in_force(settings))
    assert (site.listeners, lab.listeners) == (("hl7", "dicom", "hl7.ward"), ("hl7.lab",))
    assert line(lab, "fields.device_id").rule.origin == f"{own}:2"
