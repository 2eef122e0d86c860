"""The tables of the page, read from the code. What a table cannot say for itself stands here in words.

A word that is missing here is a KeyError, and one that is left over fails the test: no control, event, code or setting
can come or go without its line on the page.
"""

from datetime import UTC, datetime
from typing import Any, get_args

from bridge.dispatch import understand
from bridge.domain.admission import EVENTS, VISIT_STATUS, Admission
from bridge.domain.order import CONTROLS, STATUS_ACTIONS, Action
from bridge.domain.verdict import CONDITION_TEXT, AckCode, OrderReply, Verdict
from bridge.formats.hl7 import charset
from bridge.formats.hl7.answer import build
from bridge.formats.hl7.mllp import Frame, FrameDecoder
from bridge.formats.hl7.reader import read
from bridge.mapping import defaults
from bridge.mapping.rules import Patient
from bridge.settings import AnswerCodes, ListenerSettings, SenderSettings
from tests.interface.page import code, table

VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2")

ACTIONS = {
    Action.CREATE: "a new order: its task is made",
    Action.CHANGE: "change: what is not sent yet goes out changed, a task that is made stays; an unknown order is made",
    Action.CANCEL: "cancel or stop: in time while no task is made; later recordings do not match the order",
    Action.REPLACE: "the order that goes; the one that comes stands behind it as RO",
    Action.HOLD: "what is not sent yet waits",
    Action.RELEASE: "what waited goes on",
    Action.STATUS: "a status told to us; by ORC-5 it may be a cancel or a hold (below), else it counts as a change",
    Action.ASK: "the status is asked for; the answer has it in ORC-5: SC, IP, HD or CA",
    Action.NOTE: "an answer or a result: noted, never acted on",
}  # fmt: skip

ADMISSIONS = {
    Admission.UPDATE: "patient record and visit",
    Admission.MERGE: "merge: MRG-1 goes into PID-3",
    Admission.RENAME: "the same patient, MRG-1 becomes PID-3",
    Admission.VISIT: "the number of a visit or account changes (MRG-5 to PV1-19)",
    Admission.MOVE: "held for a person: `patients.moves`",
    Admission.DELETE: "refused, or the patient is marked inactive: `patients.deletes`",
    Admission.NOTE: "noted",
}

EVENT_NAMES = {
    "A01": "admit", "A02": "transfer", "A03": "discharge", "A04": "register", "A05": "pre-admit",
    "A06": "outpatient to inpatient", "A07": "inpatient to outpatient", "A08": "update patient", "A09": "departing",
    "A10": "arriving", "A11": "cancel admit", "A12": "cancel transfer", "A13": "cancel discharge",
    "A18": "merge patient (up to 2.6)", "A23": "delete a visit", "A24": "link", "A27": "cancel pending admit",
    "A28": "add person", "A29": "delete person", "A30": "merge person", "A31": "update person",
    "A34": "merge, patient id only", "A35": "merge, account only", "A36": "merge, patient id and account",
    "A37": "unlink", "A38": "cancel pre-admit", "A39": "merge person, patient id",
    "A40": "merge patient, identifier list", "A41": "merge account", "A42": "merge visit",
    "A43": "move patient information", "A44": "move account", "A45": "move visit", "A46": "change patient id",
    "A47": "change identifier list", "A49": "change account number", "A50": "change visit number",
    "A51": "change alternate visit id",
}  # fmt: skip

CASES = {
    "unsupported_type": "MSH-9.1 is no type that is taken here",
    "unsupported_event": "the type is taken, the event is not; AA: kept and passed over",
    "processing_id": "MSH-11 is not the one that this listener takes",
    "unknown_version": "MSH-12 is empty or no version; AA: read as 2.5, with a warning",
    "missing_field": "no patient identifier, no order number, no order",
    "bad_value": "a value that cannot be; AA: left out, with a warning",
    "unknown_code": "a code that its table does not have; AA: left out, with a warning",
    "unknown_control": "ORC-1 is none that is handled",
    "unknown_order": "a change, cancel or question about an order that is not known, or is another patient's",
    "duplicate_order": "the order number was used for another order",
    "refused_patient": "a merge or deletion that is not done",
    "api_refused": "the Cardio API refused the order; its words are in ERR-7",
    "not_kept": "nothing was kept: no room, or the store is not there; send it again",
}

