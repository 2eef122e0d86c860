"""Answers to HL7 messages: ACK, and the order responses ORR^O02, ORG^O20, ORI^O24 (HL7 v2.5.1 §2.9.2, §4.4).

What is the sender's is given back in his own bytes and delimiters; what is ours is escaped in them. No patient
segment goes back: it is optional in every structure.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from bridge.domain.verdict import CONDITION_TEXT, AckCode, Condition, OrderReply, Problem, Verdict
from bridge.formats.hl7 import address as addresses
from bridge.formats.hl7 import charset, msh
from bridge.formats.hl7.escapes import escape
from bridge.formats.hl7.header import Header
from bridge.formats.hl7.message import NULL, Message, OrderView

NAMESPACE = "CARDIO"
"""ORC-3.2 of our numbers: the task ids."""
MSA_3_LENGTH = 80  # ST 80 up to 2.6; dcm4che cuts there too

_RESPONSES = {
    "ORM": ("O01", "ORR", "O02", "ORR_O02"),
    "OMG": ("O19", "ORG", "O20", "ORG_O20"),
    "OMI": ("O23", "ORI", "O24", "ORI_O24"),
}
_ACCEPT_CODES = frozenset({AckCode.CA, AckCode.CE, AckCode.CR})
_UNKNOWN_VERSION = (2, 5)  # read as 2.5, whose ERR says most; what is echoed stays as it came


def build(
    message: Message | Header,
    verdict: Verdict,
    *,
    control_id: str,
    now: datetime,
    order_response: str = "response",
    namespace: str = NAMESPACE,
    apart: bool = False,
) -> bytes:
    """The answer's bytes, each segment ended by CR, without framing. A `Header` alone is enough for a refusal.

    MSA-2 is MSH-10 byte for byte. `now` is aware: MSH-7 carries its offset. `namespace` is ORC-3.2. An order response
    has an ORC for each of `verdict.orders`. ORM has no response from 2.7 on, where ORM itself is gone: who still sends
    it gets the ORR of 2.6. An accept acknowledgement (CA, CE, CR) is always an ACK. `apart`: a message of its own in
    enhanced mode, which asks for an accept acknowledgement and no other (HL7 v2.5.1 §2.9.3.2).
    """
    form = _Form(message)
    kind = _RESPONSES.get(form.header.type)
    trigger = message.trigger
    as_response = (
        kind is not None
        and trigger in {kind[0], ""}
        and order_response == "response"
        and verdict.code not in _ACCEPT_CODES
    )
    msh_9 = kind[1:] if kind is not None and as_response else ("ACK", trigger, "ACK")
    segments = [_msh(form, msh_9, control_id, now, modes=(b"AL", b"NE") if apart else (b"", b"")), _msa(form, verdict)]
    if not (as_response and form.version < (2, 3)):  # ORR has no ERR before 2.3
        segments += _errors(form, verdict)
    if as_response and isinstance(message, Message):
        for order, reply in zip(message.orders(), verdict.orders, strict=False):
            segments += _order(form, order, reply, namespace, with_ipc=msh_9[0] == "ORI")
    # A control character of framing inside an echoed field would end or restart the frame.
    return b"".join(segments).replace(b"\x0b", b" ").replace(b"\x1c", b" ")


def build_order_message(
    message: Message, orders: Sequence[tuple[int, OrderReply]], *, control_id: str, now: datetime
) -> bytes:
    """An order message of our own that tells task ids which came after the answer (hl7.md §3.5).

    It has the type of the order's own message, ORC-1 of each reply (SC, or NA where a number was asked for), ORC-3 the
    id, and the identifier of the patient, PID-3 as it was sent. `orders` are positions in the message, from 1. MSH-15
    and MSH-16 stay empty: it is answered in original mode.
    """
    form = _Form(message)
    kind = _RESPONSES.get(form.header.type, _RESPONSES["ORM"])
    trigger = kind[0]
    structure = f"{form.header.type}_{trigger}"
    segments = [_msh(form, (form.header.type, trigger, structure), control_id, now)]
    pid = next((s for s in message.segments if s.name == "PID"), None)
    if pid is not None:
        segments.append(
            form.segment("PID", {2: form.echo(pid.field(2)), 3: form.echo(pid.field(3)), 5: form.echo(pid.field(5))})
        )
    views = message.orders()
    for position, reply in orders:
        segments += _order(form, views[position - 1], reply, NAMESPACE, with_ipc=kind[1] == "ORI")
    return b"".join(segments).replace(b"\x0b", b" ").replace(b"\x1c", b" ")


def build_without_header(text: str, *, control_id: str, now: datetime) -> bytes:
    """The answer to a frame without a readable MSH: AR, MSA-2 empty, in default delimiters and ASCII."""
    form = _Form(msh.parse(b"MSH|^~\\&|||||||||P|2.5.1"))
    verdict = Verdict(AckCode.AR, text, (), (Problem(Condition.SEGMENT_SEQUENCE, text),))
    return b"".join([_msh(form, ("ACK", "", "ACK"), control_id, now), _msa(form, verdict), *_errors(form, verdict)])


class _Form:
    """How bytes are written for this sender: delimiters, character set, version."""

    def __init__(self, message: Message | Header) -> None:
        self.header = message if isinstance(message, Header) else message.header
        self.delimiters = self.header.delimiters
        self.version = _version(self.header.version)
        self._declared = charset.declared(self.header.charsets)
        read_as = "ascii" if isinstance(message, Header) else message.text_encoding
        self._encoding = self._declared or read_as
        self._field = self.delimiters.field.encode("ascii")
        self._component = self.delimiters.component.encode("ascii")

    def own(self, text: str) -> bytes:
        """Our words, escaped, in the sender's character set."""
        escaped = escape(text, self.delimiters)
        if escaped.isascii():
            return escaped.encode("ascii")
        kept = charset.keep_to_declared(escaped, self.header)
        return charset.encode_answer(kept, self.header, self._encoding)

    def own_within(self, text: str, length: int) -> bytes:
        """Our words, cut so that what is written has at most `length` characters, no escape cut in two."""
        text = text[:length]
        while len(escape(text, self.delimiters)) > length:
            text = text[:-1]
        return self.own(text)

    def echo(self, field: str) -> bytes:
        """A field of the message, as it was sent."""
        return charset.encode_answer(field, self.header, self._encoding)

    def echo_msh(self, number: int) -> bytes:
        """MSH-n, as it was sent; written anew only where its bytes are not of the declared set."""
        raw = self.header.raw_fields[number] if number < len(self.header.raw_fields) else b""
        if raw.isascii() or self._declared is None:
            return raw
        return self.echo(charset.decode(raw, self.header.charsets).text)

    def components(self, *parts: bytes) -> bytes:
        return self._component.join(parts).rstrip(self._component)

    def segment(self, name: str, fields: dict[int, bytes]) -> bytes:
        """One segment from its fields by number, ended by CR."""
        last = max((n for n, value in fields.items() if value), default=0)
        values = (fields.get(n, b"") for n in range(1, last + 1))
        return self._field.join((name.encode("ascii"), *values)) + b"\r"


