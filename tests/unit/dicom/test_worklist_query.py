"""Identifiers of a worklist query and of its answers (PS3.4 K.4.1, K.6.1.2)."""

from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from bridge.errors import BadInput
from bridge.formats.dicom.worklist import read_query

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
KNOWN: dict[str, Any] = {
    "PatientName": "Müller^Jürgen",
    "PatientID": "4711",
    "PatientBirthDate": "19700131",
    "PatientSex": "M",
    "AccessionNumber": "ACC1",
    "StudyInstanceUID": "2.25.1",
    "PatientSize": "1.8",
    "RequestedProcedureCodeSequence": [
        {"CodeValue": "93000", "CodingSchemeDesignator": "CPT", "CodeMeaning": "12-lead ECG"},
        {"CodeValue": "EKG", "CodingSchemeDesignator": "99HIS", "CodeMeaning": "EKG"},
    ],
    "ScheduledProcedureStepSequence": [
        {
            "Modality": "ECG",
            "ScheduledStationAETitle": "CART1",
            "ScheduledProcedureStepStartDate": "20260302",
            "ScheduledProcedureStepStartTime": "080000",
        }
    ],
}


def identifier(step: dict[str, str] | None = None, *, syntax: str = EXPLICIT, **keys: Any) -> bytes:
    """A query as a cart encodes it."""
    made = _data_set(keys)
    if step is not None:
        made.ScheduledProcedureStepSequence = Items([_data_set(step)])
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(file, made)
    return bytes(file.getvalue())


def _data_set(keys: dict[str, Any]) -> Dataset:
    made = Dataset()
    for keyword, value in keys.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        made.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))  # keys are no values
    return made


