"""Settings of the DICOM side: who may bring recordings, how they are taken, and what else is offered."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from bridge.hl7_settings import ClientTlsSettings, TlsSettings
from bridge.setting_kinds import Address, Network, Section, Size, is_loopback, no_plaintext

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""1 to 16 characters of the default repertoire, no backslash (PS3.5 table 6.2-1)."""

TransferSyntax = Literal["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]
"""Implicit and explicit VR little endian, and explicit VR big endian (retired). Deflated is never offered: half a
megabyte of it may unpack to a gigabyte (dicom_ecg.md §2)."""


class PeerSettings(Section):
    """How a peer is reached, by its AE title: where it hears of its storage commitment."""

    address: Address
    tls: ClientTlsSettings | None = None


class CommitmentSettings(Section):
    """Storage commitment for peers that have an address in `[dicom.peers]`; nobody else could be told."""

    enabled: bool = False
    max_instances: Annotated[int, Field(gt=0, le=6000)] = 2000  # of one request; 6,000 are 18,000 elements
    delay: Annotated[float, Field(ge=0, le=600)] = 1.0  # from the request to its report: its association ends first
    timeout: Annotated[float, Field(gt=0, le=300)] = 30.0  # of a connection, and of a report on it
    refusals: Annotated[int, Field(gt=0, le=100)] = 3  # of one report by its peer; then it is held for a person
    give_up_after: Annotated[float, Field(gt=0)] = 604_800.0  # seconds; a peer that cannot be reached for so long


class WorklistSettings(Section):
    """The order book as a Modality Worklist. It names patients, so it is off until somebody wants it."""

    enabled: bool = False
    days_back: Annotated[float, Field(ge=0, le=365)] = 7.0  # since an order came, or was planned for
    days_ahead: Annotated[float, Field(ge=0, le=365)] = 1.0
    most_answers: Annotated[int, Field(gt=0, le=10_000)] = 500  # to one query; the newest are told
    modality: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_ ]{1,16}$")] = "ECG"
    station_ae_title: AeTitle | None = None  # of orders that name no station; none: whichever asks
    accession_number: tuple[Literal["accession", "filler", "placer"], ...] = ("accession", "filler", "placer")
    unplanned: Literal["arrival", "today"] = "arrival"  # the start of an order that says no time


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
    worklist: WorklistSettings = Field(default_factory=WorklistSettings)
    commitment: CommitmentSettings = Field(default_factory=CommitmentSettings)
    peers: dict[AeTitle, PeerSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        no_plaintext("dicom", self.listen, encrypted=self.tls is not None, allowed=self.insecure_plaintext)
        mutual = self.tls is not None and self.tls.client_ca is not None
        if self.worklist.enabled and not mutual and not self.calling_ae_titles:
            raise ValueError(
                "worklist: it names patients; say who may ask in calling_ae_titles, or have peers show a certificate "
                "with tls.client_ca"
            )
        if self.certificates and not mutual:
            raise ValueError("certificates: without tls.client_ca no peer shows a certificate; name the authority")
        if self.commitment.enabled and not self.peers:
            raise ValueError('commitment: name the address of each peer that may ask, in [dicom.peers."AE TITLE"]')
        for title, peer in self.peers.items():
            if peer.tls is None and not self.insecure_plaintext and not is_loopback(peer.address):
                raise ValueError(
                    f"peers: {title}: {peer.address} would be told without encryption; give it tls, "
                    "or set insecure_plaintext = true where the network is protected by other means"
                )
        return self