def _msh(
    form: _Form,
    kind: Sequence[str],
    control_id: str,
    now: datetime,
    modes: tuple[bytes, bytes] = (b"", b""),
) -> bytes:
    # Below 2.4 MSH-9 has two components; without an event the type stands alone in every version.
    parts = [form.own(part) for part in kind[: 3 if form.version >= (2, 4) else 2]]
    return form.segment(  # MSH-1 is the separator itself, so MSH-n stands at place n - 1
        "MSH",
        {
            1: form.echo_msh(2),
            2: form.echo_msh(5),
            3: form.echo_msh(6),
            4: form.echo_msh(3),
            5: form.echo_msh(4),
            6: now.strftime("%Y%m%d%H%M%S%z").encode("ascii"),
            8: form.components(*parts) if kind[1] else parts[0],
            9: form.own(control_id),
            10: form.echo_msh(11),  # a test message must never be answered as production
            11: form.echo_msh(12),
            14: modes[0],
            15: modes[1],
            17: form.echo_msh(18),
        },
    )


def _msa(form: _Form, verdict: Verdict) -> bytes:
    # MSA-3 is withdrawn from 2.7 on, and still the one place that every engine shows.
    text = _tasks(verdict.task_ids) if verdict.task_ids else verdict.text
    return form.segment(
        "MSA",
        {
            1: verdict.code.value.encode("ascii"),
            2: form.header.raw_control_id,
            3: form.own_within(text, MSA_3_LENGTH),
            4: form.echo_msh(13),  # sequence numbers: whoever sends one expects it back (HL7 v2.5.1 §2.9.2)
        },
    )


def _tasks(ids: Sequence[int]) -> str:
    """`task=4711,4712`; where it would be too long, whole ids and the number left out: `task=4711 +3`."""
    whole = "task=" + ",".join(map(str, ids))
    if len(whole) <= MSA_3_LENGTH:
        return whole
    for kept in range(len(ids) - 1, 0, -1):
        # A space before the plus: split at the commas, no part may pass for an id that is none.
        text = f"task={','.join(map(str, ids[:kept]))} +{len(ids) - kept}"
        if len(text) <= MSA_3_LENGTH:
            return text
    return f"task +{len(ids)}"


