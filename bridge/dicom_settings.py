"""Settings of the DICOM side: who may bring recordings, how they are taken, and what else is offered."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from bridge.hl7_settings import TlsSettings
from bridge.setting_kinds import Address, Network, Section, Size, no_plaintext

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""1 to 16 characters of the default repertoire, no backslash (PS3.5 table 6.2-1)."""

TransferSyntax = Literal["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]
"""Implicit and explicit VR little endian, and explicit VR big endian (retired). Deflated is never offered: half a
megabyte of it may unpack to a gigabyte (dicom_ecg.md §2)."""


class DicomSettings(Section):
    """The C-STORE listener. Empty lists let everybody in."""

    listen: Address = "127.0.0.1:11112"
    tls: TlsSettings | None = None
    insecure_plaintext: bool = False
    ae_title: AeTitle = "CARDIOBRIDGE"
    other_ae_titles: tuple[AeTitle, ...] = ()  # further names by which peers may call us
    calling_ae_titles: tuple[AeTitle, ...] = ()
    certificates: dict[str, tuple[AeTitle, ...]] = Field(default_factory=dict)  # common name: its calling AE titles
    allow: tuple[Network, ...] = ()  # addresses that may connect
    max_associations: Annotated[int, Field(gt=0)] = 32
    max_associations_per_peer: Annotated[int, Field(gt=0)] | None = None  # none: 8, and no limit for loopback
    max_pdu: Annotated[Size, Field(ge=4096, le=2**20)] = 131_072  # offered; what is longer than 1 MiB is cut off
    first_pdu_timeout: Annotated[float, Field(gt=0)] = 10.0  # from the connection to its association request
    pdu_timeout: Annotated[float, Field(gt=0)] = 30.0  # from the first byte of a PDU to its last
    idle_timeout: Annotated[float, Field(gt=0)] = 60.0  # between PDUs
    transfer_syntaxes: Annotated[tuple[TransferSyntax, ...], Field(min_length=1)] = (
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2",
    )
    max_resting: Size = 64 * 2**20  # data set of a 12-lead ECG
    max_object: Size = 2_200_000_000  # data set of any other: 24 h, 12 channels, 1000 Hz, 16 bits is 2.07 GB
    discard_documents: bool = False  # PDF and SR that carts send beside the waveform: accepted, noted, not kept

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        no_plaintext("dicom", self.listen, encrypted=self.tls is not None, allowed=self.insecure_plaintext)
        if self.certificates and (self.tls is None or self.tls.client_ca is None):
            raise ValueError("certificates: without tls.client_ca no peer shows a certificate; name the authority")
        return self
