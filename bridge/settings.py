"""The whole configuration, and the only reader of TOML, environment and secret files.

`bridge.toml` first, then the environment: `BRIDGE_<SECTION>__<KEY>` wins over the file. A key that does not exist is
an error that offers the nearest right name.
"""

import codecs
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from bridge.errors import SettingsError

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?\s*$")
_UNIT = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        found = _SIZE.match(value)
        if not found:
            raise ValueError("a size is a number and B, KiB, MiB, GiB or TiB, such as '5 GiB'")
        return int(float(found[1]) * _UNIT[found[2]])
    return value


def _address(value: Any) -> Any:
    host, _, port = str(value).rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address is host:port, such as 127.0.0.1:2575; port 0 takes any free one")
    return str(value)


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as cause:
        raise ValueError("not an IANA time zone of this machine, such as Europe/Berlin") from cause
    return str(value)


def _codec(value: Any) -> Any:
    try:
        codecs.lookup(str(value))
    except LookupError as cause:
        raise ValueError("not a character set that Python knows, such as cp1252 or iso8859-2") from cause
    return value


def _network(value: Any) -> Any:
    try:
        return ipaddress.ip_network(str(value), strict=False)
    except ValueError as cause:
        raise ValueError("an address or a network, such as 10.1.2.3 or 10.1.0.0/16") from cause


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Codec = Annotated[str, BeforeValidator(_codec)]
Size = Annotated[int, BeforeValidator(_bytes)]
Address = Annotated[str, BeforeValidator(_address)]
Zone = Annotated[str, BeforeValidator(_zone)]


def host_port(address: str) -> tuple[str, int]:
    """The two halves of an `Address`; brackets of an IPv6 host are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether the address or URL host cannot be reached from another machine."""
    return address.startswith(_LOOPBACK)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(_Section):
    """Certificate and key of a listener; `client_ca` asks for client certificates from that authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class ClientTlsSettings(_Section):
    """How we speak TLS to a peer: whom we trust, and the certificate that we show where it asks for one."""

    ca: Path | None = None  # none: the host's trust store
    certificate: Path | None = None
    key: Path | None = None


class SiteSettings(_Section):
    time_zone: Zone = "UTC"
    key_file: str = ""
    assigning_authority: str = ""  # what an absent authority of a patient identifier means here


class StoreSettings(_Section):
    url: str = "sqlite:///var/bridge.db"
    payloads: Path = Path("var/payloads")
    min_free: Size = 5 * 2**30
    ballast: Size = 64 * 2**20

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded store."""
        if not self.url.startswith("sqlite:///"):
            raise SettingsError(
                f"store.url: {self.url.split(':', 1)[0]} stores are not there yet; use sqlite:///path/to/bridge.db"
            )
        return Path(self.url.removeprefix("sqlite:///"))


class AnswerCodes(_Section):
    """MSA-1 by case, for senders that need another one (hl7.md §3.2). AA leaves the message accepted.

    An accepted `bad_value` or `unknown_code` drops the field with a warning; an accepted `unsupported_*` is kept and
    passed over. What was not taken into custody can never be answered AA.
    """

    unsupported_type: Literal["AA", "AE", "AR"] = "AR"
    unsupported_event: Literal["AA", "AE", "AR"] = "AR"
    processing_id: Literal["AE", "AR"] = "AR"
    unknown_version: Literal["AA", "AE", "AR"] = "AA"
    missing_field: Literal["AE", "AR"] = "AE"
    bad_value: Literal["AA", "AE", "AR"] = "AA"
    unknown_code: Literal["AA", "AE", "AR"] = "AA"
    unknown_control: Literal["AE", "AR"] = "AE"
    unknown_order: Literal["AA", "AE", "AR"] = "AE"
    duplicate_order: Literal["AE", "AR"] = "AE"
    refused_patient: Literal["AA", "AE", "AR"] = "AE"  # a merge or deletion that is not done
    api_refused: Literal["AE", "AR"] = "AE"
    not_kept: Literal["AE", "AR"] = "AR"


class SenderSettings(_Section):
    """What one sender needs otherwise than its listener gives; what is not named stays the listener's."""

    reply_budget: Annotated[float, Field(gt=0, le=60)] | None = None
    reply_late: Literal["accept", "hold"] | None = None
    order_response: Literal["response", "ack"] | None = None
    ack_mode: Literal["original", "enhanced", "auto"] | None = None
    processing_ids: tuple[str, ...] | None = None
    return_address: Address | Literal[""] | None = None
    order_filter: tuple[str, ...] | None = None
    fallback_charset: Codec | None = None
    time_zone: Zone | None = None
    codes: AnswerCodes | None = None


