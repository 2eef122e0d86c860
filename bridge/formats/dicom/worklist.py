"""A Modality Worklist query and its answers, as identifiers of C-FIND (PS3.4 annex K).

A query is read with our own bounded reader: it comes from the network. An answer holds the keys that were asked for
and nothing else, but for SpecificCharacterSet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from bridge.errors import BadInput
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.matching import (
    LONGEST_KEY,
    UNABLE_TO_PROCESS,
    WITH_WILDCARDS,
    Span,
    date_span,
    text_matches,
    time_span,
)
from bridge.formats.dicom.part10 import ENCODINGS
from bridge.formats.dicom.repertoire import chosen
from bridge.formats.dicom.walk import Encoding, Item, Walker, name_of

PENDING = 0xFF00
PENDING_UNSUPPORTED = 0xFF01
DOES_NOT_MATCH = 0xA900
"""PS3.4 table K.4.1-1: a match; a match, but an optional key is not supported; not an identifier of this SOP class."""

LARGEST = 1024 * 1024
MOST_VALUES = 1000
"""Values of one key: a list of UIDs may be long (PS3.4 C.2.2.2.2)."""

Known: TypeAlias = Mapping[str, "str | Sequence[Known]"]
"""What is known of a scheduled step: attribute keywords with their values; items of sequences are the same again."""

Model: TypeAlias = Mapping[str, "Model | None"]

_CODE: Model = {"CodeValue": None, "CodingSchemeDesignator": None, "CodingSchemeVersion": None, "CodeMeaning": None}
_ISSUER: Model = {"LocalNamespaceEntityID": None, "UniversalEntityID": None, "UniversalEntityIDType": None}
_STEP: Model = {
    "Modality": None,
    "ScheduledStationAETitle": None,
    "ScheduledProcedureStepStartDate": None,
    "ScheduledProcedureStepStartTime": None,
    "ScheduledPerformingPhysicianName": None,
    "ScheduledProcedureStepDescription": None,
    "ScheduledProtocolCodeSequence": _CODE,
    "ScheduledProcedureStepID": None,
    "ScheduledStationName": None,
    "ScheduledProcedureStepLocation": None,
    "ScheduledProcedureStepStatus": None,
    "PreMedication": None,
    "RequestedContrastAgent": None,
}
_MODEL: Model = {
    "AccessionNumber": None,
    "IssuerOfAccessionNumberSequence": _ISSUER,
    "ReferringPhysicianName": None,
    "ReferencedStudySequence": {},
    "ReferencedPatientSequence": {},
    "PatientName": None,
    "PatientID": None,
    "IssuerOfPatientID": None,
    "PatientBirthDate": None,
    "PatientSex": None,
    "PatientSize": None,
    "PatientWeight": None,
    "MedicalAlerts": None,
    "Allergies": None,
    "PregnancyStatus": None,
    "StudyInstanceUID": None,
    "RequestingPhysician": None,
    "RequestedProcedureDescription": None,
    "RequestedProcedureCodeSequence": _CODE,
    "AdmissionID": None,
    "SpecialNeeds": None,
    "CurrentPatientLocation": None,
    "PatientState": None,
    "OrderPlacerIdentifierSequence": _ISSUER,
    "OrderFillerIdentifierSequence": _ISSUER,
    "ScheduledProcedureStepSequence": _STEP,
    "RequestedProcedureID": None,
    "ReasonForTheRequestedProcedure": None,
    "RequestedProcedurePriority": None,
    "PatientTransportArrangements": None,
    "PlacerOrderNumberImagingServiceRequest": None,
    "FillerOrderNumberImagingServiceRequest": None,
    "ConfidentialityConstraintOnPatientDataDescription": None,
}
"""The attributes of PS3.4 table K.6-1 that are answered; those of type 2 are answered empty where nothing is known."""

_NEVER_KNOWN = frozenset(
    {
        "ReferencedStudySequence", "ReferencedPatientSequence", "MedicalAlerts", "Allergies", "PregnancyStatus",
        "SpecialNeeds", "PatientState", "PatientTransportArrangements", "PreMedication", "RequestedContrastAgent",
        "ConfidentialityConstraintOnPatientDataDescription",
    }
)  # fmt: skip
"""Optional keys that no order tells us: they are not matched, and answered empty (PS3.4 K.2.2.1.1.2)."""

_NOT_MATCHED = _NEVER_KNOWN | {"PatientSize", "PatientWeight"}
_START = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")
_CHARACTER_SET, _OFFSET = "SpecificCharacterSet", "TimezoneOffsetFromUTC"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `items` are the keys of each item of a sequence; None where it is no sequence."""

    vr: str
    values: tuple[str, ...] = ()
    items: "tuple[Keys, ...] | None" = None
    span: Span | None = None


