"""The tables of `deploy/dicom-conformance.md`, read from the code. What a table cannot say for itself is said here.

A word that is missing is a KeyError, and one that is left over fails the test.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydicom.charset import python_encoding
from pydicom.uid import UID

from bridge.dicom_settings import CommitmentSettings, DicomSettings, WorklistSettings
from bridge.formats.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.mapping import defaults
from bridge.receive.dicom import association, negotiation, operations, pdus, places, request
from bridge.receive.dicom.documents import DOCUMENT_SOP_CLASSES
from bridge.receive.dicom.intake import Status
from tests.interface.page import code, table

PAGE = Path(__file__).parents[2] / "deploy" / "dicom-conformance.md"

WHEN = {
    operations.VERIFICATION: "always",
    **dict.fromkeys(ECG_SOP_CLASSES, "always"),
    **dict.fromkeys(DOCUMENT_SOP_CLASSES, "`discard_documents = true`; taken, noted, and not kept"),
    operations.MODALITY_WORKLIST: "`worklist.enabled = true`",
    operations.STORAGE_COMMITMENT: "`commitment.enabled = true`",
}

REJECTIONS = {
    "NO_ROOM": "the payload store is below its watermark, and objects are proposed; it goes away by itself",
    "TOO_MANY": "`max_associations` or `max_associations_per_peer`",
    "NOT_ALLOWED": "the address is not in `allow`",
    "CALLING_UNKNOWN": "the calling AE title is not in `calling_ae_titles`",
    "CALLING_OF_ANOTHER": "the calling AE title is not one of the peer's certificate",
    "CALLED_UNKNOWN": "the called AE title is neither `ae_title` nor one of `other_ae_titles`",
    "CONTEXT_UNKNOWN": "another application context than that of DICOM",
    "VERSION_UNKNOWN": "another version of the protocol",
}

ABORTS = {
    "NOT_SPECIFIED": "nothing came for `idle_timeout`, a PDU was not whole in `pdu_timeout`, or it answers nothing",
    "UNRECOGNIZED_PDU": "a PDU of no type",
    "UNEXPECTED_PDU": "a PDU that has no place in this state",
    "UNRECOGNIZED_PARAMETER": "not used",
    "UNEXPECTED_PARAMETER": "not used",
    "INVALID_PARAMETER": "lengths that do not add up, a context that was not accepted, pieces of two messages mixed",
}

STATUSES = {
    "SUCCESS": "file and row are on stable storage; also where the object is here already, and where it is held for a "
    "person (it cannot be scaled, contradicts its order, or its UID is another object's): never send it again",
    "OUT_OF_RESOURCES": "no room, or the store cannot be written, or longer than `max_resting` or `max_object`: later",
    "DOES_NOT_MATCH": "SOP Class UID or SOP Instance UID inside are not those of the request; kept to be looked at",
    "CANNOT_UNDERSTAND": "cut short, no waveform, or samples that cannot be told apart; Error Comment names the "
    "attribute; kept to be looked at, and never a task",
}
OTHER_STATUSES = (
    (operations.INVALID_INSTANCE, "a SOP Instance UID of more than 64 characters, or with ones that cannot be printed"),
    (operations.NOT_SUPPORTED, "the SOP class is not that of its presentation context"),
    (operations.MISTYPED, "an operation without the instance UID or the data set that it needs"),
    (operations.NO_SUCH_OPERATION, "an operation that its SOP class does not have, or not here"),
)

SETTINGS = {
    "listen": "host:port",
    "tls": "certificate, key, client_ca; with client_ca only its certificates are let in",
    "insecure_plaintext": "plaintext outside loopback, protected by other means",
    "ae_title": "our AE title",
    "other_ae_titles": "further names by which peers may call us",
    "calling_ae_titles": "who may call; empty: anybody",
    "certificates": "common name of a certificate: the calling AE titles it may use; nobody else may call then",
    "allow": "addresses and networks that may connect; empty: any",
    "max_associations": "at once, in all",
    "max_associations_per_peer": f"at once, of one address; not set: {places.PER_PEER}, and no limit for loopback",
    "max_pdu": "bytes of a PDU that we ask for",
    "first_pdu_timeout": "seconds from the connection to its association request",
    "pdu_timeout": "seconds from the first byte of a PDU to its last, and for an answer to be taken",
    "idle_timeout": "seconds between PDUs",
    "transfer_syntaxes": "of the ECG classes, the one that we like best first",
    "max_resting": "bytes of a 12-lead ECG's data set",
    "max_object": "bytes of any other data set",
    "discard_documents": "PDF, structured reports and presentation states are taken, noted and not kept",
    "worklist": "below",
    "commitment": "below",
    "peers": 'by AE title: `address = "host:port"` and `tls`, where it hears of its storage commitments',
}
WORKLIST_SETTINGS = {
    "enabled": "offered; needs `calling_ae_titles` or `tls.client_ca`, since it names patients",
    "days_back": "how long an order stands in the list",
    "days_ahead": "how early an order that is planned for later is told",
    "most_answers": "to one query; where more match, the last status is A700",
    "modality": "what the steps say",
    "station_ae_title": "of orders that name no station; not set: whichever asks",
    "accession_number": "which number of the order is told as Accession Number, the first that there is",
    "unplanned": "the start of an order that says no time",
}
COMMITMENT_SETTINGS = {
    "enabled": "offered to the peers that have an address in `peers`",
    "max_instances": "of one request",
    "delay": "seconds from a request to its report",
    "timeout": "seconds of a connection, and of a report on it",
    "refusals": "of one report by its peer; then it is held for a person",
    "give_up_after": "seconds that a report is tried where its peer cannot be reached",
}

FIELDS = {
    "patient_id": defaults.PATIENT_ID,
    "patient_last_name, patient_first_name": defaults.PATIENT_NAME,
    "patient_gender": defaults.PATIENT_GENDER,
    "patient_birth_date": defaults.PATIENT_BIRTH_DATE,
    "patient_age": defaults.PATIENT_AGE,
    "patient_height": defaults.PATIENT_HEIGHT,
    "patient_weight": defaults.PATIENT_WEIGHT,
    "investigation_id": defaults.INVESTIGATION_ID,
    "device_id": defaults.DEVICE_ID,
    "indications": defaults.INDICATIONS,
    "the order's placer number": defaults.PLACER,
    "the order's filler number": defaults.FILLER,
    "the order's accession number": defaults.ACCESSION,
    "the order's procedure number": defaults.PROCEDURE,
}


def everything() -> dict[str, tuple[str, ...]]:
    """What is offered where all of it is switched on."""
    on: Any = object()
    return operations.Services(DicomSettings(discard_documents=True), on, on, on).offers()


def classes() -> str:
    return table(
        ("SOP class", "UID", "role", "transfer syntaxes", "offered"),
        (
            (UID(uid).name if UID(uid).name != uid else DOCUMENT_SOP_CLASSES[uid], code(uid), "SCP",
             ", ".join(UID(s).name for s in syntaxes), WHEN[uid])
            for uid, syntaxes in everything().items()
        ),
    )  # fmt: skip


def identification() -> str:
    return table(
        ("what", "value"),
        (
            ("Application Context Name", code(negotiation.APPLICATION_CONTEXT)),
            ("Implementation Class UID", code(IMPLEMENTATION_CLASS_UID)),
            ("Implementation Version Name", code(IMPLEMENTATION_VERSION_NAME)),
        ),
    )


def rejections() -> str:
    found = {name: value for name, value in vars(negotiation).items() if isinstance(value, negotiation.Rejection)}
    return table(
        ("result", "source", "reason", "when", "in the log"),
        (
            (str(r.result), str(r.source), str(r.diagnostic), REJECTIONS[name], code(r.why))
            for name, r in sorted(found.items(), key=lambda one: (one[1].result, one[1].source, one[1].diagnostic))
        ),
    )


def aborts() -> str:
    return table(("reason", "when"), ((f"{r.value} {r.name.lower()}", ABORTS[r.name]) for r in pdus.AbortReason))


def statuses() -> str:
    own = [(f"{s.value:04X}", STATUSES[s.name]) for s in Status]
    return table(("status", "when"), [*own, *((f"{number:04X}", words) for number, words in OTHER_STATUSES)])


def _settings(model: type[BaseModel], words: dict[str, str]) -> str:
    return table(
        ("setting", "default", "what it is"),
        ((code(name), code(_shown(field.get_default(call_default_factory=True))), words[name])
         for name, field in model.model_fields.items()),
    )  # fmt: skip


def _shown(value: Any) -> str:
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{one}"' for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def limits() -> str:
    return table(
        ("limit", "value"),
        (
            ("an association request", f"{request.LONGEST:,} bytes"),
            ("any other PDU", f"{pdus.MOST:,} bytes"),
            ("an identifier, or the information of an action", f"{operations.MOST_GATHERED:,} bytes"),
            (
                "connections that ask for nothing, in all",
                f"{places.OUTSIDE}; then one goes, of the address that has most there",
            ),
            ("connections that ask for nothing, of one address", f"{places.OUTSIDE_OF_PEER}; loopback apart"),
            ("TLS handshake", f"{association.HANDSHAKE:g} seconds"),
            ("ARTIM: to close after the last PDU, or to answer our release", f"{association.PARTING:g} seconds"),
            ("operations at once on an association", "1"),
        ),
    )


def attributes() -> str:
    return table(
        ("field of the task", "attributes, the first that has a value"),
        ((name, ", ".join(code(source) for source in sources["dicom"])) for name, sources in FIELDS.items()),
    )


def character_sets() -> str:
    return ", ".join(code(term) for term in python_encoding if term) + "\n"


PARTS = {
    "sop-classes": classes,
    "identification": identification,
    "rejections": rejections,
    "aborts": aborts,
    "statuses": statuses,
    "settings": lambda: _settings(DicomSettings, SETTINGS),
    "worklist-settings": lambda: _settings(WorklistSettings, WORKLIST_SETTINGS),
    "commitment-settings": lambda: _settings(CommitmentSettings, COMMITMENT_SETTINGS),
    "limits": limits,
    "attributes": attributes,
    "character-sets": character_sets,
}
