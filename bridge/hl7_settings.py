"""Settings of the HL7 side: listeners, what their senders need otherwise, and the codes that answers carry."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from bridge.setting_kinds import Address, Codec, Network, Section, Size, Zone, no_plaintext


class TlsSettings(Section):
    """Certificate and key of a listener; `client_ca` asks for client certificates from that authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class ClientTlsSettings(Section):
    """How we speak TLS to a peer: whom we trust, and the certificate that we show where it asks for one."""

    ca: Path | None = None  # none: the host's trust store
    certificate: Path | None = None
    key: Path | None = None


class AnswerCodes(Section):
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


class SenderSettings(Section):
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


class ListenerSettings(Section):
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
        no_plaintext("hl7", self.listen, encrypted=self.tls is not None, allowed=self.insecure_plaintext)
        if self.return_address:
            encrypted = self.return_tls is not None
            no_plaintext("hl7", self.return_address, encrypted=encrypted, allowed=self.insecure_plaintext)
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
