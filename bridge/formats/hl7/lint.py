"""Conformance of HL7 messages, by hl7apy's tables of versions 2.1 to 2.8.2. The only importer of hl7apy.

Its tables are used, not its parser: that drops segments which a structure does not list, refuses LF, unknown
versions and unknown segments, and ends in a bare ValueError at one bad date (hl7.md §7). What the parser itself would
do is reported beside, for receivers that are as strict. hl7apy 1.3.5 knows no lengths, so none are checked but MSA-3's.
No finding holds a value of the message.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import hl7apy
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import ChildNotFound, HL7apyException
from hl7apy.factories import datatype_factory
from hl7apy.parser import parse_message

from bridge.errors import BadInput
from bridge.formats.hl7 import batch, charset
from bridge.formats.hl7.answer import MSA_3_LENGTH
from bridge.formats.hl7.message import NULL, Message, Segment
from bridge.formats.hl7.reader import read
from bridge.formats.hl7.structure import Misfit, Node, compare

_VERSIONS: list[str] = sorted(hl7apy.SUPPORTED_LIBRARIES, key=lambda v: tuple(map(int, v.split("."))))
_DEFAULT_VERSION = "2.5.1"

_SHARED = {  # events that share a structure (table 0354)
    "ADT_A01": ("A04", "A08", "A13"),
    "ADT_A05": ("A14", "A28", "A31"),
    "ADT_A06": ("A07",),
    "ADT_A09": ("A10", "A11"),
    "ADT_A21": ("A22", "A23", "A25", "A26", "A27", "A29", "A32", "A33"),
    "ADT_A30": ("A34", "A35", "A36", "A46", "A47", "A48", "A49"),
    "ADT_A39": ("A40", "A41", "A42"),
    "ADT_A43": ("A44",),
    "ADT_A50": ("A51",),
    "SIU_S12": tuple(f"S{n}" for n in range(13, 27)),
}
_STRUCTURE_OF = {f"{s.split('_')[0]}_{event}": s for s, events in _SHARED.items() for event in events}

# In an answer of ours these are on purpose: the one place for text that every engine shows, and the sender's own
# declaration of his character set, which 2.1 and 2.2 did not have yet.
_ON_PURPOSE = frozenset({"MSA-3", "MSH-18"})
_FIXED_TABLES = frozenset({"MSA-1", "ORC-1", "ERR-4"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `severity` is error, warning or info; `where` an address, or empty."""

    severity: str
    where: str
    text: str


def lint(raw: bytes) -> list[Finding]:
    """What is wrong with a message or a batch, segment by segment. Whatever the bytes are, it does not raise."""
    if batch.is_batch(raw):
        whole = batch.split(raw)
        findings = [Finding("warning", "", note) for note in whole.notes]
        for number, one in enumerate(whole.messages, 1):
            findings += (replace(f, text=f"message {number}: {f.text}") for f in _lint_one(one))
        return findings
    return _lint_one(raw)


def check_answer(raw: bytes) -> list[str]:
    """What keeps an answer of ours from being conformant in its own version; empty where nothing does.

    ORR_O02 is gone from 2.7 on, ORG and ORI came with 2.4 and 2.5: an answer in another version is held against the
    nearest version that has its structure.
    """
    try:
        message = read(raw)
    except BadInput as problem:
        return [f"{problem.where}: {problem}"]
    faults = list(message.notes)
    faults += _form_of_answer(raw, message)
    version = _tables_for(message.header.version)
    for finding in (*_structure(message, version), *_fields(message, version)):
        where = re.sub(r"\[\d+\]", "", finding.where)
        # Tables of codes are the sender's matter where we echo him; ours are these three.
        codes = "table" in finding.text and where not in _FIXED_TABLES
        if finding.severity != "info" and not codes and where not in _ON_PURPOSE:
            faults.append(f"{finding.where}: {finding.text}")
    if _exact_structure(message, version) == version:
        faults += [f.text for f in _by_parser(message, version)]
    return faults


def _lint_one(raw: bytes) -> list[Finding]:
    try:
        message = read(raw)
    except BadInput as problem:
        return [Finding("error", problem.where, str(problem))]
    version = _tables_for(message.header.version)
    findings = [Finding("info", "", f"tolerated: {note}") for note in message.notes]
    if version != message.header.version:
        findings.append(Finding("warning", "MSH-12", f"no version that has tables; held against {version}"))
    findings += _structure(message, version)
    findings += _fields(message, version)
    findings += _by_parser(message, version)
    return findings


@dataclass(frozen=True, slots=True)
class FieldName:
    """What a field is called, and its components; empty where the tables name none."""

    name: str
    components: tuple[str, ...] = ()


