"""HL7 messages of which only the structure is shown, and the positions that hold no patient's value.

Positions as HL7 v2.5.1 numbers them: §2.15 (MSH, EVN, MSA, ERR), §4.5 (ORC, OBR), §4.5.6 (IPC), §7.4.2 (OBX).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.errors import BadInput
from bridge.formats.hl7 import address as addresses
from bridge.formats.hl7.message import Message, Segment
from bridge.formats.hl7.reader import read

DOTS = "••••••"
"""What stands for every value, however long it is."""
_HEADER = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 20}
_BATCH = {1, 2, 3, 4, 5, 6, 7, 11, 12}
_OPEN: dict[str, set[int]] = {
    "MSH": _HEADER,
    "BHS": _BATCH,
    "FHS": _BATCH,
    "EVN": {1, 2},
    "MSA": {1, 2},
    "ORC": {2, 3, 4},
    "OBR": {2, 3, 4, 18, 19},
    "IPC": {1, 2},
}
_CODES = re.compile(r"[A-Za-z0-9]{1,4}")
_FORMED: dict[tuple[str, int], re.Pattern[str]] = {
    ("MSA", 3): re.compile(r"task=\d{1,20}(,\d{1,20})*|accepted, task pending|accepted, held for a person"),
    ("ERR", 1): _CODES,
    ("ERR", 2): _CODES,
    ("ERR", 3): re.compile(r"\d{1,3}"),
    ("ERR", 4): re.compile(r"[IWEF]"),
    ("OBX", 1): re.compile(r"\d{1,4}"),
    ("OBR", 1): re.compile(r"\d{1,4}"),
    ("TQ1", 1): re.compile(r"\d{1,4}"),
    ("ORC", 1): re.compile(r"[A-Z0-9]{2}"),
    ("ORC", 5): re.compile(r"[A-Z0-9]{1,2}"),
    ("ORC", 9): re.compile(r"\d{8,14}(\.\d{1,4})?([+-]\d{4})?"),
    ("OBR", 24): _CODES,
    ("OBR", 25): _CODES,
    ("OBX", 2): _CODES,
    ("OBX", 11): _CODES,
    ("IPC", 3): re.compile(r"[0-9.]{1,64}"),
    ("IPC", 5): _CODES,
}
"""Where a sender may write what he likes, it is shown in this form alone, component by component."""
_NUMBERS = {
    ("ORC", 2),
    ("ORC", 3),
    ("ORC", 4),
    ("OBR", 2),
    ("OBR", 3),
    ("OBR", 18),
    ("OBR", 19),
    ("IPC", 1),
    ("IPC", 2),
}
_NUMBER_KEYWORDS = frozenset({
    "AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
})  # fmt: skip
MOST = 64 * 1024
"""Characters of a message that are shown; what is longer is a document in an OBX, or none that a person reads."""
_MOST_PARTS = 400
"""Components of a field that are told apart."""


def is_open(segment: str, field: int, text: str) -> bool:
    """Whether a component of that field may be shown to everybody."""
    form = _FORMED.get((segment, field))
    if form is not None:
        return form.fullmatch(text) is not None
    return field in _OPEN.get(segment, ())


def is_number_place(where: str) -> bool:
    """Whether a trace's place is one where order numbers stand, or the site's own rules."""
    if where.startswith("("):
        return where == "(rules)"
    for place in re.split(r", | \+ ", where):
        found = addresses.parse(place)
        keyword = place.rpartition(".")[2].partition("[")[0]
        if found is not None and (found.segment, found.field) not in _NUMBERS:
            return False
        if found is None and keyword not in _NUMBER_KEYWORDS:
            return False
    return bool(where)


@dataclass(frozen=True, slots=True)
class Part:
    """A component and the delimiter before it. Its numbers count from 1; the component of a simple field is 1."""

    before: str
    text: str
    field: int
    repeat: int
    component: int


def parts(segment: Segment, message: Message) -> Iterator[Part]:
    """The components of a segment in their order, empty ones too, without its name."""
    marks = message.delimiters
    for number, field in enumerate(segment.fields[1:], 1):
        if segment.name in {"MSH", "BHS", "FHS"} and number <= 2:
            yield Part("", field, number, 1, 1)
            continue
        before = marks.field
        whole = field.count(marks.component) + field.count(marks.repetition) > _MOST_PARTS
        for repeat, said in enumerate([field] if whole else field.split(marks.repetition), 1):
            for component, text in enumerate([said] if whole else said.split(marks.component), 1):
                yield Part(before, text, number, repeat, component)
                before = marks.component
            before = marks.repetition


def masked_text(text: str | None) -> str | None:
    """A message or answer, as `listing.whole` gives it (a character a byte), with every closed position masked.

    What cannot be read as a message is masked whole, and so is what lies behind the first `MOST` characters: of ten
    megabytes of short values the masks alone would be ninety.
    """
    if not text:
        return text
    try:
        message = read(text.encode("latin-1"))
    except BadInput:
        return DOTS
    lines, room = [], MOST
    for segment in message.segments:
        if room <= 0:
            lines.append(DOTS)
            break
        lines.append(_masked(segment, message, room))
        room -= len(segment.line)
    return "\r".join(lines)


def _masked(segment: Segment, message: Message, room: int) -> str:
    if not segment.name:
        return DOTS
    said = [segment.name]
    for part in parts(segment, message):
        if room <= 0:
            said.append(DOTS)
            break
        said.append(part.before)
        said.append(part.text if not part.text or is_open(segment.name, part.field, part.text) else DOTS)
        room -= len(part.before) + len(part.text)
    return "".join(said)
