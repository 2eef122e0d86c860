"""Settings of the console: where it listens, who may sign in, and whom alarms are told to."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from bridge.hl7_settings import TlsSettings
from bridge.setting_kinds import Address, Section, is_loopback, no_plaintext

RoleName = Literal["viewer", "operator", "admin"]


class OidcSettings(Section):
    """Sign-in by OpenID Connect: the provider, what we are there, and which of its groups is which role."""

    issuer: str
    client_id: str
    client_secret_file: Path
    redirect_url: str  # of ours, as the provider knows it: https://HOST/sign-in/oidc/back
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    roles: dict[str, RoleName]  # by group; the highest counts, and nobody without one comes in
    ca: Path | None = None  # none: the host's trust store

    @field_validator("issuer", "redirect_url")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        if value.startswith("https://") or (value.startswith("http://") and is_loopback(value.removeprefix("http://"))):
            return value.rstrip("/")
        raise ValueError("an https:// address; http:// is taken for loopback only")


class ConsoleSettings(Section):
    """Where people look. `sign_in = false` is for the demo, on loopback."""

    listen: Address = "127.0.0.1:8080"
    tls: TlsSettings | None = None
    insecure_plaintext: bool = False
    sign_in: bool = True
    idle_timeout: Annotated[float, Field(gt=0, le=86_400)] = 900.0  # seconds without a click until a sign-out
    longest_session: Annotated[float, Field(gt=0, le=604_800)] = 43_200.0
    hosts: tuple[str, ...] = ()  # names that the console is called by besides its address; empty: any
    oidc: OidcSettings | None = None

    @model_validator(mode="after")
    def _closed(self) -> Self:
        no_plaintext("console", self.listen, encrypted=self.tls is not None, allowed=self.insecure_plaintext)
        if not self.sign_in and not is_loopback(self.listen):
            raise ValueError("sign_in: false is for loopback only; this console can be reached from other machines")
        return self
