"""Settings of the console: where it listens, who may sign in, and whom alarms are told to."""

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from bridge.errors import SettingsError
from bridge.hl7_settings import TlsSettings
from bridge.setting_kinds import Address, Section, is_loopback, no_plaintext

Host = Annotated[str, StringConstraints(pattern=r"^(https://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?$")]
"""`name`, `name:port`, or `https://name` where a proxy in front of the console speaks TLS for it."""
RoleName = Literal["viewer", "operator", "admin"]


class OidcSettings(Section):
    """Sign-in by OpenID Connect: the provider, what we are there, and which of its groups is which role."""

    issuer: str
    client_id: str
    client_secret_file: Path
    redirect_url: str  # of ours, as the provider knows it: https://HOST/sign-in/oidc/back
    scope: str = "openid profile"  # where the provider needs another one to tell the groups
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    roles: dict[str, RoleName]  # by group; the highest counts, and nobody without one comes in
    ca: Path | None = None  # none: the host's trust store

    @field_validator("issuer", "redirect_url")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        if is_protected(value):
            return value
        raise ValueError("an https:// address; http:// is taken for loopback only")

    @field_validator("scope")
    @classmethod
    def _of_openid(cls, value: str) -> str:
        if "openid" in value.split():
            return value
        raise ValueError("scopes, openid among them, such as 'openid profile groups'")

    def read_secret(self) -> str:
        """What we prove with that we are the client. Raises SettingsError."""
        try:
            secret = self.client_secret_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as cause:
            raise SettingsError(
                f"console.oidc.client_secret_file: {self.client_secret_file} cannot be read: {cause}"
            ) from cause
        if not secret:
            raise SettingsError(f"console.oidc.client_secret_file: {self.client_secret_file} is empty")
        return secret

    def trust(self) -> ssl.SSLContext:
        """TLS 1.2 or later, the provider verified by the host's trust store or by `ca`. Raises SettingsError."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ssl.SSLError) as cause:
            raise SettingsError(f"console.oidc.ca: {self.ca} cannot be used: {cause}") from cause
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def is_protected(address: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    scheme, _, rest = address.partition("://")
    return bool(rest) and (scheme == "https" or (scheme == "http" and is_loopback(rest)))


class ConsoleSettings(Section):
    """Where people look. `sign_in = false` is for the demo, on loopback."""

    listen: Address = "127.0.0.1:8080"
    tls: TlsSettings | None = None
    insecure_plaintext: bool = False
    sign_in: bool = True
    idle_timeout: Annotated[float, Field(gt=0, le=86_400)] = 900.0  # seconds without a click until a sign-out
    longest_session: Annotated[float, Field(gt=0, le=604_800)] = 43_200.0
    hosts: tuple[Host, ...] = ()  # names that it is called by besides its address; empty: any, outside loopback
    oidc: OidcSettings | None = None

    @model_validator(mode="after")
    def _closed(self) -> Self:
        no_plaintext("console", self.listen, encrypted=self.tls is not None, allowed=self.insecure_plaintext)
        if not self.sign_in and not is_loopback(self.listen):
            raise ValueError("sign_in: false is for loopback only; this console can be reached from other machines")
        return self
