"""The site's mapping rules: a TOML document laid over the defaults (`bridge.mapping.defaults`).

```toml
[fields.investigation_id]            # any field of `Fields`; what is not named keeps its default
hl7 = ["OBR-19.1", "ORC-2.1"]        # sources in order; the first that has a value wins
dicom = ["StudyID | unpadded"]       # `| transform`: upper, lower, digits, unpadded, split (at backslashes)
[fields.device_id]                   # `A + B` joins two values
constant = "ECG-ROOM-1"              # for device_id, indications and searching_tags; or: omit = true
[fields.searching_tags]              # addresses of a closed set that names no patient, alone or in a text
hl7 = ["ward={PV1-3.1}", "OBR-4.1"]
dicom = ["site={InstitutionName}"]
[numbers.accession]                  # what counts as an order number when recordings and orders meet:
hl7 = ["IPC-1", "OBR-18", "ZDS-1"]   # placer, filler, accession, procedure
[tables.gender]                      # codes as sent, compared without case; an empty word leaves the field out
X = "UNDIFFERENTIATED"
[patient]
authorities = ["HOSP"]               # CX.4 namespaces or OIDs, best first
types = ["MR", "PI"]                 # CX.5 codes, best first, where no authority decides
account_number = false               # PID-18 as a last resort
[destination]                        # read by the routes of the settings (`mapped = "…"`); or a constant
hl7 = ["PV1-3.4"]
dicom = ["InstitutionName"]
[senders."HIS|NORTH"]                # MSH-3|MSH-4, or "*|NORTH", "HIS|*"
time_zone = "Europe/London"          # and any part of the above, laid over the site's for that sender alone
[ae_titles.CART1]                    # the same by calling AE title
height_unit = "cm"                   # this cart writes PatientSize in centimetres
name_group = "ideographic"           # the component group that names are taken from
```

A rule of a peer that names sources lifts the site's `constant` and `omit`, one that names a constant its `omit`.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bridge.domain.found import Source
from bridge.errors import SettingsError
from bridge.mapping import defaults
from bridge.mapping.sources import checked
from bridge.mapping.tags import check_template
from bridge.settings import explained

Word = Literal["MALE", "FEMALE", "UNDIFFERENTIATED", ""]


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as cause:  # OSError: "Europe" is a folder of the database
        known = available_timezones()
        if not known:
            raise ValueError("this machine has no time zone database; install its tzdata package") from cause
        near = difflib.get_close_matches(value, known, n=1)
        raise ValueError(
            f"{value!r} is not an IANA time zone; " + (f"did you mean {near[0]}?" if near else "one is Europe/Berlin")
        ) from cause
    return value


def _sender(value: str) -> str:
    if value.count("|") != 1:
        raise ValueError(f"{value!r} is no sender: MSH-3|MSH-4, such as HIS|NORTH, *|NORTH or HIS|*")
    return value


def _upper_keys(value: Any) -> Any:
    return {str(k).upper(): v for k, v in value.items()} if isinstance(value, dict) else value


def _kind(kind: str) -> Callable[[str], str]:
    return lambda text: checked(text, kind)


def _template(kind: str) -> Callable[[str], str]:
    return lambda text: check_template(text, kind)


Hl7 = tuple[Annotated[str, AfterValidator(_kind("hl7"))], ...]
Dicom = tuple[Annotated[str, AfterValidator(_kind("dicom"))], ...]
Zone = Annotated[str, AfterValidator(_zone)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Chain(_Table):
    """Sources in order, for HL7 messages and for DICOM objects."""

    hl7: Hl7 = ()
    dicom: Dicom = ()


class FieldRule(Chain):
    """Where one task field comes from; `omit` leaves it out."""

    omit: bool = False


class ConstantRule(FieldRule):
    """As `FieldRule`; a constant takes the place of the sources. No patient's field and no number has one."""

    constant: Annotated[str, Field(min_length=1)] | None = None


class TagRule(_Table):
    """The searching tags of the site, besides the bridge's own."""

    hl7: tuple[Annotated[str, AfterValidator(_template("hl7"))], ...] = ()
    dicom: tuple[Annotated[str, AfterValidator(_template("dicom"))], ...] = ()
    constant: Annotated[str, Field(min_length=1)] | None = None
    omit: bool = False


