"""Storage commitment as it is written: what a peer asks for, and what it is told (PS3.4 J.3, Push Model)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from bridge.errors import BadInput
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.part10 import ENCODINGS
from bridge.formats.dicom.walk import Walker

PUSH_MODEL = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one instance of that class, the same everywhere (PS3.4 J.3.5)."""

INVALID_ARGUMENT = 0x0115
RESOURCE_LIMITATION = 0x0213
"""Statuses of an N-ACTION (PS3.7 §10.1.4.1.10)."""

ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types (PS3.4 table J.3-2)."""

_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)  # what is wrong in its parts is the peer's: it is told the same UID


class Failure(IntEnum):
    """Failure Reason of one instance (PS3.3 C.14.1.1)."""

    PROCESSING = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_CONFLICT = 0x0119
    CLASS_NOT_SUPPORTED = 0x0122


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a peer wants to be sure of."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """The Action Information of a request. Each instance stands once, in the order of the request."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a peer is told of one instance; `failure` None: it is in our custody."""

    reference: Reference
    failure: Failure | None


def read_request(information: bytes, transfer_syntax_uid: str, most: int) -> CommitmentRequest:
    """What is asked for (PS3.4 table J.3-1). Raises `BadInput` whose code is the status of the N-ACTION.

    File-set and study references are passed over: no medium is involved here.
    """
    try:
        data_set = DataSet(Walker(BytesIO(information), len(information)).data_set(0, ENCODINGS[transfer_syntax_uid]))
    except BadInput as cause:
        raise BadInput(str(cause), where=cause.where, code=INVALID_ARGUMENT) from cause
    items = data_set.items("ReferencedSOPSequence")
    if not items:
        raise BadInput("no instance is named", where="ReferencedSOPSequence", code=INVALID_ARGUMENT)
    if len(items) > most:
        raise BadInput(f"more than {most} instances", where="ReferencedSOPSequence", code=RESOURCE_LIMITATION)
    transaction_uid = _uid(data_set, "TransactionUID")
    references = [Reference(_uid(i, "ReferencedSOPClassUID"), _uid(i, "ReferencedSOPInstanceUID")) for i in items]
    return CommitmentRequest(transaction_uid, tuple(dict.fromkeys(references)))


def event_type(told: Sequence[Told]) -> int:
    """Which of the two events reports this."""
    return FAILURES_EXIST if any(one.failure is not None for one in told) else ALL_COMMITTED


def event_information(transaction_uid: str, told: Sequence[Told], transfer_syntax_uid: str) -> bytes:
    """The Event Information that tells it (PS3.4 table J.3-2): every instance of the request, in one of two sequences.

    No Retrieve AE Title: what is kept here cannot be retrieved by DICOM.
    """
    event = Dataset()
    _put(event, 0x00081195, "UI", transaction_uid)
    failed = [_item(one) for one in told if one.failure is not None]
    committed = [_item(one) for one in told if one.failure is None]
    if failed:
        _put(event, 0x00081198, "SQ", Items(failed))
    if committed:
        _put(event, 0x00081199, "SQ", Items(committed))
    encoding = ENCODINGS[transfer_syntax_uid]
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = not encoding.explicit, encoding.little
    write_dataset(file, event)
    return file.getvalue()


def _item(told: Told) -> Dataset:
    item = Dataset()
    _put(item, 0x00081150, "UI", told.reference.sop_class_uid)
    _put(item, 0x00081155, "UI", told.reference.sop_instance_uid)
    if told.failure is not None:
        _put(item, 0x00081197, "US", int(told.failure))
    return item


def _put(data_set: Dataset, tag: int, vr: str, value: object) -> None:
    """A peer's own UID goes back to it as it came: carts write some that the standard does not have."""
    data_set.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def _uid(data_set: DataSet, keyword: str) -> str:
    values = data_set.texts(keyword)
    if len(values) != 1 or not _UID.fullmatch(values[0]):
        raise BadInput("one UID is needed", where=keyword, code=INVALID_ARGUMENT)
    return values[0]