Keys: TypeAlias = Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Query:
    """What a cart asks for. `offset` is the zone that its times are in, as it says it (PS3.4 C.2.2.2.5.2)."""

    keys: Keys
    status: int  # of every match
    character_set: tuple[str, ...]
    offset: str
    encoding: Encoding

    def exact(self, keyword: str) -> str:
        """The one value that an attribute must have; empty where anything else is asked."""
        key = self.keys.get(keyword)
        if key is None or len(key.values) != 1 or key.span is not None:
            return ""
        return "" if key.vr in WITH_WILDCARDS and set("*?") & set(key.values[0]) else key.values[0]

    def asked_step(self, keyword: str) -> tuple[str, ...]:
        """The values that are asked of an attribute of the step."""
        step = self.keys.get("ScheduledProcedureStepSequence")
        found = step.items[0].get(keyword) if step is not None and step.items else None
        return found.values if found is not None else ()

    def matches(self, known: Known) -> bool:
        """Whether a scheduled step is asked for (PS3.4 C.2.2.2)."""
        return _matches(self.keys, known)

    def answer(self, known: Known) -> bytes:
        """The identifier of one match."""
        made = _answered(self.keys, _MODEL, known)
        if self.offset:
            _put(made, _OFFSET, self.offset)
        terms = chosen(self.character_set, _texts(made))
        if terms:
            _put(made, _CHARACTER_SET, list(terms))
        file = DicomBytesIO()
        file.is_implicit_VR, file.is_little_endian = not self.encoding.explicit, self.encoding.little
        write_dataset(file, made)
        return bytes(file.getvalue())


def read_query(identifier: bytes, transfer_syntax_uid: str) -> Query:
    """A query. Raises BadInput: C000 where it cannot be read, A900 where it is no worklist query."""
    encoding = ENCODINGS.get(transfer_syntax_uid)
    if encoding is None or len(identifier) > LARGEST:
        raise BadInput("the identifier is too large, or in an unknown encoding", code=UNABLE_TO_PROCESS)
    item = Walker(BytesIO(identifier), len(identifier)).data_set(0, encoding)
    data_set = DataSet(item)
    unsupported: list[str] = []
    keys = _keys(item, data_set, _MODEL, unsupported)
    if not keys:
        raise BadInput("the identifier holds no key of a worklist", code=DOES_NOT_MATCH)
    status = PENDING_UNSUPPORTED if unsupported else PENDING
    character_set = tuple(data_set.texts(_CHARACTER_SET))
    return Query(keys, status, character_set, data_set.text(_OFFSET), encoding)


def _keys(item: Item, data_set: DataSet, model: Model, unsupported: list[str]) -> Keys:
    keys: dict[str, Key] = {}
    for tag, element in item.items():
        keyword = name_of(tag)
        if keyword in {_CHARACTER_SET, _OFFSET} or not tag & 0xFFFF:  # never a key; a group's length
            continue
        if keyword not in model:
            unsupported.append(keyword)
            continue
        below, vr = model[keyword], _vr(keyword)
        if below is None:
            keys[keyword] = _key(keyword, vr, tuple(v for v in data_set.texts(keyword) if v))
            continue
        if element.items is None and element.length:
            raise BadInput("a sequence is expected there", where=keyword, code=DOES_NOT_MATCH)
        pairs = zip(element.items or (), data_set.items(keyword), strict=True)
        items = tuple(_keys(i, d, below, unsupported) for i, d in pairs)
        if len(items) > 1:  # PS3.4 C.2.2.2.6
            raise BadInput("a sequence of keys has one item", where=keyword, code=DOES_NOT_MATCH)
        keys[keyword] = Key(vr, items=items)
    return keys


