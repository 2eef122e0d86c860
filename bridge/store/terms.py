"""The words by which a message is found, written in the transaction of the fact that they come from.

An identifier is one word, without case; a name is as many as it has, without case and accents. Each word is in the
store twice, in the order of messages and in the order of words, together 50 bytes. Measured in a store of a million: 20
µs of CPU a word, nearly all for the second order, where each word is in another page of the file; so 0.2 ms of an
order's 7 ms, and of an admission's 2 ms. There are no words for what has few values and is found on the newest messages
anyway: kind and type. States have an index of their own.
"""

import functools
import itertools
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bridge.domain.patient import folded
from bridge.store.port import Transaction
from bridge.store.prepared import Prepared
from bridge.store.schema import term

LONGEST = 64
"""Characters of a word that count: the length of a UID (PS3.5 §9.1)."""
MOST = 300
"""Words of one message, so that a message of two thousand segments does not hold up the writer."""


class Kind:
    """What a word is: a letter, since it is stored twice for each word of each message. No enum: its members cost more
    to hash and to bind than a word's row does.
    """

    PATIENT = "p"  # an identifier, as said
    NAME = "n"
    ORDER = "o"  # placer's, filler's, accession and further numbers
    CONTROL = "c"  # MSH-10
    INSTANCE = "i"  # SOP Instance UID
    TASK = "t"
    SENDER = "s"  # MSH-3|MSH-4, and MSH-4; calling AE title
    PEER = "a"  # address


OF_PATIENT = frozenset({Kind.PATIENT, Kind.NAME})
"""What says who the patient is."""
OPEN_TO_ALL = (Kind.ORDER, Kind.CONTROL, Kind.INSTANCE, Kind.TASK, Kind.SENDER, Kind.PEER)
"""What says nothing of who the patient is."""
SAID = frozenset({*OF_PATIENT, Kind.ORDER})
"""What the rules find in a message: another time they may find something else."""

Word = tuple[str, str]
"""A kind and a value."""


def plain(identifier: str) -> str:
    """An identifier as it is compared: without case and surrounding blanks, in one form of Unicode, printable."""
    if identifier.isascii() and identifier.isprintable() and " " not in identifier:
        return identifier[:LONGEST].casefold()
    if not identifier.isascii():
        identifier = unicodedata.normalize("NFC", identifier).casefold()
    text = "".join(c if c.isprintable() else " " for c in identifier)
    return " ".join(text.casefold().split())[:LONGEST]


def _in_parts(kind: str, identifiers: Iterable[str]) -> list[Word]:
    """Identifiers, and the parts of those that have blanks: what people type is taken apart at those."""
    found: list[Word] = []
    for one in identifiers:
        if whole := plain(one):
            found.append((kind, whole))
            if " " in whole:
                found += [(kind, part) for part in whole.split()]
    return found


def of_arrival(sender: str, peer: str, control_id: str, sop_instance_uid: str) -> list[Word]:
    """What is known of a message before it is understood."""
    _, _, facility = sender.partition("|")
    found = _in_parts(Kind.SENDER, (sender, facility) if facility else (sender,))
    found += _in_parts(Kind.PEER, (peer,))
    return found + _in_parts(Kind.CONTROL, (control_id,)) + _in_parts(Kind.INSTANCE, (sop_instance_uid,))


def of_patient(identifiers: Iterable[str], names: Iterable[str]) -> list[Word]:
    """What is said of the patient."""
    found = _in_parts(Kind.PATIENT, identifiers)
    for name in names:
        found += [(Kind.NAME, word[:LONGEST]) for word in folded(name).split()]
    return found


def of_orders(numbers: Iterable[str]) -> list[Word]:
    """The numbers of orders."""
    return _in_parts(Kind.ORDER, numbers)


def of_tasks(task_ids: Iterable[int]) -> list[Word]:
    """The ids that the API gave."""
    return [(Kind.TASK, str(one)) for one in task_ids]


@functools.cache
def _adding(dialect_name: str) -> Prepared:
    dialect = sqlite if dialect_name == "sqlite" else postgresql
    return Prepared(dialect.insert(term).on_conflict_do_nothing())


def note(tx: Transaction, message_id: int, words: Iterable[Word]) -> None:
    """A message is found by these as well, from the commit of this transaction on."""
    note_all(tx, {message_id: words})


def note_all(tx: Transaction, words: Mapping[int, Iterable[Word]]) -> None:
    """`note`, of several messages."""
    rows = [
        {"message_id": message_id, "value": value, "kind": kind}
        for message_id, own in words.items()
        for kind, value in itertools.islice(dict.fromkeys(own), MOST)
    ]
    _adding(tx.conn.dialect.name).run_many(tx.conn, rows)


_FORGET = Prepared(
    term.delete().where(term.c.message_id == sa.bindparam("own_message"), term.c.kind == sa.bindparam("own_kind"))
)


def forget(tx: Transaction, message_id: int, kinds: Collection[str]) -> None:
    """What was read out of a message counts no more: it is understood anew."""
    for kind in sorted(kinds):
        _FORGET.run(tx.conn, {"own_message": message_id, "own_kind": kind})


def typed(text: str) -> tuple[Sequence[tuple[str, ...]], ...]:
    """What a person typed, as conditions that all hold; each is a choice of words that a message has the beginnings of.

    `Müller-Lüdenscheidt` is an identifier or the two words of a name; with a digit in it, it is no name.
    """
    found: dict[tuple[tuple[str, ...], ...], None] = {}
    for piece in text[:_LONGEST_TEXT].split():
        ways: list[tuple[str, ...]] = [(one,) for one in [plain(piece)] if one]
        name = tuple(dict.fromkeys(word[:LONGEST] for word in folded(piece).split()))
        if name and name not in ways and (len(name) == 1 or not any(c.isdigit() for c in piece)):
            ways.append(name)
        if ways:
            found[tuple(ways)] = None
    return tuple(found)[:_MOST_TYPED]


_LONGEST_TEXT = 200
_MOST_TYPED = 6
"""More would only be looked for on messages that five words have found already."""