@lru_cache(maxsize=512)
def field_names(segment: str, version: str) -> tuple[FieldName, ...]:
    """The fields of a segment by the tables of that version or the nearest below; none for a site's own segment."""
    return tuple(_named(inner) for _, inner, _, _ in _fields_of(segment, _tables_for(version)))


def _fields_of(segment: str, version: str) -> Sequence[Any]:
    """The tables' fields of a segment; none where they have none, or have them in no such form (ORO in 2.1)."""
    reference = _reference(segment, "Segment", version) if segment else None
    return reference[1] if reference is not None and len(reference) > 1 and reference[0] == "sequence" else ()


def _named(reference: Any) -> FieldName:
    if not reference:
        return FieldName("")
    kind, inner, _, name = reference[:4]
    parts = tuple(_in_words(part[3]) for _, part, _, _ in inner or () if part) if kind == "sequence" else ()
    return FieldName(_in_words(name), parts)


def _in_words(name: str | None) -> str:
    """`PATIENT_IDENTIFIER_LIST` as people read it."""
    return (name or "").replace("_", " ").capitalize()


def _tables_for(version: str) -> str:
    """The version itself, else the nearest below it that has tables."""
    if version in _VERSIONS:
        return version
    number = re.match(r"\d{1,3}(\.\d{1,3})+", version)
    if number is None:
        return _DEFAULT_VERSION
    wanted = tuple(map(int, number[0].split(".")))
    below = [v for v in _VERSIONS if tuple(map(int, v.split("."))) <= wanted]
    return below[-1] if below else _VERSIONS[0]


def _reference(name: str, kind: str, version: str) -> Any:
    try:
        return hl7apy.load_reference(name, kind, version)  # type: ignore[no-untyped-call]
    except ChildNotFound:
        return None


def _structure_names(message: Message) -> list[str]:
    header = message.header
    named = f"{header.type}_{message.trigger}"
    return [n for n in (header.structure, named, _STRUCTURE_OF.get(named, ""), header.type) if n]


def _exact_structure(message: Message, version: str) -> str | None:
    """The version whose tables have the message's structure: its own, else the nearest below, else above."""
    place = _VERSIONS.index(version)
    for candidate in (*reversed(_VERSIONS[: place + 1]), *_VERSIONS[place + 1 :]):
        if any(_reference(name, "Message", candidate) for name in _structure_names(message)):
            return candidate
    return None


@lru_cache(maxsize=64)
def _node(name: str, version: str) -> Node:
    return Node(name, children=_children(_reference(name, "Message", version)))


def _children(reference: Any) -> tuple[Node, ...]:
    nodes = []
    for name, inner, (least, most), kind in reference[1]:
        if kind != "GRP":
            nodes.append(Node(name, least, most))
            continue
        children = _children(inner)
        names = {c.name for c in children}
        # hl7apy writes "one of these order details" as a sequence of required segments.
        choice = "OBR" in names and bool(names & {"RQD", "RX1"}) and all(not c.children for c in children)
        nodes.append(Node(name, least, most, children, choice))
    return tuple(nodes)


def _structure(message: Message, version: str) -> Iterator[Finding]:
    table = _exact_structure(message, version)
    if table is None:
        yield Finding("error", "MSH-9", "no message structure of any version")
        return
    if table != version:
        yield Finding("info", "MSH-9", f"the structure is not in {version}; held against {table}")
    name = next(n for n in _structure_names(message) if _reference(n, "Message", table))
    segments = [s for s in message.segments if s.name]
    for misfit in compare([s.name for s in segments], _node(name, table)):
        yield _of_misfit(misfit, segments, name, version)


def _of_misfit(misfit: Misfit, segments: list[Segment], structure: str, version: str) -> Finding:
    if misfit.kind == "missing":
        return Finding("error", misfit.name, f"required by {misfit.group}, missing")
    segment = segments[misfit.index]
    where = f"{segment.name}[{segment.number}]"
    if misfit.kind == "misplaced":
        return Finding("error", where, f"not at this place, or too often, in {structure}")
    if segment.name.startswith("Z"):
        return Finding("info", where, "a segment of the site's own")
    if _reference(segment.name, "Segment", version) is None:
        return Finding("error", where, f"no segment of version {version}")
    return Finding("error", where, f"not in {structure} of version {version}; a strict receiver drops it")


def _fields(message: Message, version: str) -> Iterator[Finding]:
    for segment in message.segments:
        known = _fields_of(segment.name, version)
        if not known:
            continue
        for number, (_, inner, (least, most), _kind) in enumerate(known, 1):
            yield from _field(message, segment, number, inner, least, most, version)
        beyond = range(len(known) + 1, len(segment.fields))
        for number in (n for n in beyond if segment.field(n).strip()):
            yield Finding("warning", _at(segment, number), f"no field of version {version}")