SETTINGS = {
    "listen": "host:port",
    "tls": "certificate, key, client_ca; with client_ca only its certificates are let in",
    "insecure_plaintext": "plaintext outside loopback, protected by other means",
    "allow": "addresses and networks that may connect; empty: any",
    "reply_budget": "seconds that an answer waits for its task",
    "reply_late": "then: accept (the ids follow), or hold (silence and a closed connection until the resend)",
    "order_response": "response: ORR, ORG, ORI; ack: ACK, ids in MSA-3 only",
    "ack_mode": "original, enhanced, auto (by MSH-15 and MSH-16)",
    "processing_ids": "MSH-11 that is taken",
    "return_address": "host:port of the HIS for our own messages; empty: none are sent",
    "return_tls": "ca, certificate, key, for our own connection",
    "return_timeout": "seconds for the answer to a message of ours",
    "return_refusals": "AE, AR, CE or CR of one message of ours, then it is held for a person",
    "order_filter": "codes of OBR-4, OBR-24 or IPC-5 that are ours; empty: every order",
    "fallback_charset": "of text that is neither what MSH-18 says nor UTF-8",
    "time_zone": "of times without an offset; none: `site.time_zone`",
    "mapping": "a mapping file of this listener alone",
    "codes": "MSA-1 by case (above)",
    "senders": "overrides by MSH-3 and MSH-4: `HIS|WARD`, `HIS|*`, `*|WARD`",
    "max_frame": "bytes of a frame; one byte more is answered AR, and the connection ends",
    "max_segments": "segments of a message",
    "max_fields": "fields of a segment",
    "max_repetitions": "repetitions of a field",
    "frame_timeout": "seconds from the first byte of a frame to its last",
    "idle_timeout": "seconds without a frame, then the connection is closed",
    "max_connections": "connections at once",
    "max_connections_per_peer": "of one address; none: 64, and no limit for loopback",
    "pipeline": "messages of one connection whose answers may be due at once",
    "silence_alarm": "seconds without a message until an alarm; 0: none",
}

_TABLE_0211 = (
    "ASCII", *(f"8859/{n}" for n in (*range(1, 10), 15)), "ISO IR6", "ISO IR14", "ISO IR87", "ISO IR159",
    "GB 18030-2000", "KS X 1001", "CNS 11643-1992", "BIG-5", "UNICODE", "UNICODE UTF-8",
)  # fmt: skip
_SAID = {
    "bridge_euc_tw": "EUC-TW",
    "iso2022:ascii,ir87": "ISO 2022, ASCII and IR 87",
    "iso2022:ascii,ir159": "ISO 2022, ASCII and IR 159",
}
_BESIDES = ("UTF-8", "8859-1", "ISO-8859-15", "CP1250", "WINDOWS-1252", "SHIFT_JIS", "GBK", "EUC-KR")

_HEAD = b"MSH|^~\\&|HIS|WARD|CARDIO|BRIDGE|20260914081500+0200||ADT^A08|1|P|2.5.1"
_PID = b"PID|1||4711^^^KH^MR||Muster^Max\r"
_GOOD = _HEAD + b"\r" + _PID
_TOLERATED = {
    "junk before a frame, up to 1024 bytes": b"junk\x0b" + _GOOD + b"\x1c\r",
    "CR, LF or NUL between frames": b"\r\n\x00\x0b" + _GOOD + b"\x1c\r",
    "VT twice": b"\x0b\x0b" + _GOOD + b"\x1c\r",
    "FS twice": b"\x0b" + _GOOD + b"\x1c\x1c\r\x0b" + _GOOD + b"\x1c\r",
    "no CR after FS": b"\x0b" + _GOOD + b"\x1c\x0b" + _GOOD + b"\x1c\r",
    "a frame that begins anew: VT and MSH inside it": b"\x0b" + _GOOD + b"\x0b" + _GOOD + b"\x1c\r",
    "UTF-8 byte order mark": b"\x0b\xef\xbb\xbf" + _GOOD + b"\x1c\r",
    "blank lines before MSH": b"\x0b\r\n" + _GOOD + b"\x1c\r",
    "LF or CRLF as segment end": b"\x0b" + _GOOD.replace(b"\r", b"\r\n") + b"\x1c\r",
    "blank lines": b"\x0b" + _GOOD.replace(b"\r", b"\r\r") + b"\x1c\r",
    "no CR behind the last segment": b"\x0b" + _GOOD[:-1] + b"\x1c\r",
    "a line without a segment name": b"\x0b" + _GOOD + b"and so on\r\x1c\r",
    "MSH-2 of two or three characters": b"\x0b" + _GOOD.replace(b"^~\\&", b"^~") + b"\x1c\r",
    "MSH-18 empty, text not ASCII": b"\x0b" + _GOOD.replace(b"Max", "Mäx".encode("cp1252")) + b"\x1c\r",
    "MSH-18 of an 8-bit set, text UTF-8": b"\x0b"
    + (_HEAD + b"||||||8859/1\r" + _PID).replace(b"Max", "Mäx".encode()) + b"\x1c\r",
    "MSH-18 that names no set": b"\x0b" + (_HEAD + b"||||||CAN\r" + _PID) + b"\x1c\r",
    "a lone or unknown escape": b"\x0b" + _GOOD.replace(b"Max", b"Max\\x") + b"\x1c\r",
}  # fmt: skip


def reply_types() -> str:
    """What each type is answered with, by version."""
    rows = []
    for sent in ("ORM^O01", "OMG^O19", "OMI^O23", "ADT^A08"):
        by_version: dict[str, list[str]] = {}
        for version in VERSIONS:
            by_version.setdefault(_answered(sent, version), []).append(version)
        rows += [(code(sent), _span(versions), code(answer)) for answer, versions in by_version.items()]
    return table(("message", "MSH-12", "MSH-9 of the answer"), rows)


