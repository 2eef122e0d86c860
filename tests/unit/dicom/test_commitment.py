"""Storage commitment as it is written, against pydicom as the other side (PS3.4 J.3)."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from bridge.errors import BadInput, SettingsError
from bridge.formats.dicom.commitment import (
    Failure,
    Reference,
    Told,
    event_information,
    event_type,
    read_request,
)
from bridge.formats.dicom.file_meta import file_head
from bridge.formats.dicom.part10 import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from bridge.settings import load

RESTING = "1.2.840.10008.5.1.4.1.1.9.1.1"
SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
TRANSACTION = "2.25.4711"


def put(data_set: Dataset, tag: int, value: object, vr: str = "UI") -> None:
    data_set.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def encoded(data_set: Dataset, syntax: str) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = syntax == IMPLICIT_VR_LITTLE_ENDIAN, True
    write_dataset(file, data_set)
    return file.getvalue()


def request(*instances: tuple[object, object], transaction: object = TRANSACTION, open_ended: bool = False) -> Dataset:
    """Action Information of a request; a None leaves its element out."""
    asked = Dataset()
    if transaction is not None:
        put(asked, 0x00081195, transaction)
    items = []
    for sop_class, sop_instance in instances:
        item = Dataset()
        for tag, value in ((0x00081150, sop_class), (0x00081155, sop_instance)):
            if value is not None:
                put(item, tag, value)
        item.is_undefined_length_sequence_item = open_ended
        items.append(item)
    put(asked, 0x00081199, Sequence(items), "SQ")
    asked[0x00081199].is_undefined_length = open_ended
    return asked


def read_back(information: bytes, syntax: str) -> Dataset:
    """By pydicom, which is not the reader under test."""
    return dcmread(BytesIO(file_head("1.2", "1.2.3", syntax) + information))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("open_ended", [False, True])
def test_ps3_4_table_j_3_1_a_request_is_read_in_every_way_of_writing_it(syntax: str, *, open_ended: bool) -> None:
    asked = request((RESTING, "2.25.1"), (RESTING, "2.25.2"), open_ended=open_ended)
    put(asked, 0x00880130, "TAPE 1", "SH")  # a file-set: no medium is involved here
    found = read_request(encoded(asked, syntax), syntax, 10)
    assert found.transaction_uid == TRANSACTION
    assert found.references == (Reference(RESTING, "2.25.1"), Reference(RESTING, "2.25.2"))


def test_an_instance_that_is_named_twice_is_asked_for_once() -> None:
    asked = request((RESTING, "2.25.2"), (RESTING, "2.25.1"), (RESTING, "2.25.2"))
    found = read_request(encoded(asked, SYNTAXES[0]), SYNTAXES[0], 10)
    assert [r.sop_instance_uid for r in found.references] == ["2.25.2", "2.25.1"]


def test_a_uid_that_the_standard_does_not_have_is_taken_as_it_stands() -> None:
    asked = request((RESTING, "1.2.840.091000..1"))  # seen in a published object
    assert read_request(encoded(asked, SYNTAXES[0]), SYNTAXES[0], 10).references[0].sop_instance_uid.endswith("..1")


@pytest.mark.parametrize(
    ("asked", "code", "where"),
    [
        (request(), 0x0115, "ReferencedSOPSequence"),
        (Dataset(), 0x0115, "ReferencedSOPSequence"),
        (request((RESTING, "2.25.1"), transaction=None), 0x0115, "TransactionUID"),
        (request((RESTING, "2.25.1"), transaction=["2.25.1", "2.25.2"]), 0x0115, "TransactionUID"),
        (request((RESTING, "Muster^Max")), 0x0115, "ReferencedSOPInstanceUID"),
        (request((RESTING, "1" * 65)), 0x0115, "ReferencedSOPInstanceUID"),
        (request((None, "2.25.1")), 0x0115, "ReferencedSOPClassUID"),
        (request(*[(RESTING, f"2.25.{n}") for n in range(4)]), 0x0213, "ReferencedSOPSequence"),
    ],
)
def test_ps3_7_10_1_4_1_10_what_is_wrong_with_a_request_is_said(asked: Dataset, code: int, where: str) -> None:
    with pytest.raises(BadInput) as told:
        read_request(encoded(asked, SYNTAXES[0]), SYNTAXES[0], 3)
    assert (told.value.code, told.value.where) == (code, where)
    assert "Muster" not in str(told.value)


def test_as_many_instances_as_are_allowed_are_taken() -> None:
    asked = request(*[(RESTING, f"2.25.{n}") for n in range(3)])
    assert len(read_request(encoded(asked, SYNTAXES[0]), SYNTAXES[0], 3).references) == 3


def test_the_highest_limit_of_the_settings_can_be_read() -> None:
    """The walker is bounded itself: the settings' bound lies below it."""
    asked = request(*[(RESTING, f"2.25.{n}") for n in range(6000)])
    assert len(read_request(encoded(asked, SYNTAXES[1]), SYNTAXES[1], 6000).references) == 6000


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_f5_a_request_that_is_cut_anywhere_is_refused(syntax: str) -> None:
    whole = encoded(request((RESTING, "2.25.1"), (RESTING, "2.25.2")), syntax)
    for length in range(len(whole)):
        with pytest.raises(BadInput) as told:
            read_request(whole[:length], syntax, 10)
        assert told.value.code == 0x0115