def _errors(form: _Form, verdict: Verdict) -> list[bytes]:
    """ERR as the version has it: up to 2.4 one, with a repeat of ERR-1 for each error; from 2.5 on one a problem.

    The old form knows no severity, so only errors are put there: a warning would read as a failure.
    """
    if form.version >= (2, 5):
        return [_error(form, problem) for problem in verdict.problems]
    errors = [_error_location(form, problem) for problem in verdict.problems if problem.severity == "E"]
    repeats = form.delimiters.repetition.encode("ascii").join(errors)
    return [form.segment("ERR", {1: repeats})] if errors else []


def _error(form: _Form, problem: Problem) -> bytes:
    return form.segment(
        "ERR",
        {
            2: form.components(*(part.encode("ascii") for part in _location(problem))),
            3: form.components(str(problem.condition.value).encode(), form.own(_meaning(problem)), b"HL70357"),
            4: problem.severity.encode("ascii"),
            7: form.own(problem.diagnostic),
            8: form.own_within(problem.text, 250),
        },
    )


def _error_location(form: _Form, problem: Problem) -> bytes:
    """ELD: segment, its sequence, field, code (HL7 v2.4 §2.16.5.1)."""
    code = form.delimiters.subcomponent.encode("ascii").join(
        (str(problem.condition.value).encode(), form.own(_meaning(problem)), b"HL70357")
    )
    place = [part.encode("ascii") for part in _location(problem)[:3]]
    return form.components(*place, *[b""] * (3 - len(place)), code)


def _location(problem: Problem) -> list[str]:
    """ERL: segment, sequence, field, repeat, component, subcomponent; empty where nothing is known."""
    at = addresses.parse(problem.where)
    if at is None:
        return []
    numbers = (at.field, at.repeat, at.component, at.subcomponent)
    return [at.segment, str(at.number or 1), *(str(n) if n else "" for n in numbers)]


def _meaning(problem: Problem) -> str:
    return CONDITION_TEXT[problem.condition]


def _order(form: _Form, order: OrderView, reply: OrderReply, namespace: str, *, with_ipc: bool) -> list[bytes]:
    """ORC, then OBR, and IPC where the structure demands it. The sender's own numbers stay as they are.

    2.1 has no ORC-16, and demands specimen times of every OBR: there the reason is a note, and no OBR is given.
    """
    placer, filler = _number(order, 2), _number(order, 3)
    ids = ",".join(map(str, reply.task_ids)).encode("ascii")
    ours = form.components(form.own(str(reply.task_ids[0])), form.own(namespace)) if reply.task_ids else b""
    orc = {1: form.own(reply.control), 2: form.echo(placer), 3: form.echo(filler) if filler else ours}
    orc[5] = form.own(reply.status)
    obr: dict[int, bytes] = {}
    if order.obr is not None:
        obr = {1: str(order.index).encode(), 2: orc[2], 3: orc[3], 4: form.echo(order.obr.field(4))}
        if filler or len(reply.task_ids) > 1:
            obr[21] = ids
    if (2, 3) <= form.version < (2, 3, 1):  # required there, of an answer too
        orc[7] = form.echo(order.orc.field(7)) if order.orc is not None else b""
        if order.obr is not None:
            obr[27] = form.echo(order.obr.field(27)) or orc[7]
    notes: list[bytes] = []
    if reply.reason and form.version >= (2, 2):
        orc[16] = form.components(b"", form.own_within(reply.reason, 199))
    elif reply.reason:
        notes.append(form.segment("NTE", {1: b"1", 3: form.own(reply.reason)}))
    parts = [form.segment("ORC", orc)]
    if obr and form.version >= (2, 2):
        parts.append(form.segment("OBR", obr))
    parts += notes
    if with_ipc:
        parts += [form.echo(segment.line) + b"\r" for segment in order.segments if segment.name == "IPC"]
    return parts


def _number(order: OrderView, field: int) -> str:
    """The placer's (2) or filler's (3) number: of ORC, else of OBR; a child's own stands in its OBR."""
    sources = (order.obr, order.orc) if order.shares_orc else (order.orc, order.obr)
    values = (segment.field(field).strip() for segment in sources if segment is not None)
    return next((value for value in values if value not in {"", NULL}), "")


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", text)
    return tuple(int(n) for n in found.groups() if n is not None) if found else _UNKNOWN_VERSION
