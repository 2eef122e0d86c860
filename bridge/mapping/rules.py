"""The site's mapping rules: a TOML document laid over the defaults.

```toml
[fields.investigation_id]            # any task field of the list in `Fields`
hl7 = ["OBR-19.1", "ORC-2.1"]        # addresses in order; the first that has a value wins
dicom = ["StudyID | upper"]          # `| transform`: upper, lower, digits, split (at backslashes)
[fields.device_id]
constant = "ECG-ROOM-1"              # or: omit = true
[tables.gender]                      # codes as sent, compared without case; an empty word leaves the field out
X = "UNDIFFERENTIATED"
[patient]
authorities = ["HOSP"]               # CX.4 namespaces or OIDs, best first
types = ["MR", "PI"]                 # CX.5 codes, best first, where no authority decides
account_number = false               # PID-18 as a last resort
[senders."HIS|NORTH"]                # MSH-3|MSH-4; any part of the above for that sender alone; also time_zone
[ae_titles.CART1]                    # the same by calling AE title; also height_unit = "cm"
```
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bridge.domain.found import Source
from bridge.errors import SettingsError
from bridge.mapping.sources import parse_address
from bridge.settings import explained

Word = Literal["MALE", "FEMALE", "UNDIFFERENTIATED", ""]
GENDER: dict[str, Word] = {
    "M": "MALE",
    "F": "FEMALE",
    "O": "UNDIFFERENTIATED",
    "A": "UNDIFFERENTIATED",
    "N": "UNDIFFERENTIATED",
}
"""HL7 table 0001 and PatientSex; what is not here leaves the field out, with a warning."""


def _address(value: str) -> str:
    parse_address(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as cause:
        raise ValueError("not an IANA time zone of this machine, such as Europe/Berlin") from cause
    return value


def _folded(value: Any) -> Any:
    return {str(k).upper(): v for k, v in value.items()} if isinstance(value, dict) else value


Address = Annotated[str, AfterValidator(_address)]
Addresses = tuple[Address, ...]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldRule(_Table):
    """Where one task field comes from."""

    hl7: Addresses = ()
    dicom: Addresses = ()
    constant: str | None = None
    omit: bool = False


class Fields(_Table):
    """The rule of every task field. Names, dates, measures and times have procedures of their own behind these."""

    patient_id: FieldRule = FieldRule(hl7=("PID-3", "PID-2", "PID-4"), dicom=("PatientID",))
    patient_name: FieldRule = FieldRule(hl7=("PID-5",), dicom=("PatientName",))
    patient_gender: FieldRule = FieldRule(hl7=("PID-8.1",), dicom=("PatientSex",))
    patient_birth_date: FieldRule = FieldRule(hl7=("PID-7.1",), dicom=("PatientBirthDate",))
    patient_age: FieldRule = FieldRule(hl7=("OBX[3.1=30525-0]-5", "OBX[3.1=21612-7]-5"), dicom=("PatientAge",))
    patient_height: FieldRule = FieldRule(
        hl7=(
            "OBX[3.1=8302-2]-5", "OBX[3.1=3137-7]-5", "OBX[3.1=3138-5]-5", "OBX[3.1=8301-4]-5",
            "OBX[3.2=Body Height]-5",
        ),
        dicom=("PatientSize",),
    )  # fmt: skip
    patient_weight: FieldRule = FieldRule(
        hl7=(
            "OBX[3.1=29463-7]-5", "OBX[3.1=3141-9]-5", "OBX[3.1=3142-7]-5", "OBX[3.1=8335-2]-5",
            "OBX[3.2=Body Weight]-5",
        ),
        dicom=("PatientWeight",),
    )  # fmt: skip
    investigation_id: FieldRule = FieldRule(
        hl7=("IPC-1.1", "OBR-18.1", "ORC-3.1", "OBR-3.1", "ORC-2.1", "OBR-2.1"),
        dicom=(
            "AccessionNumber",
            "RequestAttributesSequence.AccessionNumber",
            "RequestedProcedureID",
            "RequestAttributesSequence.RequestedProcedureID",
            "FillerOrderNumberImagingServiceRequest",
            "PlacerOrderNumberImagingServiceRequest",
        ),
    )
    device_id: FieldRule = FieldRule(
        hl7=("OBX-18.1", "PRT-10.1"),
        dicom=("DeviceSerialNumber", "DeviceUID", "StationName", "ManufacturerModelName", "@calling_ae_title"),
    )
    indications: FieldRule = FieldRule(
        hl7=("OBR-31", "DG1-3", "OBR-13", "OBX[3.1=46239-0]-5", "OBX[3.1=10154-3]-5", "PV2-3"),
        dicom=(
            "RequestAttributesSequence.ReasonForTheRequestedProcedure",
            "RequestAttributesSequence.ReasonForRequestedProcedureCodeSequence.CodeMeaning",
            "ReasonForTheRequestedProcedure",
            "ReasonForRequestedProcedureCodeSequence.CodeMeaning",
            "AdmittingDiagnosesDescription | split",
            "AdmittingDiagnosesCodeSequence.CodeMeaning",
            "ReasonForVisit",
            "ReasonForStudy",
        ),
    )
    searching_tags: FieldRule = FieldRule()


class Patient(_Table):
    """How a patient identifier is chosen among several."""

    authorities: tuple[str, ...] = ()
    types: tuple[str, ...] = ("MR", "PI", "PT", "PK")
    account_number: bool = False


class Tables(_Table):
    """Value tables."""

    gender: Annotated[dict[str, Word], BeforeValidator(_folded)] = Field(default_factory=lambda: {**GENDER})


class Part(_Table):
    """A set of rules, of the site or of one peer."""

    fields: Fields = Field(default_factory=Fields)
    patient: Patient = Field(default_factory=Patient)
    tables: Tables = Field(default_factory=Tables)
    time_zone: Annotated[str, AfterValidator(_zone)] | None = None
    height_unit: Literal["m", "cm"] = "m"
    name_group: Literal["alphabetic", "ideographic", "phonetic"] = "alphabetic"


class Rules(Part):
    """The site's rules, and what some of its peers have of their own."""

    senders: dict[str, Part] = Field(default_factory=dict)
    ae_titles: dict[str, Part] = Field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """A short hash of everything in force: which rules a message was mapped by (F42)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def of(self, source: Source) -> Part:
        """The rules for what this peer sent: its own part where it has one, else the site's."""
        for address, parts in (("@sender", self.senders), ("@calling_ae_title", self.ae_titles)):
            for found in source.find(address):
                application, _, facility = found.value.partition("|")
                for name in (found.value, f"*|{facility}", f"{application}|*"):
                    if name in parts:
                        return parts[name]
        return self

    @classmethod
    def over_defaults(cls, document: Mapping[str, Any]) -> Self:
        """A document laid over the defaults; a peer's part is laid over the site's."""
        site = {key: value for key, value in document.items() if key not in {"senders", "ae_titles"}}
        base = _laid_over(Part().model_dump(exclude_none=True), site)
        peers = {
            kind: {name: _laid_over(base, part) for name, part in _table(document.get(kind)).items()}
            for kind in ("senders", "ae_titles")
        }
        return cls.model_validate({**base, **peers})


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _laid_over(under: Any, over: Any) -> Any:
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return over
    return {**under, **{key: _laid_over(under.get(key), value) for key, value in over.items()}}


def load_rules(document: Mapping[str, Any] | None, *, name: str = "defaults") -> Rules:
    """The rules in force. `None`: the defaults.

    Raises SettingsError that names the file, the key and the nearest right name.
    """
    try:
        return Rules.over_defaults(document or {})
    except ValidationError as cause:
        raise SettingsError("\n".join(explained(name, Rules, e) for e in cause.errors())) from cause