def decoded(answer: bytes, syntax: str = EXPLICIT) -> Dataset:
    """An answer read by pydicom."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = True, True
    meta = Dataset()
    meta.TransferSyntaxUID = syntax
    head = DicomBytesIO()
    head.is_implicit_VR, head.is_little_endian = False, True
    write_dataset(head, meta)
    return dcmread(BytesIO(bytes(128) + b"DICM" + head.getvalue() + answer), force=True)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_ps3_4_k_2_2_1_2_only_the_keys_asked_for_and_the_character_set_come_back(syntax: str) -> None:
    step = {"Modality": "ECG", "ScheduledProcedureStepStartTime": ""}
    query = read_query(identifier(step, syntax=syntax, PatientName="", PatientID="4711", PatientWeight=None), syntax)
    assert (query.status, query.matches(KNOWN)) == (0xFF00, True)
    answer = decoded(query.answer(KNOWN), syntax)
    assert [e.keyword for e in answer] == [
        "SpecificCharacterSet", "PatientName", "PatientID", "PatientWeight", "ScheduledProcedureStepSequence",
    ]  # fmt: skip
    assert (answer.PatientName, answer.PatientWeight) == ("Müller^Jürgen", None)
    (item,) = answer.ScheduledProcedureStepSequence
    assert [(e.keyword, e.value) for e in item] == [
        ("Modality", "ECG"),
        ("ScheduledProcedureStepStartTime", "080000"),
    ]


@pytest.mark.parametrize("items", [[], [Dataset()]])
def test_ps3_4_k_2_2_1_2_a_sequence_without_keys_comes_back_whole(items: list[Dataset]) -> None:
    query = read_query(
        identifier(ScheduledProcedureStepSequence=Items(items), RequestedProcedureCodeSequence=Items([])), EXPLICIT
    )
    assert query.matches(KNOWN)
    answer = decoded(query.answer(KNOWN))
    assert len(answer.ScheduledProcedureStepSequence[0]) == 4
    assert [c.CodeValue for c in answer.RequestedProcedureCodeSequence] == ["93000", "EKG"]


def test_ps3_4_k_6_1_2_2_a_type_2_key_that_is_never_known_comes_back_empty_and_is_not_matched() -> None:
    query = read_query(identifier(PatientID="", Allergies="Peanut", PregnancyStatus=4), EXPLICIT)
    assert (query.status, query.matches(KNOWN)) == (0xFF00, True)
    answer = decoded(query.answer(KNOWN))
    assert (answer.Allergies, answer.PregnancyStatus) == ("", None)


def test_ps3_4_k_4_1_1_4_an_optional_key_that_is_not_supported_is_ff01_and_left_out() -> None:
    query = read_query(identifier({"Modality": ""}, PatientID="", PatientAddress="", EthnicGroup="x"), EXPLICIT)
    assert (query.status, query.matches(KNOWN)) == (0xFF01, True)
    assert "PatientAddress" not in decoded(query.answer(KNOWN))


@pytest.mark.parametrize(
    ("step", "keys", "matches"),
    [
        ({"Modality": "HD"}, {}, False),
        ({"Modality": ["HD", "ECG"]}, {}, True),
        ({"ScheduledStationAETitle": "CART2"}, {}, False),
        ({"ScheduledPerformingPhysicianName": "Arzt*"}, {}, False),  # not known, and required
        ({"ScheduledProcedureStepStartDate": "20260302"}, {}, True),
        ({"ScheduledProcedureStepStartDate": "20260303-"}, {}, False),
        ({"Modality": "ECG"}, {"PatientName": "Anders*"}, False),
        (None, {"PatientName": "muller*"}, True),
        (None, {"PatientBirthDate": "19700101-19701231"}, True),
        (None, {"StudyInstanceUID": ["2.25.7", "2.25.1"]}, True),  # PS3.4 C.2.2.2.2
        (None, {"StudyInstanceUID": "2.25.7"}, False),
        (None, {"PatientWeight": "999"}, True),  # a number is returned, not matched
    ],
)
def test_ps3_4_c_2_2_2_6_every_key_of_the_item_must_match(
    step: dict[str, Any] | None, keys: dict[str, Any], *, matches: bool
) -> None:
    query = read_query(identifier(step, PatientID="", **keys), EXPLICIT)
    assert query.matches(KNOWN) is matches


@pytest.mark.parametrize(("value", "matches"), [("EKG", True), ("93005", False)])
def test_ps3_4_c_2_2_2_6_some_item_of_a_sequence_must_match(value: str, *, matches: bool) -> None:
    code = Dataset()
    code.CodeValue = value
    query = read_query(identifier(RequestedProcedureCodeSequence=Items([code])), EXPLICIT)
    assert query.matches(KNOWN) is matches


@pytest.mark.parametrize(
    ("day", "clock", "matches"),
    [
        ("20260301-20260303", "1000-1800", True),  # 08:00 on the second day is within
        ("20260302-20260303", "1000-1800", False),
        ("20260228-20260302", "0600-0700", False),
        ("20260301-", "1000-", True),
        ("-20260302", "-0700", False),
        ("20260302", "1000-1800", False),  # one day: the time of that day
        ("20260302", "0700-0900", True),
        ("20260301-20260303", "08", True),
    ],
)
def test_ps3_4_k_6_1_2_2_two_ranges_are_one_period(day: str, clock: str, *, matches: bool) -> None:
    step = {"ScheduledProcedureStepStartDate": day, "ScheduledProcedureStepStartTime": clock}
    assert read_query(identifier(step), EXPLICIT).matches(KNOWN) is matches


def test_what_must_be_exact_is_told_to_who_looks_for_it() -> None:
    query = read_query(
        identifier({"ScheduledStationAETitle": "CART2"}, PatientID="4711", AccessionNumber="ACC*"), EXPLICIT
    )
    assert query.exact("PatientID") == "4711"
    assert query.exact("AccessionNumber") == query.exact("RequestedProcedureID") == ""
    assert query.asked_step("ScheduledStationAETitle") == ("CART2",)


@pytest.mark.parametrize(
    ("asked", "name", "told"),
    [
        ("ISO_IR 100", "Müller^Jürgen", "ISO_IR 100"),
        ("ISO-IR 100", "Müller^Jürgen", "ISO_IR 100"),
        ("ISO_IR 144", "Иванов^Иван", "ISO_IR 144"),
        ("ISO_IR 126", "Παπαδόπουλος^Γιώργος", "ISO_IR 126"),
        ("ISO_IR 101", "Żółć^Łucja", "ISO_IR 101"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        (["ISO_IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", ["ISO_IR 13", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        ("ISO_IR 192", "Müller^Jürgen", "ISO_IR 192"),
        ("ISO_IR 100", "Иванов^Иван", "ISO_IR 192"),
        ("ISO_IR 13", "山田^太郎", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Müller^Jürgen", "ISO_IR 192"),
        ("ISO_IR 100", "Muster^Max", "ISO_IR 100"),
        ("KLINGON", "Müller^Jürgen", "ISO_IR 192"),
    ],
)
def test_ps3_5_6_1_the_character_set_asked_for_where_it_holds_the_text(
    asked: str | list[str], name: str, told: str | list[str]
) -> None:
    value = asked if isinstance(asked, str) else "\\".join(asked)
    raw = b"\x08\x00\x05\x00CS" + (len(value) + len(value) % 2).to_bytes(2, "little")
    query = read_query(raw + value.encode().ljust(len(value) + len(value) % 2) + identifier(PatientName=""), EXPLICIT)
    answer = decoded(query.answer({"PatientName": name}))
    assert answer.SpecificCharacterSet == told
    assert answer.PatientName == name


@pytest.mark.parametrize(("name", "told"), [("Muster^Max", None), ("Müller^Jürgen", "ISO_IR 192")])
def test_ps3_5_6_1_none_asked_for_is_the_default_repertoire_where_it_holds_the_text(name: str, told: str) -> None:
    answer = decoded(read_query(identifier(PatientName=""), EXPLICIT).answer({"PatientName": name}))
    assert answer.get("SpecificCharacterSet") == told
    assert answer.PatientName == name


def test_a_key_is_read_in_the_character_set_that_it_came_in() -> None:
    query = read_query(identifier(SpecificCharacterSet="ISO_IR 144", PatientName="Иванов*"), EXPLICIT)
    assert query.matches({"PatientName": "Иванов^Иван"})
    assert not query.matches({"PatientName": "Петров^Иван"})


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", 0xA900),
        (identifier(PatientAddress=""), 0xA900),
        (identifier(ScheduledProcedureStepSequence=Items([Dataset(), Dataset()])), 0xA900),
        (identifier(PatientID="")[:-1] + b"\x09", 0xC000),
        (b"GET / HTTP/1.1\r\n\r\n", 0xC000),
        (identifier({"ScheduledProcedureStepStartDate": "20260301"}).replace(b"20260301", b"tomorrow"), 0xC000),
        (identifier(PatientID="4" * 2000), 0xC000),
        (b"\x40\x00\x00\x01SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100, 0xC000),
    ],
    ids=["empty", "no key of ours", "two items", "cut short", "another protocol", "no date", "too long", "nested"],
)
def test_ps3_4_k_4_1_1_4_what_is_no_query_has_its_status(raw: bytes, code: int) -> None:
    with pytest.raises(BadInput) as problem:
        read_query(raw, EXPLICIT)
    assert problem.value.code == code


def test_a_transfer_syntax_that_is_not_read_is_c000() -> None:
    with pytest.raises(BadInput) as problem:
        read_query(identifier(PatientID=""), "1.2.840.10008.1.2.1.99")
    assert problem.value.code == 0xC000
