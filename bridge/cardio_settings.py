"""Settings of the door out: the destinations (an organization of the Cardio API each), and what goes to which."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from bridge.errors import SettingsError
from bridge.setting_kinds import Section, Size, is_loopback

DestinationName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Sender = Annotated[str, StringConstraints(pattern=r"^[^|]*\|[^|]*$")]
OWN = ("name", "routes", "destinations", "unrouted")
"""Keys of `[cardio]` that the destinations beside it do not inherit."""
_HL7 = ("receiving_application", "receiving_facility", "sender")
_DICOM = ("calling_ae_title", "called_ae_title")


class RouteSettings(Section):
    """What goes to a destination: everything that is named must agree, to the letter."""

    receiving_application: str | None = None  # MSH-5.1
    receiving_facility: str | None = None  # MSH-6.1
    sender: Sender | None = None  # MSH-3|MSH-4: HIS|WARD, HIS|* or *|WARD
    listener: str | None = None  # hl7, hl7.NAME or dicom
    calling_ae_title: str | None = None
    called_ae_title: str | None = None
    mapped: str | None = None  # what the rule `destination` of the mapping says

    @model_validator(mode="after")
    def _possible(self) -> Self:
        named = self.model_fields_set
        if not named:
            raise ValueError(f"a route names one of {', '.join(RouteSettings.model_fields)}")
        of_hl7 = named.intersection(_HL7) or (self.listener or "").startswith("hl7")
        if of_hl7 and (named.intersection(_DICOM) or self.listener == "dicom"):
            raise ValueError("a route of HL7 messages and of DICOM objects at once fits nothing; write two")
        return self


class DestinationSettings(Section):
    """One organization of the API, with the token that speaks for it, and how much it is given at a time."""

    name: DestinationName = "cardio"
    base_url: str = "https://api.cardio.ai"
    organization_path: str = ""
    token_file: str = ""
    token: SecretStr | None = None
    ca_file: str | None = None
    proxy: str | None = None
    upload_format: Literal["wfdb", "edf"] = "wfdb"
    auto_complete: bool = False
    chunk_size: Size = 2**20
    timeout: Annotated[float, Field(gt=0, le=300)] = 60.0
    in_flight: Annotated[int, Field(gt=0, le=64)] = 8
    uploads_in_flight: Annotated[int, Field(gt=0, le=64)] | None = None  # of these; none: all but one
    rate: Annotated[float, Field(ge=0)] = 0.0  # tasks per second of all dispatchers; 0: as many as there are
    unavailable_is_not_applied: bool = False  # the vendor's word that a 503 means "nothing was done"
    processed_within: Annotated[float, Field(ge=0)] = 86400.0  # seconds; later is an alarm; 0: tasks are not watched
    quiet_time: Annotated[float, Field(ge=0)] = 900.0  # seconds before "not found" may settle a doubt
    routes: tuple[RouteSettings, ...] = ()

    @model_validator(mode="after")
    def _https(self) -> Self:
        scheme, _, rest = self.base_url.partition("://")
        if scheme not in {"http", "https"} or not rest:
            raise ValueError("base_url: an address that begins with https://")
        if scheme == "http" and not is_loopback(rest):
            raise ValueError("base_url: http:// is taken for loopback only; patient data needs https://")
        return self

    @property
    def where(self) -> str:
        """Where it stands in the settings."""
        return "cardio"

    def require_ready(self) -> None:
        """Raises SettingsError where it cannot be sent to: it has no organization, or no token can be read."""
        self.read_token()
        if not self.organization_path:
            raise SettingsError(f"{self.where}.organization_path: the organization's unique path is needed")

    def read_token(self) -> str:
        """The API token: the one that is set, such as by BRIDGE_CARDIO__TOKEN, else the file's. Read anew each time.

        Raises SettingsError where neither is there.
        """
        if self.token:  # an empty one is none
            return self.token.get_secret_value()
        setting = f"{self.where}.token_file"
        if not self.token_file:
            raise SettingsError(f"{setting}: no token; name a file that holds it, or set BRIDGE_CARDIO__TOKEN")
        try:
            token = Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as cause:
            raise SettingsError(f"{setting}: {self.token_file} cannot be read: {cause}") from cause
        if not token:
            raise SettingsError(f"{setting}: {self.token_file} is empty")
        return token


class NamedDestinationSettings(DestinationSettings):
    """A further destination; `name` is what messages, logs and the console call it."""

    name: DestinationName

    @property
    def where(self) -> str:
        return f"cardio.destinations.{self.name}"


class CardioSettings(DestinationSettings):
    """The first destination, and those beside it: each inherits what it does not set itself.

    The first route that fits decides, in the order of the file. What no route fits goes to the first destination, or
    is held for a person.
    """

    unrouted: Literal["first", "hold"] = "first"
    destinations: tuple[NamedDestinationSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, document: Any) -> Any:
        if not isinstance(document, dict) or not isinstance(document.get("destinations"), list | tuple):
            return document
        own = {k: v for k, v in document.items() if k not in OWN}
        beside = [_inherited(own, x) if isinstance(x, dict) else x for x in document["destinations"]]
        return {**document, "destinations": beside}

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = [self.name, *(one.name for one in self.destinations)]
        if len(set(names)) < len(names):
            raise ValueError(f"destinations: each needs a name of its own, other than {self.name}")
        known: dict[tuple[str, str], str] = {}
        for one in self.all().values():
            same = known.setdefault((one.base_url.rstrip("/").lower(), one.organization_path), one.name)
            if same != one.name:
                raise ValueError(
                    f"destinations: {same} and {one.name} are one organization of one API, whose tasks could not be "
                    "told apart; give both routes to one of them, or name the other's organization_path"
                )
        return self

    def all(self) -> dict[str, DestinationSettings]:
        """Every destination by its name, in the order of the file."""
        return {self.name: self, **{one.name: one for one in self.destinations}}


def _inherited(own: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
    """What a destination says, over what `[cardio]` says. Of two tokens never the other one's, and no token is told to
    another address unless somebody says so.
    """
    secrets = {"token", "token_file"}
    if secrets & mine.keys():
        return {**{k: v for k, v in own.items() if k not in secrets}, **mine}
    usual = DestinationSettings.model_fields["base_url"].default
    if "base_url" in mine and mine["base_url"] != own.get("base_url", usual):
        raise ValueError(
            f"destinations: {mine.get('name', 'one')} has an address of its own; name the token_file that is meant for "
            "it, even where it is the same"
        )
    return {**own, **mine}
