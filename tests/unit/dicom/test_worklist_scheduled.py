"""An order as a scheduled step: what is told comes back as what the match compares (PS3.4 K.6.1.2.2)."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.dicom_settings import WorklistSettings
from bridge.domain.order import Standing
from bridge.domain.patient import Demographics, Identifier
from bridge.domain.plan import Code, Plan
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.receive.dicom.scheduled import Telling, known_of, study_uid
from bridge.store.book import BookedOrder
from bridge.store.patients import Record
from bridge.store.schema import millis
from bridge.store.worklist import Waiting

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MAX = Demographics("Muster", "Max", "MALE", "1970-01-31")
FIELDS = {
    "patient_id": "4711",
    "patient_last_name": "Muster",
    "patient_first_name": "Max",
    "patient_gender": "MALE",
    "patient_birth_date": "1970-01-31",
}
PLACER = OrderNumber("PL-1", NumberKind.PLACER, "HIS")


def telling(**settings: Any) -> Telling:
    return Telling(
        WorklistSettings.model_validate(settings), "CART1", ZoneInfo("Europe/Berlin"), NOW, b"a secret of the site", ""
    )


def waiting(
    *numbers: OrderNumber,
    plan: Plan | None = None,
    patient: Identifier | None = None,
    ordered_for: Identifier | None = None,
    record: Record | None = None,
    came: datetime = NOW,
    **fields: Any,
) -> Waiting:
    """An order of message 5 that waits."""
    said = ordered_for or Identifier("4711", "TEST")
    order = BookedOrder(
        id=1,
        message_id=5,
        position=1,
        digest="d",
        patient=said,
        mapped=Mapped({**FIELDS, **fields}, numbers=numbers or (PLACER,)),
        number=PLACER,
        standing=Standing.ACTIVE,
        changed_digest="",
        ordered=True,
        sent_at=None,
    )
    return Waiting(order, plan or Plan(), millis(came), "V1", patient or said, record)


def told(one: Waiting, **settings: Any) -> dict[str, Any]:
    known = known_of(one, telling(**settings))
    assert known is not None
    return known


def test_the_patient_module_as_the_match_compares_it() -> None:
    known = told(waiting(patient_height=180, patient_weight=84500))
    assert {k: known[k] for k in known if k.startswith(("Patient", "IssuerOfP"))} == {
        "PatientName": "Muster^Max",
        "PatientID": "4711",
        "IssuerOfPatientID": "TEST",
        "PatientBirthDate": "19700131",
        "PatientSex": "M",
        "PatientSize": "1.8",
        "PatientWeight": "84.5",
    }


@pytest.mark.parametrize(
    ("numbers", "accession", "procedure"),
    [
        ("placer=PL-1 filler=F-1 accession=ACC1 procedure=RP1", "ACC1", "RP1"),
        ("placer=PL-1 filler=F-1", "F-1", "F-1"),
        ("placer=PL-1", "PL-1", "PL-1"),
        ("placer=PL-1 accession=AN-ACCESSION-NUMBER-TOO-LONG", "PL-1", "PL-1"),
        ("placer=A-PLACER-NUMBER-TOO-LONG procedure=CBAAAAAAAAAAAAAA", "CBAAAAAAAAAAAAAA", "CBAAAAAAAAAAAAAA"),
        ("placer=A-PLACER-NUMBER-TOO-LONG", "", ""),
    ],
)
def test_the_accession_number_is_one_of_the_orders_numbers_whole_or_not_at_all(
    numbers: str, accession: str, procedure: str
) -> None:
    pairs = (text.split("=") for text in numbers.split())
    known = told(waiting(*(OrderNumber(value, NumberKind(kind)) for kind, value in pairs)))
    assert (known["AccessionNumber"], known["RequestedProcedureID"]) == (accession, procedure)


def test_a_site_may_say_which_number_is_the_accession_number() -> None:
    numbers = (PLACER, OrderNumber("F-1", NumberKind.FILLER))
    assert told(waiting(*numbers), accession_number=["placer"])["AccessionNumber"] == "PL-1"
    assert told(waiting(*numbers), accession_number=["accession"])["AccessionNumber"] == ""


def test_who_issued_a_number_is_told_beside_it() -> None:
    known = told(waiting(PLACER, OrderNumber("ACC1", NumberKind.ACCESSION, "1.2.276.0")))
    assert known["OrderPlacerIdentifierSequence"] == [{"LocalNamespaceEntityID": "HIS"}]
    assert known["IssuerOfAccessionNumberSequence"] == [
        {"UniversalEntityID": "1.2.276.0", "UniversalEntityIDType": "ISO"}
    ]


@pytest.mark.parametrize(
    ("message_id", "name"), [(4, "Muster^Max^Karl^Dr."), (6, "Neumann^Max")], ids=["before", "after"]
)
def test_the_patient_record_counts_where_it_is_newer_than_the_order(message_id: int, name: str) -> None:
    record = Record(Demographics("Neumann", "Max", "MALE", ""), {"location": "W9"}, message_id)
    plan = Plan(name="Muster^Max^Karl^Dr.", location="W3 12")
    known = told(waiting(record=record, plan=plan, patient_first_name="Max Karl"))
    assert known["PatientName"] == name
    assert known["PatientBirthDate"] == "19700131"
    assert known["CurrentPatientLocation"] == ("W3 12" if message_id < 5 else "W9")


def test_a_newer_record_of_the_same_name_leaves_the_name_as_it_was_ordered() -> None:
    known = told(waiting(record=Record(replace(MAX, last_name="MUSTER"), {}, 6), plan=Plan(name="Muster^Max^^Dr.")))
    assert known["PatientName"] == "Muster^Max^^Dr."


@pytest.mark.parametrize(
    ("planned", "name"),
    [
        ("Muster^Max^^Dr.", "Muster^Max^^Dr."),
        ("=武者^丸", "Muster^Max"),  # kept from before a change that is no plan's any more
        ("Anders^Anna", "Muster^Max"),
        ("", "Muster^Max"),
    ],
)
def test_a_planned_name_that_is_not_the_orders_own_is_never_told(planned: str, name: str) -> None:
    assert told(waiting(plan=Plan(name=planned)))["PatientName"] == name


def test_an_order_of_a_site_that_maps_no_names_is_told_with_its_own() -> None:
    nameless = waiting(plan=Plan(name="Muster^Max"), patient_last_name="", patient_first_name="")
    assert told(nameless)["PatientName"] == "Muster^Max"


def test_f34_an_identifier_that_a_merge_retired_is_told_as_the_one_that_stands() -> None:
    one = waiting(patient=Identifier("0815", "TEST"), record=Record(MAX, {}, 6))
    assert told(one)["PatientID"] == "0815"


def test_f34_an_order_whose_retired_identifier_may_be_somebody_elses_is_not_told() -> None:
    other = Record(replace(MAX, last_name="Anders"), {}, 6)
    assert known_of(waiting(record=other), telling()) is not None
    assert known_of(waiting(patient=Identifier("0815", "TEST"), record=other), telling()) is None


@pytest.mark.parametrize("message_id", [4, 6], ids=["before", "after"])
def test_an_order_whose_identifier_means_two_people_is_not_told(message_id: int) -> None:
    other = Record(Demographics("Anders", "Anna", "FEMALE", "1981-02-02"), {}, message_id)
    assert known_of(waiting(record=other), telling()) is None


@pytest.mark.parametrize("value", ["4" * 65, "47\\11", "47\t11", ""])
def test_an_order_whose_patient_identifier_cannot_be_told_as_it_is_is_not_told(value: str) -> None:
    assert known_of(waiting(ordered_for=Identifier(value)), telling()) is None


def test_an_order_whose_patients_authority_cannot_be_told_is_not_told() -> None:
    assert known_of(waiting(ordered_for=Identifier("4711")), telling()) is not None
    assert known_of(waiting(ordered_for=Identifier("4711", "NORTH\\SOUTH")), telling()) is None


def test_an_order_whose_patients_name_cannot_be_told_whole_is_not_told() -> None:
    assert known_of(waiting(patient_last_name="M" * 60), telling()) is not None
    assert known_of(waiting(patient_last_name="M" * 70), telling()) is None


def test_ps3_5_b_2_the_study_is_the_same_at_every_query_and_no_other_sites() -> None:
    first = told(waiting())["StudyInstanceUID"]
    assert first == told(waiting(OrderNumber("ACC1", NumberKind.ACCESSION)))["StudyInstanceUID"]
    assert re.fullmatch(r"2\.25\.[1-9]\d{20,38}", first)
    assert first != study_uid(PLACER, b"another site's secret")
    assert first != study_uid(replace(PLACER, authority="LAB"), telling().site_key)
    assert told(waiting(plan=Plan(study_uid="1.2.276.0.1")))["StudyInstanceUID"] == "1.2.276.0.1"


def test_the_step_says_when_and_where_in_the_sites_zone() -> None:
    planned = Plan(scheduled_at=datetime(2026, 7, 1, 6, 30, tzinfo=UTC), description="Resting ECG", step_id="SPS1")
    (step,) = told(waiting(plan=planned))["ScheduledProcedureStepSequence"]
    assert step["ScheduledProcedureStepStartDate"] == "20260701"
    assert step["ScheduledProcedureStepStartTime"] == "083000"
    assert (step["Modality"], step["ScheduledProcedureStepDescription"]) == ("ECG", "Resting ECG")
    assert (step["ScheduledProcedureStepID"], step["ScheduledStationAETitle"]) == ("SPS1", "CART1")


@pytest.mark.parametrize(
    ("unplanned", "start"), [("arrival", ("20260228", "233000")), ("today", ("20260301", "000000"))]
)
def test_an_order_without_a_time_starts_when_it_came_or_today(unplanned: str, start: tuple[str, str]) -> None:
    one = waiting(came=datetime(2026, 2, 28, 22, 30, tzinfo=UTC))
    (step,) = told(one, unplanned=unplanned)["ScheduledProcedureStepSequence"]
    assert (step["ScheduledProcedureStepStartDate"], step["ScheduledProcedureStepStartTime"]) == start


@pytest.mark.parametrize(
    ("planned", "named"), [("CART7", "CART7"), ("A STATION NAME TOO LONG", "CART1"), ("", "CART1")]
)
def test_the_station_is_the_orders_else_the_one_that_asks(planned: str, named: str) -> None:
    (step,) = told(waiting(plan=Plan(station=planned)))["ScheduledProcedureStepSequence"]
    assert step["ScheduledStationAETitle"] == named


def test_what_people_read_is_made_to_fit_and_codes_that_do_not_are_left_out() -> None:
    plan = Plan(
        description="A\\B\n" + "x" * 80,
        codes=(Code("C" * 17, "long", "L"), Code("9\\3", "cut", "L"), Code("93000", "ECG", "CPT")),
    )
    known = told(waiting(plan=plan, indications=["Chest pain", "y" * 60, "Dyspnoea"]))
    assert known["RequestedProcedureDescription"] == "A/B " + "x" * 60
    assert [c["CodeValue"] for c in known["RequestedProcedureCodeSequence"]] == ["93000"]
    assert known["ReasonForTheRequestedProcedure"] == "Chest pain; Dyspnoea"
