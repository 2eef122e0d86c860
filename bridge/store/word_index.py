"""What the index of words says: of a beginning, of one whole word."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from bridge.store.prepared import Prepared
from bridge.store.schema import term

END = "\U0010ffff"
"""Behind every character that a word can have: words that begin alike are from the beginning to it with this."""

_EARLIEST = sa.select(sa.func.min(term.c.value)).where(term.c.value < sa.bindparam("end"))
_BEGIN = Prepared(_EARLIEST.where(term.c.value >= sa.bindparam("beginning")))
_LEAP = Prepared(_EARLIEST.where(term.c.value > sa.bindparam("after")))
"""Each with one lower bound: SQLite goes by the first of two, and through all that lies between them."""
_BEGUN = Prepared(
    sa.select(term.c.message_id, term.c.kind)
    .where(term.c.value >= sa.bindparam("beginning"), term.c.value < sa.bindparam("end"))
    .limit(sa.bindparam("most"))
)
_OF_VALUE = (
    sa.select(term.c.message_id)
    .distinct()
    .where(
        term.c.value == sa.bindparam("own_value"),
        term.c.message_id >= sa.bindparam("low"),
        term.c.message_id < sa.bindparam("high"),
    )
    .order_by(term.c.message_id.desc())
    .limit(sa.bindparam("most"))
)
_OF_WORD = Prepared(_OF_VALUE)
_OF_KIND = Prepared(_OF_VALUE.where(term.c.kind == sa.bindparam("own_kind")))


def begun(conn: sa.Connection, beginning: str, most: int) -> Sequence[tuple[int, str]]:
    """Messages with a word that begins so, in no order, each with the word's kind: to be sorted out by the caller,
    since asked for here it could make the scan a long one.
    """
    asked = {"beginning": beginning, "end": beginning + END, "most": most}
    rows: list[tuple[int, str]] = _BEGUN.run(conn, asked).cursor.fetchall()
    return rows


def whole_words(conn: sa.Connection, beginning: str, most: int) -> list[str] | None:
    """The words that begin so, by leaps; None where there are more than so many."""
    found: list[str] = []
    end = beginning + END
    value = _BEGIN.run(conn, {"beginning": beginning, "end": end}).scalar()
    while value is not None:
        if len(found) == most:
            return None
        found.append(value)
        value = _LEAP.run(conn, {"after": value, "end": end}).scalar()
    return found


def of_word(conn: sa.Connection, value: str, kind: str, *, low: int, high: int, most: int) -> Iterator[int]:
    """The messages between these ids that have exactly this word, newest first; of this kind, where one is said."""
    given = {"own_value": value, "low": low, "high": high, "most": most}
    done = _OF_KIND.run(conn, {**given, "own_kind": kind}) if kind else _OF_WORD.run(conn, given)
    return (row[0] for row in done.cursor)
