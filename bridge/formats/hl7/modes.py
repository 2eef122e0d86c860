"""Acknowledgement modes: which answers a message asks for (HL7 v2.5.1 §2.9.2, §2.9.3, table 0155)."""

from dataclasses import dataclass
from typing import Literal

from bridge.domain.verdict import AckCode
from bridge.formats.hl7.header import Header

ACCEPT_CODE = {AckCode.AA: AckCode.CA, AckCode.AE: AckCode.CE, AckCode.AR: AckCode.CR}
_CONDITIONS = frozenset({"AL", "NE", "ER", "SU"})


@dataclass(frozen=True, slots=True)
class Mode:
    """How a message is answered. `accept` and `application` are conditions of table 0155: AL, NE, ER, SU.

    `apart`: the application answer is a message of its own, to the return address. Where it is not, there is one
    answer on the connection, by `application`.
    """

    accept: str = "NE"
    application: str = "AL"
    apart: bool = False


def mode_of(header: Header, ack_mode: Literal["original", "enhanced", "auto"], *, return_address: bool) -> Mode:
    """The mode of one message under the listener's rule.

    `original`: one application answer, whatever MSH-15 and MSH-16 say: most senders fill them by habit. `auto`: by the
    fields; both empty is original mode. `enhanced`: by the fields, an empty one being AL. An application answer that
    is asked for and has no return address goes back on the connection, in place of the accept one.
    """
    if ack_mode == "original":
        return Mode()
    accept, application = header.accept_ack.upper(), header.application_ack.upper()
    if ack_mode == "auto" and not accept and not application:
        return Mode()
    unsaid = "AL" if ack_mode == "enhanced" else "NE"
    accept = accept if accept in _CONDITIONS else unsaid
    application = application if application in _CONDITIONS else unsaid
    if application != "NE" and not return_address:
        return Mode("NE", application)
    return Mode(accept, application, apart=True)


def wanted(condition: str, code: AckCode) -> bool:
    """Whether an answer with this code is asked for."""
    good = code in {AckCode.AA, AckCode.CA}
    return condition == "AL" or (condition == "SU" and good) or (condition == "ER" and not good)
