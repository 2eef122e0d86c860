"""The audit trail as audit messages of DICOM (PS3.15 A.5.1; IHE ITI-20), one XML document a line.

No patient value: what a person typed as his reason stays in the store, and of a message there is its number alone.
"""

import base64
import re
import socket
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree as ET

from bridge.store import audit
from bridge.store.audit import Act

SOURCE = "cardio-bridge"
"""Who reports, and the code system of the codes that are ours."""
_EVENT = {
    "dicom": ("110103", "DICOM Instances Accessed"),
    "order": ("110109", "Order Record"),
    "patient": ("110110", "Patient Record"),
    "": ("110100", "Application Activity"),
}
_ACTION = {"discard": "D", "show": "R", "reveal": "R"}
"""EventActionCode; what changes a message is an update (U)."""
_DONE, _MINOR_FAILURE = "0", "4"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def exported(acts: Iterable[Act], *, host: str = "") -> Iterator[str]:
    """Each act as an AuditMessage."""
    host = host or socket.gethostname()
    for act in acts:
        yield ET.tostring(_message(act, host), encoding="unicode")


def _message(act: Act, host: str) -> ET.Element:
    whole = ET.Element("AuditMessage")
    identification = ET.SubElement(
        whole,
        "EventIdentification",
        EventActionCode=_ACTION.get(act.action, "U"),
        EventDateTime=act.at.isoformat(),
        EventOutcomeIndicator=_DONE if act.outcome == audit.DONE else _MINOR_FAILURE,
    )
    code, meaning = _EVENT[_kind(act)]
    _coded(identification, "EventID", code, "DCM", meaning)
    _coded(identification, "EventTypeCode", act.action, SOURCE, act.action.replace("_", " "))
    ET.SubElement(whole, "ActiveParticipant", UserID=_writable(act.actor), UserIsRequestor="true")
    ET.SubElement(
        whole,
        "ActiveParticipant",
        UserID=SOURCE,
        UserIsRequestor="false",
        NetworkAccessPointID=host,
        NetworkAccessPointTypeCode="1",  # a machine name
    )
    source = ET.SubElement(whole, "AuditSourceIdentification", AuditSourceID=f"{SOURCE}@{host}")
    _coded(source, "AuditSourceTypeCode", "4", "", "Application server process")
    if act.message_id is not None:
        _object(whole, f"message/{act.message_id}", "2", "20", ("message", SOURCE, "message of the bridge"), act)
    if act.sop_instance_uid:
        _object(whole, act.sop_instance_uid, "2", "3", ("sop-instance", SOURCE, "SOP Instance UID"), None)
    return whole


def _kind(act: Act) -> str:
    if act.kind != "hl7":
        return act.kind
    return "patient" if act.type.startswith("ADT") else "order"


def _object(
    whole: ET.Element, number: str, type_code: str, role: str, id_type: tuple[str, str, str], act: Act | None
) -> None:
    """What was acted on, by its own number: a system object (2), as a job (20) or a report (3), RFC 3881 §5.5."""
    made = ET.SubElement(
        whole,
        "ParticipantObjectIdentification",
        ParticipantObjectID=number,
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(made, "ParticipantObjectIDTypeCode", *id_type)
    if act is None:
        return
    ET.SubElement(made, "ParticipantObjectName").text = _writable(act.type)
    for name in ("state", "task"):
        if act.detail.get(name):
            said = str(act.detail[name]).encode()
            ET.SubElement(made, "ParticipantObjectDetail", type=name, value=_base64(said))
    ET.SubElement(made, "ParticipantObjectDetail", type="hash", value=_base64(act.hash.encode()))


def _writable(text: str) -> str:
    """Without what no XML document may hold (XML 1.0 §2.2): a type is what a sender wrote into MSH-9."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _base64(value: bytes) -> str:
    """The schema has details in base64 (xsd:base64Binary)."""
    return base64.b64encode(value).decode("ascii")


def _coded(parent: ET.Element, name: str, code: str, system: str, meaning: str) -> None:
    """A coded value. The table of source types is the schema's own, and needs no code system."""
    said = {"csd-code": code, **({"codeSystemName": system, "originalText": meaning} if system else {})}
    ET.SubElement(parent, name, said)