class ListenerSettings(_Section):
    """One MLLP listener: who may speak there, and how it answers.

    `senders` are overrides by MSH-3|MSH-4 (`"HIS|WARD"`, `"HIS|*"`, `"*|WARD"`); the most exact one counts.
    """

    listen: Address = "127.0.0.1:2575"
    tls: TlsSettings | None = None
    insecure_plaintext: bool = False
    allow: tuple[Network, ...] = ()  # addresses that may connect; empty: any
    reply_budget: Annotated[float, Field(gt=0, le=60)] = 4.0
    reply_late: Literal["accept", "hold"] = "accept"
    order_response: Literal["response", "ack"] = "response"
    ack_mode: Literal["original", "enhanced", "auto"] = "original"
    processing_ids: tuple[str, ...] = ("P",)
    return_address: Address | Literal[""] = ""
    return_tls: ClientTlsSettings | None = None
    return_timeout: Annotated[float, Field(gt=0, le=300)] = 30.0  # for the answer to a message of ours
    return_refusals: Annotated[int, Field(gt=0, le=100)] = 3  # then it is held for a person
    order_filter: tuple[str, ...] = ()
    fallback_charset: Codec = "cp1252"
    time_zone: Zone | None = None  # of times without an offset; none: the site's
    mapping: str = ""  # rules of this listener alone; empty: the site's
    codes: AnswerCodes = Field(default_factory=AnswerCodes)
    senders: dict[str, SenderSettings] = Field(default_factory=dict)
    max_frame: Size = 10_000_000
    max_segments: Annotated[int, Field(gt=0)] = 2000
    max_fields: Annotated[int, Field(gt=0)] = 500  # of a segment
    max_repetitions: Annotated[int, Field(gt=0)] = 500  # of a field
    frame_timeout: Annotated[float, Field(gt=0)] = 30.0
    idle_timeout: Annotated[float, Field(gt=0)] = 900.0
    max_connections: Annotated[int, Field(gt=0)] = 256
    max_connections_per_peer: Annotated[int, Field(gt=0)] | None = None  # none: 64, and no limit for loopback
    pipeline: Annotated[int, Field(gt=0)] = 64  # messages of one connection whose answers may be due at once
    silence_alarm: Annotated[float, Field(ge=0)] = 0.0  # seconds without a message until an alarm; 0: none

    @model_validator(mode="after")
    def _plaintext(self) -> Self:
        _no_plaintext("hl7", self.listen, encrypted=self.tls is not None, allowed=self.insecure_plaintext)
        if self.return_address:
            encrypted = self.return_tls is not None
            _no_plaintext("hl7", self.return_address, encrypted=encrypted, allowed=self.insecure_plaintext)
        modes = {self.ack_mode, *(s.ack_mode for s in self.senders.values())}
        if "enhanced" in modes and not self.return_address and not all(s.return_address for s in self.senders.values()):
            raise ValueError("ack_mode: enhanced mode sends its application answers to return_address; name one")
        return self

    def of_sender(self, sender: str) -> "ListenerSettings":
        """The settings for MSH-3|MSH-4."""
        if not self.senders:
            return self
        application, _, facility = sender.partition("|")
        for name in (sender, f"{application}|*", f"*|{facility}"):
            if name in self.senders:
                own = self.senders[name]
                return self.model_copy(update={k: getattr(own, k) for k in own.model_fields_set})
        return self