def _key(keyword: str, vr: str, values: tuple[str, ...]) -> Key:
    if len(values) > MOST_VALUES or any(len(v) > LONGEST_KEY for v in values):
        raise BadInput("a key is too long", where=keyword, code=UNABLE_TO_PROCESS)
    read = {"DA": date_span, "TM": time_span}.get(vr)
    if read is None or not values:
        return Key(vr, values)
    if len(values) > 1:
        raise BadInput("a date or time key has one value", where=keyword, code=UNABLE_TO_PROCESS)
    return Key(vr, values, span=read(values[0], keyword))


def _matches(keys: Keys, known: Known) -> bool:
    combined = _combined(keys)
    if combined is not None and not combined.holds("".join(str(_start(k, known)) for k in _START)):
        return False
    for keyword, key in keys.items():
        if keyword in _NOT_MATCHED or (combined is not None and keyword in _START):
            continue
        value = known.get(keyword, "")
        if key.items is not None:
            if not _sequence_matches(key.items, value):
                return False
        elif key.vr in {"DA", "TM"}:
            if key.span is not None and not key.span.holds(_start(keyword, known)):
                return False
        elif key.values and not any(text_matches(key.vr, wanted, str(value)) for wanted in key.values):
            return False
    return True


def _sequence_matches(asked: tuple[Keys, ...], value: "str | Sequence[Known]") -> bool:
    """One item of keys, of which some item of the value has all; no item, or one without a value, asks for nothing."""
    if not asked or not _asks(asked[0]):
        return True
    return not isinstance(value, str) and any(_matches(asked[0], item) for item in value)


def _asks(keys: Keys) -> bool:
    return any(key.values or (key.items is not None and any(map(_asks, key.items))) for key in keys.values())


def _start(keyword: str, known: Known) -> str:
    """A known date or time as spans compare it."""
    value = str(known.get(keyword, ""))
    return f"{value}000000" if value and _vr(keyword) == "TM" else value


def _combined(keys: Keys) -> Span | None:
    """Two ranges are one period, from a time on the first day to a time on the last (PS3.4 K.6.1.2.2)."""
    day, clock = (keys[k].span if k in keys else None for k in _START)
    if day is None or clock is None or not (day.is_range and clock.is_range):
        return None
    low = day.low + clock.low if day.low else ""
    high = day.high + (clock.high or "9" * 12) if day.high else ""
    return Span(low, high, is_range=True)


def _answered(keys: Keys, model: Model, known: Known) -> Dataset:
    made = Dataset()
    for keyword, key in keys.items():
        value = known.get(keyword, "")
        if key.items is None:
            _put(made, keyword, value)
            continue
        below = model[keyword] or {}
        items = () if isinstance(value, str) else value
        _put(made, keyword, Items([_item(key.items, below, item) for item in items]))
    return made


def _item(asked: tuple[Keys, ...], model: Model, known: Known) -> Dataset:
    """What was asked of an item. No item, or an empty one, asks for the whole (PS3.4 K.2.2.1.2, note 4)."""
    if asked and asked[0]:
        return _answered(asked[0], model, known)
    whole = {k: Key(_vr(k), items=() if model.get(k) is not None else None) for k in known}
    return _answered(whole, model, known)


def _put(made: Dataset, keyword: str, value: object) -> None:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    # Values are made to fit before they come here; the library's own look at them would only warn.
    made.add(DataElement(tag, _vr(keyword), value or None, validation_mode=config.IGNORE))


def _texts(made: Dataset) -> Iterator[str]:
    for element in made:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.value is not None:
            yield str(element.value)


def _vr(keyword: str) -> str:
    return dictionary_VR(keyword)
