"""What the MSH segment says (HL7 v2.5.1 §2.15.9): all that an answer needs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2. `truncation` is empty below 2.7."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """MSH, decoded, first components. `raw_fields[n]` is MSH-n byte for byte.

    `control_id` is MSH-10 trimmed; `raw_control_id` is what MSA-2 must give back. `notes` are the tolerances used.
    """

    delimiters: Delimiters
    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    date_time: str
    type: str
    trigger: str
    structure: str
    control_id: str
    raw_control_id: bytes
    processing_id: str
    version: str
    accept_ack: str
    application_ack: str
    charsets: tuple[str, ...]
    raw_fields: tuple[bytes, ...]
    notes: tuple[str, ...] = ()

    @property
    def field_separator(self) -> str:
        return self.delimiters.field

    @property
    def component(self) -> str:
        return self.delimiters.component

    @property
    def repetition(self) -> str:
        return self.delimiters.repetition

    @property
    def escape(self) -> str:
        return self.delimiters.escape

    @property
    def subcomponent(self) -> str:
        return self.delimiters.subcomponent