class NamedListenerSettings(ListenerSettings):
    """A further listener; `name` is what messages, logs and the console call it, as `hl7.NAME`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    listen: Address


class Hl7Settings(ListenerSettings):
    """The first MLLP listener, and those beside it: each inherits what it does not set itself."""

    listeners: tuple[NamedListenerSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, document: Any) -> Any:
        if not isinstance(document, dict) or not isinstance(document.get("listeners"), list | tuple):
            return document
        own = {k: v for k, v in document.items() if k not in {"listeners", "listen"}}
        return {**document, "listeners": [{**own, **x} if isinstance(x, dict) else x for x in document["listeners"]]}

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        names = [one.name for one in self.listeners]
        if len({*names, "hl7"}) <= len(names):
            raise ValueError("listeners: each needs a name of its own, other than hl7")
        return self

    def all(self) -> dict[str, ListenerSettings]:
        """Every listener by its name; the first is `hl7`."""
        return {"hl7": self, **{f"hl7.{one.name}": one for one in self.listeners}}


class DicomSettings(_Section):
    """The C-STORE listener."""

    listen: Address = "127.0.0.1:11112"
    insecure_plaintext: bool = False
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = "CARDIOBRIDGE"
    calling_ae_titles: tuple[str, ...] = ()
    max_associations: Annotated[int, Field(gt=0)] = 32
    max_pdu: Size = 131_072
    network_timeout: Annotated[float, Field(gt=0)] = 60.0
    max_object: Size = 2_200_000_000

    @model_validator(mode="after")
    def _plaintext(self) -> Self:
        _no_plaintext("dicom", self.listen, encrypted=False, allowed=self.insecure_plaintext)
        return self


class OrderSettings(_Section):
    create: Literal["draft", "on_recording"] = "draft"
    unknown_change: Literal["create", "refuse"] = "create"  # XO of an order that is not in the book
    cancel_with_visit: bool = False  # a cancelled admission cancels its orders that are not yet tasks


class PatientSettings(_Section):
    """What ADT may do to identities."""

    trusted_authorities: tuple[str, ...] = ()  # whose identifiers may be merged; empty: every authority's
    inverse_merge: Literal["refuse", "ignore", "accept"] = "refuse"  # B into A after A into B
    moves: Literal["hold", "refuse"] = "hold"  # A43, A44, A45: a person decides
    deletes: Literal["refuse", "inactive"] = "refuse"  # A23, A29


class RecordingSettings(_Section):
    without_order: Literal["create", "hold"] = "create"
    order_wait: Annotated[float, Field(ge=0)] = 0.0


class MappingSettings(_Section):
    file: str = ""


class CardioSettings(_Section):
    base_url: str = "https://api.cardio.ai"
    organization_path: str = ""
    token_file: str = ""
    token: SecretStr | None = None
    ca_file: str | None = None
    proxy: str | None = None
    upload_format: Literal["wfdb"] = "wfdb"
    auto_complete: bool = False
    chunk_size: Size = 2**20
    timeout: Annotated[float, Field(gt=0, le=300)] = 60.0
    in_flight: Annotated[int, Field(gt=0, le=64)] = 8
    unavailable_is_not_applied: bool = False  # the vendor's word that a 503 means "nothing was done"

    @model_validator(mode="after")
    def _https(self) -> Self:
        scheme, _, rest = self.base_url.partition("://")
        if scheme not in {"http", "https"} or not rest:
            raise ValueError("base_url: an address that begins with https://")
        if scheme == "http" and not is_loopback(rest):
            raise ValueError("base_url: http:// is taken for loopback only; patient data needs https://")
        return self

    def read_token(self) -> str:
        """The API token: BRIDGE_CARDIO__TOKEN, else the file's first line. Read anew each time.

        Raises SettingsError where neither is there.
        """
        if self.token is not None:
            return self.token.get_secret_value()
        if not self.token_file:
            raise SettingsError("cardio.token_file: no token; name a file that holds it, or set BRIDGE_CARDIO__TOKEN")
        try:
            token = Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as cause:
            raise SettingsError(f"cardio.token_file: {self.token_file} cannot be read: {cause}") from cause
        if not token:
            raise SettingsError(f"cardio.token_file: {self.token_file} is empty")
        return token


class ConsoleSettings(_Section):
    listen: Address = "127.0.0.1:8080"

    @model_validator(mode="after")
    def _loopback(self) -> Self:
        if not is_loopback(self.listen):
            raise ValueError("listen: the console has no sign-in yet, so it listens on loopback only")
        return self


class Settings(_Section):
    """Everything that a site can set. Sections are the tables of `bridge.toml`."""

    site: SiteSettings = Field(default_factory=SiteSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    hl7: Hl7Settings = Field(default_factory=Hl7Settings)
    dicom: DicomSettings = Field(default_factory=DicomSettings)
    orders: OrderSettings = Field(default_factory=OrderSettings)
    patients: PatientSettings = Field(default_factory=PatientSettings)
    recordings: RecordingSettings = Field(default_factory=RecordingSettings)
    mapping: MappingSettings = Field(default_factory=MappingSettings)
    cardio: CardioSettings = Field(default_factory=CardioSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)

    def mapping_document(self) -> dict[str, Any] | None:
        """The site's mapping rules as a document, None where the defaults hold.

        Raises SettingsError that names the file and the line.
        """
        return read_toml(Path(self.mapping.file), setting="mapping.file") if self.mapping.file else None


def _no_plaintext(section: str, listen: str, *, encrypted: bool, allowed: bool) -> None:
    if not encrypted and not allowed and not is_loopback(listen):
        raise ValueError(
            f"listen: {listen} can be reached from other machines without encryption; "
            f"set [{section}] insecure_plaintext = true where the network is protected by other means"
        )


def read_toml(path: Path, *, setting: str) -> dict[str, Any]:
    """A TOML file as a document. Raises SettingsError that names the setting, the file and the line."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
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
    document = read_toml(path, setting="--config") if named or path.exists() else {}
    origin = str(path) if document else "settings"
    for name, value in environment.items():
        section, separator, key = name.removeprefix("BRIDGE_").lower().partition("__")
        if name.startswith("BRIDGE_") and separator:
            table = document.setdefault(section, {})
            if not isinstance(table, dict):
                raise SettingsError(f"{origin}: {section}: a table [{section}] is expected")
            table[key] = _from_environment(value)
    try:
        return Settings.model_validate(document)
    except ValidationError as cause:
        raise SettingsError("\n".join(explained(origin, Settings, e) for e in cause.errors())) from cause


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
        return f"{origin}: {place or 'top level'}: {error['msg'].removeprefix('Value error, ')}"
    known = _keys_at(model, error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
    offer = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{origin}: {place}: unknown setting; {offer}"


def _keys_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys of the table at `path` below a model: through fields, and through the values of dictionaries."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:
            model = get_args(model)[-1]
        inner = [a for a in get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)]
        if inner and type(None) in get_args(model):
            model = inner[0]
    return list(model.model_fields)