def _field(
    message: Message, segment: Segment, number: int, reference: Any, least: int, most: int, version: str
) -> Iterator[Finding]:
    text, where = segment.field(number).strip(), _at(segment, number)
    if not text or text == NULL:
        if least > 0:
            yield Finding("error", where, "required, missing")
        return
    if (least, most) == (0, 0):
        yield Finding("warning", where, f"withdrawn in version {version}")
    if segment.name == "MSH" and number <= 2:
        return
    repeats = text.split(message.header.repetition)
    if most > 0 and len(repeats) > most:
        yield Finding("error", where, f"{len(repeats)} repeats, {most} allowed")
    for repeat in repeats:
        yield from _value(message, repeat, where, reference, version)


def _value(message: Message, text: str, where: str, reference: Any, version: str) -> Iterator[Finding]:
    """One repeat of a field, or one component, against its data type and table."""
    if not text.strip() or text.strip() == NULL or not reference:
        return
    kind, inner, datatype, _name, table = reference[:5]
    if kind == "sequence":
        if inner is None:  # TQ1-1 in 2.7: a sequence of nothing
            return
        parts = text.split(message.header.component)
        if len(parts) > len(inner):
            yield Finding("warning", where, f"{len(parts)} components, {datatype} has {len(inner)}")
        for number, (name, part_reference, (least, _), _kind) in enumerate(inner, 1):
            part = parts[number - 1] if number <= len(parts) else ""
            if least > 0 and not part.strip() and not name.startswith("TS_"):  # TS.2 is required in the tables only
                yield Finding("error", f"{where}.{number}", "required, missing")
            if part_reference and part_reference[0] == "leaf":
                yield from _value(message, part, f"{where}.{number}", part_reference, version)
        return
    if table is not None and (values := _reference(table, "Table", version)) is not None and text not in values[1]:
        yield Finding("warning", where, f"not in table {table}")
    if datatype in {"DT", "TM", "DTM", "NM", "SI"} and not _is_of(datatype, text.strip(), version):
        yield Finding("error", where, f"no valid {datatype}")


def _is_of(datatype: str, text: str, version: str) -> bool:
    try:
        datatype_factory(datatype, text, version, VALIDATION_LEVEL.STRICT)  # type: ignore[no-untyped-call]
    except (ValueError, HL7apyException):
        return False
    return True


def _by_parser(message: Message, version: str) -> Iterator[Finding]:
    """What hl7apy's own parser makes of it, given clean line ends: a refusal, or segments that it drops."""
    lines = [s.line for s in message.segments if s.name]
    if message.header.version != version:
        return
    try:
        parsed = parse_message("\r".join(lines), VALIDATION_LEVEL.TOLERANT, find_groups=True)  # type: ignore[no-untyped-call]
        kept = [line[:3] for line in parsed.to_er7().split("\r") if line]
    except (HL7apyException, ValueError, LookupError, AttributeError, TypeError) as cause:
        yield Finding("info", "", f"hl7apy's parser refuses the message: {type(cause).__name__}")
        return
    dropped = [line[:3] for line in lines]
    for name in kept:
        if name in dropped:
            dropped.remove(name)
    if dropped:
        yield Finding("info", "", f"hl7apy's parser drops {', '.join(sorted(set(dropped)))}")


def _form_of_answer(raw: bytes, message: Message) -> Iterator[str]:
    """What no table says: line ends, the character set, the times and texts of an answer."""
    header = message.header
    if b"\n" in raw or b"\x0b" in raw or b"\x1c" in raw:
        yield "a line feed or framing byte in the answer"
    codec = charset.declared(header.charsets)
    if header.charsets and codec is not None and charset.decode(raw, header.charsets).note:
        yield "MSH-18: the bytes are not of this set"
    if not re.fullmatch(r"\d{14}[+-]\d{4}", header.date_time):
        yield "MSH-7: no time with an offset"
    if [s.name for s in message.segments[:2]] != ["MSH", "MSA"]:
        yield "MSA: not behind MSH"
        return
    if len(message.segments[1].field(3)) > MSA_3_LENGTH:
        yield f"MSA-3: over {MSA_3_LENGTH} characters"
    version = tuple(map(int, _tables_for(header.version).split(".")))
    if (message.trigger != "") and (bool(header.structure) != (version >= (2, 4))):
        yield "MSH-9: three components from 2.4 on, two below"


def _at(segment: Segment, number: int) -> str:
    return f"{segment.name}[{segment.number}]-{number}"