class Fields(_Table):
    """The rule of every task field. Names, dates, measures and times have procedures of their own behind these."""

    patient_id: Chain = Chain.model_validate(defaults.PATIENT_ID)
    patient_name: FieldRule = FieldRule.model_validate(defaults.PATIENT_NAME)
    patient_gender: FieldRule = FieldRule.model_validate(defaults.PATIENT_GENDER)
    patient_birth_date: FieldRule = FieldRule.model_validate(defaults.PATIENT_BIRTH_DATE)
    patient_age: FieldRule = FieldRule.model_validate(defaults.PATIENT_AGE)
    patient_height: FieldRule = FieldRule.model_validate(defaults.PATIENT_HEIGHT)
    patient_weight: FieldRule = FieldRule.model_validate(defaults.PATIENT_WEIGHT)
    investigation_id: FieldRule = FieldRule.model_validate(defaults.INVESTIGATION_ID)
    device_id: ConstantRule = ConstantRule.model_validate(defaults.DEVICE_ID)
    indications: ConstantRule = ConstantRule.model_validate(defaults.INDICATIONS)
    searching_tags: TagRule = TagRule()


class Numbers(_Table):
    """What counts as an order number of each kind (`domain.task.NumberKind`)."""

    placer: Chain = Chain.model_validate(defaults.PLACER)
    filler: Chain = Chain.model_validate(defaults.FILLER)
    accession: Chain = Chain.model_validate(defaults.ACCESSION)
    procedure: Chain = Chain.model_validate(defaults.PROCEDURE)


class Patient(_Table):
    """How a patient identifier is chosen among several."""

    authorities: tuple[str, ...] = ()
    types: tuple[str, ...] = ("MR", "PI", "PT", "PK")
    account_number: bool = False


class Tables(_Table):
    """Value tables."""

    gender: Annotated[dict[str, Word], BeforeValidator(_upper_keys)] = Field(
        default_factory=lambda: {**defaults.GENDER}, validate_default=True
    )


class Part(_Table):
    """A set of rules, of the site or of one peer."""

    fields: Fields = Field(default_factory=Fields)
    numbers: Numbers = Field(default_factory=Numbers)
    patient: Patient = Field(default_factory=Patient)
    tables: Tables = Field(default_factory=Tables)
    destination: ConstantRule = ConstantRule()
    time_zone: Zone | None = None
    height_unit: Literal["m", "cm"] = "m"
    name_group: Literal["alphabetic", "ideographic", "phonetic"] = "alphabetic"


class Rules(Part):
    """The site's rules, and what some of its peers have of their own."""

    senders: dict[Annotated[str, AfterValidator(_sender)], Part] = Field(default_factory=dict)
    ae_titles: dict[Annotated[str, Field(min_length=1, max_length=16)], Part] = Field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """A short hash of everything in force: which rules a message was mapped by (F42)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def of(self, source: Source) -> Part:
        """The rules for what this peer sent: its own part where it has one, else the site's."""
        for found in source.find("@sender") if self.senders else ():
            application, _, facility = found.value.partition("|")
            for name in (found.value, f"*|{facility}", f"{application}|*"):
                if name in self.senders:
                    return self.senders[name]
        for found in source.find("@calling_ae_title") if self.ae_titles else ():
            if found.value.strip() in self.ae_titles:
                return self.ae_titles[found.value.strip()]
        return self

    @classmethod
    def over_defaults(cls, document: Mapping[str, Any]) -> Self:
        """A document laid over the defaults; a peer's part is laid over the site's."""
        site = {key: value for key, value in document.items() if key not in {"senders", "ae_titles"}}
        base = _laid_over(Part().model_dump(exclude_none=True), site)
        if "senders" not in document and "ae_titles" not in document:
            return cls.model_validate(base)
        cls.model_validate(base)  # what is wrong for the site is told once, not for each of its peers
        peers = {kind: _peers(base, document[kind]) for kind in ("senders", "ae_titles") if kind in document}
        return cls.model_validate({**base, **peers})


def _peers(base: Any, parts: Any) -> Any:
    if not isinstance(parts, Mapping):
        return parts
    return {name: _laid_over(base, part) for name, part in parts.items()}


def _laid_over(under: Any, over: Any) -> Any:
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return over
    kept = dict(under)
    if over.keys() & {"hl7", "dicom", "constant"}:
        kept.pop("omit", None)
    if over.keys() & {"hl7", "dicom"}:
        kept.pop("constant", None)
    return {**kept, **{key: _laid_over(kept.get(key), value) for key, value in over.items()}}


def load_rules(document: Mapping[str, Any] | None, *, name: str = "defaults") -> Rules:
    """The rules in force. `None`: the defaults.

    Raises SettingsError that names the file, the key and the nearest right name.
    """
    try:
        return Rules.over_defaults(document or {})
    except ValidationError as cause:
        raise SettingsError("\n".join(explained(name, Rules, e) for e in cause.errors())) from cause
