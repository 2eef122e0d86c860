"""The whole configuration, and the only reader of TOML, environment and secret files.

`bridge.toml` first, then the environment: `BRIDGE_<SECTION>__<KEY>` wins over the file. A key that does not exist is
an error that offers the nearest right name.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from bridge.alarm_settings import AlarmSettings, MailSettings, Rule, WebhookSettings
from bridge.cardio_settings import CardioSettings, DestinationSettings, RouteSettings
from bridge.console_settings import ConsoleSettings, OidcSettings
from bridge.dicom_settings import DicomSettings
from bridge.errors import SettingsError
from bridge.hl7_settings import (
    AnswerCodes,
    ClientTlsSettings,
    Hl7Settings,
    ListenerSettings,
    SenderSettings,
    TlsSettings,
)
from bridge.retention_settings import RetentionSettings
from bridge.setting_kinds import Section, Zone, host_port, is_loopback
from bridge.setting_origins import Origin, Place, lines_of, places
from bridge.store_settings import StoreSettings

__all__ = [
    "AlarmSettings",
    "AnswerCodes",
    "CardioSettings",
    "ClientTlsSettings",
    "ConsoleSettings",
    "DestinationSettings",
    "DicomSettings",
    "Hl7Settings",
    "ListenerSettings",
    "MailSettings",
    "OidcSettings",
    "RetentionSettings",
    "RouteSettings",
    "Rule",
    "SenderSettings",
    "Settings",
    "StoreSettings",
    "TlsSettings",
    "WebhookSettings",
    "host_port",
    "is_loopback",
    "load",
    "origins",
]


class SiteSettings(Section):
    time_zone: Zone = "UTC"
    key_file: str = ""
    assigning_authority: str = ""  # what an absent authority of a patient identifier means here


class OrderSettings(Section):
    create: Literal["draft", "on_recording"] = "draft"
    unknown_change: Literal["create", "refuse"] = "create"  # XO of an order that is not in the book
    cancel_with_visit: bool = False  # a cancelled admission cancels its orders that are not yet tasks


class PatientSettings(Section):
    """What ADT may do to identities."""

    trusted_authorities: tuple[str, ...] = ()  # whose identifiers may be merged; empty: every authority's
    inverse_merge: Literal["refuse", "ignore", "accept"] = "refuse"  # B into A after A into B
    moves: Literal["hold", "refuse"] = "hold"  # A43, A44, A45: a person decides
    deletes: Literal["refuse", "inactive"] = "refuse"  # A23, A29


class RecordingSettings(Section):
    without_order: Literal["create", "hold"] = "create"
    order_wait: Annotated[float, Field(ge=0)] = 0.0
    several_groups: Literal["each", "longest", "hold"] = "each"


class MappingSettings(Section):
    file: str = ""


class Settings(Section):
    """Everything that a site can set. Sections are the tables of `bridge.toml`."""

    site: SiteSettings = Field(default_factory=SiteSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    hl7: Hl7Settings = Field(default_factory=Hl7Settings)
    dicom: DicomSettings = Field(default_factory=DicomSettings)
    orders: OrderSettings = Field(default_factory=OrderSettings)
    patients: PatientSettings = Field(default_factory=PatientSettings)
    recordings: RecordingSettings = Field(default_factory=RecordingSettings)
    mapping: MappingSettings = Field(default_factory=MappingSettings)
    cardio: CardioSettings = Field(default_factory=CardioSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    alarms: AlarmSettings = Field(default_factory=AlarmSettings)
    _origins: Mapping[Place, Origin] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _routes_lead_from_somewhere(self) -> Self:
        """A listener or an AE title that nobody can come by is a word misspelt."""
        listeners = [*self.hl7.all(), "dicom"]
        titles = [self.dicom.ae_title, *self.dicom.other_ae_titles]
        for one in self.cardio.all().values():
            for route in one.routes:
                _known(one, "listener", route.listener, listeners)
                _known(one, "called_ae_title", route.called_ae_title, titles)
        return self

    @model_validator(mode="after")
    def _feeds_are_there(self) -> Self:
        """A listener that is to be heard and does not exist is a word misspelt."""
        for name in self.alarms.silence:
            if name.startswith("hl7.") and name not in self.hl7.all():
                raise ValueError(f"alarms.silence: {name}: no such listener; known here: {', '.join(self.hl7.all())}")
        return self

    def mapping_document(self) -> dict[str, Any] | None:
        """The site's mapping rules as a document, None where the defaults hold.

        Raises SettingsError that names the file and the line.
        """
        return read_toml(Path(self.mapping.file), setting="mapping.file") if self.mapping.file else None


def _known(destination: DestinationSettings, key: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        near = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
        offer = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        raise ValueError(f"{destination.where}.routes: {key} {value}: nothing comes in that way; {offer}")


def origins(settings: Settings) -> Mapping[Place, Origin]:
    """Who said each key that is not a default, as it was when `load` read it; empty where nothing was loaded."""
    return settings._origins  # noqa: SLF001  written by `load` below, and by nobody else


def read_toml(path: Path, *, setting: str) -> dict[str, Any]:
    """A TOML file as a document. Raises SettingsError that names the setting, the file and the line."""
    return read_lined_toml(path, setting=setting)[0]


def read_lined_toml(path: Path, *, setting: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """A TOML file as a document, and the line of each of its keys. Raises SettingsError as `read_toml` does."""
    try:
        text = path.read_bytes().decode("utf-8")
        return tomllib.loads(text), lines_of(text)
    except OSError as cause:
        raise SettingsError(f"{setting}: {path} cannot be read: {cause.strerror}") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise SettingsError(f"{setting}: {path} is not TOML: {cause}") from cause


def load(config: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The configuration in force: defaults, then the file, then the environment.

    The file is `config`, else `BRIDGE_CONFIG`, else `bridge.toml` of the working directory where there is one.
    Raises SettingsError that names file, section and key of everything that is wrong.
    """
    environment = os.environ if environment is None else environment
    named = config or (Path(environment["BRIDGE_CONFIG"]) if environment.get("BRIDGE_CONFIG") else None)
    path = named or Path("bridge.toml")
    document, lines = read_lined_toml(path, setting="--config") if named or path.exists() else ({}, {})
    origin = str(path) if document else "settings"
    said = {place: Origin("file", f"{path}:{line}") for place, line in lines.items()}
    for name, value in environment.items():
        section, separator, key = name.removeprefix("BRIDGE_").lower().partition("__")
        if name.startswith("BRIDGE_") and separator:
            table = document.setdefault(section, {})
            if not isinstance(table, dict):
                raise SettingsError(f"{origin}: {section}: a table [{section}] is expected")
            table[key] = _from_environment(value)
            said = {place: one for place, one in said.items() if place[:2] != (section, key)}
            said |= {(section, key, *rest): Origin("environment", name) for rest in ((), *places(table[key]))}
    try:
        settings = Settings.model_validate(document)
    except ValidationError as cause:
        raise SettingsError("\n".join(explained(origin, Settings, e) for e in cause.errors())) from cause
    settings._origins = said  # noqa: SLF001  its own private record
    return settings


def _from_environment(value: str) -> Any:
    """Lists and tables are written as TOML values; anything else is text, which pydantic reads as it needs."""
    if value.startswith(("[", "{")):
        try:
            return tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            return value
    return value


def explained(origin: str, model: type[BaseModel], error: Any) -> str:
    """One error of pydantic in words: the file, the key, what is wrong, and the nearest right name.

    Never the value: it may be a secret.
    """
    place = ".".join(str(p) for p in error["loc"])
    if error["type"] != "extra_forbidden":
        told = error["msg"].removeprefix("Value error, ")
        return f"{origin}: {place}: {told}" if place else f"{origin}: {told}"
    known = _keys_at(model, error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
    offer = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{origin}: {place}: unknown setting; {offer}"


def _keys_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys of the table at `path` below a model: through fields, and through what dictionaries and lists hold."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:
            model = next(a for a in reversed(get_args(model)) if a is not ...)  # what a tuple or a dictionary holds
        inner = [a for a in get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)]
        if inner and type(None) in get_args(model):
            model = inner[0]
    return list(model.model_fields)