def _answered(sent: str, version: str) -> str:
    message = read(f"MSH|^~\\&|HIS|WARD|||20260914||{sent}|1|P|{version}\rORC|NW|1\r".encode())
    verdict = Verdict(AckCode.AA, orders=(OrderReply("OK", (4711,)),))
    return build(message, verdict, control_id="1", now=datetime.now(UTC)).decode().split("|")[8].partition("\r")[0]


def _span(versions: list[str]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"


def controls() -> str:
    """ORC-1: what each asks for, and its answers."""
    rows: dict[tuple[Action, str, str], list[str]] = {}
    for control, known in CONTROLS.items():
        rows.setdefault((known.action, known.done, known.unable), []).append(control)
    lines = [
        (", ".join(names), ACTIONS[action], code(done), code("" if action is Action.NOTE else unable))
        for (action, done, unable), names in rows.items()
    ]
    return table(("ORC-1", "asks", "done", "not done"), lines)


def statuses() -> str:
    """ORC-5 of a status that says more than that the order goes on."""
    return table(("ORC-5 with SC", "counts as"), [(code(s), a.value) for s, a in STATUS_ACTIONS.items()])


def events() -> str:
    """The ADT events."""
    rows = [(code(e), EVENT_NAMES[e], ADMISSIONS[EVENTS[e]], VISIT_STATUS.get(e, "")) for e in sorted(EVENTS)]
    return table(("event", "is", "does", "visit is then"), rows)


def codes() -> str:
    """MSA-1 by case, with the values that a site may set."""
    rows = [
        (code(name), code(field.default), ", ".join(get_args(field.annotation)), CASES[name])
        for name, field in AnswerCodes.model_fields.items()
    ]
    return table(("`codes` key", "default", "may be", "case"), rows)


def conditions() -> str:
    """ERR-3."""
    return table(("ERR-3", "text"), [(code(str(c.value)), text) for c, text in CONDITION_TEXT.items() if c.value])


def chains() -> str:
    """The default source of each task field."""
    names = ("PATIENT_ID", "PATIENT_NAME", "PATIENT_GENDER", "PATIENT_BIRTH_DATE", "PATIENT_AGE", "PATIENT_HEIGHT",
             "PATIENT_WEIGHT", "INVESTIGATION_ID", "DEVICE_ID", "INDICATIONS")  # fmt: skip
    rows = [(code(name.lower()), _chain(getattr(defaults, name))) for name in names]
    return table(("task field", "sources, the first that has a value"), rows)


def numbers() -> str:
    """What counts as a number of an order."""
    rows = [(name.lower(), _chain(getattr(defaults, name))) for name in ("PLACER", "FILLER", "ACCESSION", "PROCEDURE")]
    return table(("number", "stands in"), rows)


def _chain(sources: Any) -> str:
    return ", ".join(map(code, sources["hl7"]))


def content() -> str:
    """What makes an order another order."""
    return "Compared: " + ", ".join(map(code, understand._WHAT_IS_ORDERED)) + ", and the patient, merges followed.\n"


def identifier_types() -> str:
    """CX.5, best first."""
    return "Types (PID-3.5), best first: " + ", ".join(map(code, Patient().types)) + ".\n"


def genders() -> str:
    """PID-8."""
    return table(("PID-8", "patient_gender"), [(code(sent), code(word)) for sent, word in defaults.GENDER.items()])


def charsets() -> str:
    """MSH-18, by table 0211 and besides."""
    rows = []
    for names, of in ((_TABLE_0211, "table 0211"), (_BESIDES, "seen besides")):
        rows += [(code(n), code(_codec(n)), of) for n in names]
    return table(("MSH-18", "read as", "of"), rows)


def _codec(name: str) -> str:
    codec = charset.declared((name,))
    if codec is None:
        raise ValueError(f"{name} is not read")
    return _SAID.get(codec, codec)


def tolerances() -> str:
    """What is read all the same, each with the note that the operator sees."""
    rows = []
    for what, stream in _TOLERATED.items():
        frames = [event for event in FrameDecoder().feed(stream) if isinstance(event, Frame)]
        notes = (*frames[-1].notes, *read(frames[-1].body).notes)
        if not notes:
            raise ValueError(f"{what}: nothing is noted")
        rows.append((what, "; ".join(notes)))
    return table(("sent", "noted on the message"), rows)


def settings() -> str:
    """What a listener can be told, and what of it one sender can have otherwise."""
    rows = [
        (code(name), code(_shown(name)), "yes" if name in SenderSettings.model_fields else "", SETTINGS[name])
        for name in ListenerSettings.model_fields
    ]
    return table(("setting", "default", "by sender", "is"), rows)


def _shown(name: str) -> str:
    value = ListenerSettings.model_fields[name].get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value) if isinstance(value, str | int | float) else ""


PARTS = {
    "reply-types": reply_types,
    "controls": controls,
    "statuses": statuses,
    "events": events,
    "codes": codes,
    "conditions": conditions,
    "chains": chains,
    "numbers": numbers,
    "content": content,
    "identifier-types": identifier_types,
    "genders": genders,
    "charsets": charsets,
    "tolerances": tolerances,
    "settings": settings,
}
