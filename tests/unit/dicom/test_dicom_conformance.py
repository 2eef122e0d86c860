"""`deploy/dicom-conformance.md` says what the code does: its tables are made anew and compared."""

from bridge.dicom_settings import CommitmentSettings, DicomSettings, WorklistSettings
from bridge.mapping import defaults
from bridge.receive.dicom import negotiation, pdus
from bridge.receive.dicom.intake import Status
from tests.interface import conformance
from tests.interface.page import COMMAND, filled, names_in

TEXT = conformance.PAGE.read_text(encoding="utf-8")


def test_ps3_2_the_page_is_what_the_code_makes_of_it() -> None:
    parts = {name: made() for name, made in conformance.PARTS.items()}
    assert sorted(names_in(TEXT)) == sorted(parts), "a part that the page has no place for, or has twice"
    assert filled(TEXT, parts) == TEXT, f"the code says otherwise; {COMMAND} writes the page anew"


def test_the_words_of_the_tables_are_for_what_there_is_and_for_nothing_else() -> None:
    rejections = {name for name, value in vars(negotiation).items() if isinstance(value, negotiation.Rejection)}
    assert conformance.REJECTIONS.keys() == rejections
    assert conformance.ABORTS.keys() == {reason.name for reason in pdus.AbortReason}
    assert conformance.STATUSES.keys() == {status.name for status in Status}
    assert conformance.SETTINGS.keys() == DicomSettings.model_fields.keys()
    assert conformance.WORKLIST_SETTINGS.keys() == WorklistSettings.model_fields.keys()
    assert conformance.COMMITMENT_SETTINGS.keys() == CommitmentSettings.model_fields.keys()
    assert conformance.WHEN.keys() == conformance.everything().keys()


def test_every_default_chain_of_a_dicom_attribute_is_on_the_page() -> None:
    chains = [v["dicom"] for v in vars(defaults).values() if isinstance(v, dict) and "dicom" in v and v["dicom"]]
    told = [sources["dicom"] for sources in conformance.FIELDS.values()]
    assert [chain for chain in chains if chain not in told] == []