@given(st.binary(max_size=300))
def test_f28_whatever_comes_ends_in_one_kind_of_error(information: bytes) -> None:
    for syntax in SYNTAXES:
        with pytest.raises(BadInput):
            read_request(information, syntax, 10)


def test_f28_nested_sequences_are_refused() -> None:
    nested = b"\x08\x00\x99\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 300
    with pytest.raises(BadInput, match="deeper than 16"):
        read_request(nested, EXPLICIT_VR_LITTLE_ENDIAN, 10)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_ps3_4_table_j_3_2_every_instance_is_told_in_one_of_two_sequences(syntax: str) -> None:
    told = (
        Told(Reference(RESTING, "2.25.1"), None),
        Told(Reference(RESTING, "2.25.2"), Failure.NO_SUCH_INSTANCE),
        Told(Reference("1.2.3", "2.25.3"), Failure.CLASS_NOT_SUPPORTED),
        Told(Reference(RESTING, "2.25.4"), None),
    )
    assert event_type(told) == 2
    event = read_back(event_information(TRANSACTION, told, syntax), syntax)
    assert event.TransactionUID == TRANSACTION
    assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in event.ReferencedSOPSequence] == [
        (RESTING, "2.25.1"),
        (RESTING, "2.25.4"),
    ]
    assert [(i.ReferencedSOPInstanceUID, i.FailureReason) for i in event.FailedSOPSequence] == [
        ("2.25.2", 0x0112),
        ("2.25.3", 0x0122),
    ]


def test_a_uid_that_the_standard_does_not_have_goes_back_as_it_came() -> None:
    """Under warnings as errors: pydicom would warn of it on the way out."""
    told = (Told(Reference(RESTING, "1.2.840.091000..1"), None),)
    assert b"1.2.840.091000..1" in event_information(TRANSACTION, told, SYNTAXES[0])


def test_ps3_4_j_3_3_1_2_a_sequence_without_items_is_left_out() -> None:
    one = Reference(RESTING, "2.25.1")
    good = (Told(one, None),)
    bad = (Told(one, Failure.PROCESSING),)
    assert (event_type(good), event_type(bad)) == (1, 2)
    assert "FailedSOPSequence" not in read_back(event_information(TRANSACTION, good, SYNTAXES[0]), SYNTAXES[0])
    assert "ReferencedSOPSequence" not in read_back(event_information(TRANSACTION, bad, SYNTAXES[0]), SYNTAXES[0])


def settings(tmp_path, text: str):
    config_file = tmp_path / "bridge.toml"
    config_file.write_text(text)
    return load(config_file, {}).dicom


def test_storage_commitment_is_off_unless_it_is_asked_for(tmp_path) -> None:
    assert not settings(tmp_path, "").commitment.enabled


def test_a_peer_that_may_ask_has_an_address_of_its_own(tmp_path) -> None:
    given = settings(
        tmp_path, '[dicom.commitment]\nenabled = true\n[dicom.peers."CART 1"]\naddress = "127.0.0.1:11113"\n'
    )
    assert given.peers["CART 1"].address == "127.0.0.1:11113"
    with pytest.raises(SettingsError, match="name the address of each peer"):
        settings(tmp_path, "[dicom.commitment]\nenabled = true\n")


def test_a_peer_on_the_network_is_not_told_in_plain_text_by_accident(tmp_path) -> None:
    peer = '[dicom.peers.CART]\naddress = "10.1.2.3:104"\n'
    with pytest.raises(SettingsError, match=r"CART: 10\.1\.2\.3:104 would be told without encryption"):
        settings(tmp_path, peer)
    assert settings(tmp_path, "[dicom]\ninsecure_plaintext = true\n" + peer).peers
    assert settings(tmp_path, peer + "tls = {}\n").peers["CART"].tls is not None


def test_a_wrong_key_of_a_peer_gets_the_right_name(tmp_path) -> None:
    with pytest.raises(SettingsError, match="did you mean address"):
        settings(tmp_path, '[dicom.peers.CART]\nadress = "127.0.0.1:104"\n')
