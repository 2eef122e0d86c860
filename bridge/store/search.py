"""Messages found as a person types: every word by its beginning, newest first, with bounded work however much is kept.

Two ways. Where one of the words, or the states asked for, are those of `FEW` messages at the most, these are fetched
by index, all of them, and the rest is asked of each: what is found is complete. Where everything asked for is common,
the newest messages are walked until the page is full: what is common is found at once. What is common and yet never
comes together ends the walk after `FAR` messages, and the page says so; its `next` goes on behind them.

Nothing here uses LIKE, statistics or what one engine alone has: a beginning is a range of words.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from bridge.store import listing
from bridge.store.prepared import Prepared
from bridge.store.schema import message, millis, term
from bridge.store.terms import OF_PATIENT, Kind, plain, typed

FEW = 10_000
"""Messages of one word that are fetched whole."""
FAR = 10_000
"""Messages that are walked for one page."""
STEP = 400
"""Messages that are looked at in one statement, of those that were fetched."""
_END = "\U0010ffff"
"""Behind every character that a word can have."""
_NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class Filters:
    """What narrows a search besides the words; empty: everything. Sender and peer are beginnings, as words are."""

    states: Collection[str] = ()
    kinds: Collection[str] = ()
    types: Collection[str] = ()
    sender: str = ""
    peer: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Messages, newest first. `next` goes on behind the last one that was looked at; None: there are no more.

    `looked` is set where the search stopped before the page was full: how many messages it went through.
    """

    rows: list[listing.Listed]
    next: int | None = None
    looked: int = 0


@dataclass(frozen=True, slots=True)
class _Word:
    """One of the beginnings that a message must have a word of; of these kinds, where it says so."""

    beginning: str
    kinds: frozenset[str] = frozenset()

    def of(self, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """A word that begins so."""
        return self._where(table, table.c.value)

    def unindexed(self, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """The same, where the way is by messages: without statistics an engine may take the index of words instead."""
        return self._where(table, table.c.value + "")

    def _where(self, table: sa.FromClause, value: sa.ColumnElement[str]) -> list[sa.ColumnElement[bool]]:
        found = [value >= self.beginning, value < self.beginning + _END]
        return [*found, table.c.kind.in_(sorted(self.kinds))] if self.kinds else found


_Way = tuple[_Word, ...]
"""Words that a message has all of."""
_Condition = tuple[_Way, ...]
"""Ways, of which a message goes one."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A search, taken apart. `low` and `high`: messages outside of these are none of it."""

    conditions: tuple[_Condition, ...]
    filters: Filters
    low: int
    high: int

    def columns(self) -> list[sa.ColumnElement[bool]]:
        """What is asked of a message's own row."""
        f = self.filters
        of = [("state", f.states), ("kind", f.kinds), ("type", f.types)]
        made: list[sa.ColumnElement[bool]] = [message.c[name].in_(sorted(values)) for name, values in of if values]
        if f.since is not None:
            made.append(message.c.received_at >= millis(f.since))
        if f.until is not None:
            made.append(message.c.received_at < millis(f.until))
        return made


def find(
    conn: sa.Connection, text: str, filters: Filters = Filters(), *, before: int | None = None, limit: int = 50
) -> Page:
    """A page of what was typed. A word that is a message's id finds that message as well."""
    asked = _taken_apart(conn, text, filters, before)
    if asked.low >= asked.high:
        return Page([])
    few = _fewest(conn, asked)
    if few is not None:
        return _of_few(conn, asked, few, limit)
    return _walked(conn, asked, limit)


def _taken_apart(conn: sa.Connection, text: str, filters: Filters, before: int | None) -> _Asked:
    conditions: list[_Condition] = [tuple(tuple(_Word(w) for w in way) for way in choice) for choice in typed(text)]
    for value, kind in ((filters.sender, Kind.SENDER), (filters.peer, Kind.PEER)):
        if plain(value):
            conditions.append(((_Word(plain(value), frozenset({kind})),),))
    low, high = between(conn, filters.since, filters.until)
    return _Asked(tuple(conditions), filters, low, min(high, before if before is not None else _NEWEST))


# --- what is few --------------------------------------------------------------------------------------------


def _fewest(conn: sa.Connection, asked: _Asked) -> list[int] | None:
    """The ids that everything asked for is among, newest first; None where nothing asked for is rare."""
    if asked.high - asked.low <= STEP:
        return None  # a short walk
    looks: list[Callable[[], set[int] | None]] = [functools.partial(_of_condition, conn, c) for c in asked.conditions]
    if asked.filters.states:
        looks.append(functools.partial(_of_states, conn, asked))
    found: set[int] | None = None
    for look in looks:
        some = look()
        if some is not None:
            found = some if found is None else found & some
            if len(found) <= STEP:
                break  # one statement asks the rest of them
    if found is None:
        return None
    return sorted((i for i in found if asked.low <= i < asked.high), reverse=True)


def _of_condition(conn: sa.Connection, condition: _Condition) -> set[int] | None:
    found: set[int] = set()
    for way in condition:
        words = [one for one in (_of_word(conn, word) for word in way) if one is not None]
        if not words:
            return None
        found |= set.intersection(*words)
    return found


def _of_word(conn: sa.Connection, word: _Word) -> set[int] | None:
    """Every message with a word that begins so; None where these are more than few."""
    rows = _begun(conn, word.beginning, FEW + 1)
    if len(rows) > FEW:
        return None
    return {number for number, kind in rows if not word.kinds or kind in word.kinds} | _by_id(conn, word)


_BEGUN = Prepared(
    sa.select(term.c.message_id, term.c.kind)
    .where(term.c.value >= sa.bindparam("beginning"), term.c.value < sa.bindparam("end"))
    .limit(sa.bindparam("most"))
)


def _begun(conn: sa.Connection, beginning: str, most: int) -> Sequence[tuple[int, str]]:
    """Messages with a word that begins so, and of which kind it is: that must not make the scan a long one."""
    asked = {"beginning": beginning, "end": beginning + _END, "most": most}
    rows: list[tuple[int, str]] = _BEGUN.run(conn, asked).cursor.fetchall()
    return rows


def _by_id(conn: sa.Connection, word: _Word) -> set[int]:
    """The message whose id the word is."""
    own = _id_in(word)
    if own is None:
        return set()
    return set(conn.execute(sa.select(message.c.id).where(message.c.id == own)).scalars())


def _id_in(word: _Word) -> int | None:
    text = word.beginning
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and not word.kinds else None


def _of_states(conn: sa.Connection, asked: _Asked) -> set[int] | None:
    """Every message in one of the states; None where these are more than few."""
    found = listing.in_states(conn, asked.filters.states, low=asked.low, high=asked.high, most=FEW + 1)
    return None if len(found) > FEW else set(found)


def _of_few(conn: sa.Connection, asked: _Asked, ids: Sequence[int], limit: int) -> Page:
    """Those among these that are asked for, some at a time."""
    found: list[int] = []
    for start in range(0, len(ids), STEP):
        found += _those(conn, asked, ids[start : start + STEP], limit + 1 - len(found))
        if len(found) > limit:
            break
    return _page(conn, found, limit)


def _those(conn: sa.Connection, asked: _Asked, ids: Collection[int], most: int) -> Sequence[int]:
    own = message.c.id
    query = sa.select(own).where(own.in_(ids), *asked.columns(), *_having(asked.conditions, own))
    return conn.execute(query.order_by(own.desc()).limit(most)).scalars().all()


# --- what is common -----------------------------------------------------------------------------------------


def _walked(conn: sa.Connection, asked: _Asked, limit: int) -> Page:
    """The newest messages one by one; through their words where there are any, which are shorter than messages."""
    columns = asked.columns()
    if asked.filters.states and not asked.conditions and len(columns) == 1:
        return _of_common_states(conn, asked, limit)
    high = min(asked.high, newest(conn) + 1)
    floor = max(asked.low, high - FAR) if asked.conditions or columns else asked.low
    first = next((c for c in asked.conditions if len(c) == len(c[0]) == 1), None)
    if first is None:
        own = message.c.id
        where = [*columns, *_having(asked.conditions, own)]
    else:
        own = term.c.message_id
        where = [*first[0][0].unindexed(term), *_having([c for c in asked.conditions if c is not first], own)]
        where += [sa.exists().where(message.c.id == own, *columns)] if columns else []
    query = sa.select(own).where(own >= floor, own < high, *where).distinct().order_by(own.desc()).limit(limit + 1)
    found = list(conn.execute(query).scalars())
    if first is not None and (by_id := {i for i in _by_id(conn, first[0][0]) if floor <= i < high}):
        found = sorted({*found, *_those(conn, asked, by_id, 1)}, reverse=True)
    if len(found) > limit or floor <= asked.low:
        return _page(conn, found, limit)
    return Page(listing.of_ids(conn, found), floor, high - floor)


def _of_common_states(conn: sa.Connection, asked: _Asked, limit: int) -> Page:
    """States alone: the index has them in order."""
    ids = listing.in_states(conn, asked.filters.states, low=asked.low, high=asked.high, most=limit + 1)
    return _page(conn, ids, limit)


def _having(conditions: Iterable[_Condition], own: sa.ColumnElement[int]) -> list[sa.ColumnElement[bool]]:
    """What is asked of a message's words."""
    return [sa.or_(*(sa.and_(*(_has(word, own) for word in way)) for way in one)) for one in conditions]


def _has(word: _Word, own: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    other = term.alias()
    there = sa.exists().where(other.c.message_id == own, *word.of(other))
    as_id = _id_in(word)
    return there if as_id is None else sa.or_(there, own == as_id)


def _page(conn: sa.Connection, ids: Sequence[int], limit: int) -> Page:
    return Page(listing.of_ids(conn, ids[:limit]), ids[limit - 1] if len(ids) > limit else None)


# --- times, and single messages -----------------------------------------------------------------------------

ASTRAY = timedelta(hours=2)
"""How far a clock may have been set wrong for a time to be found by ids, which grow with it (F25: an hour)."""


def between(conn: sa.Connection, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """Ids that hold every message of these times, and others: from the first, up to before the second.

    There is no index of times, which every message would pay for. Ids grow with time, unless a clock was set back:
    the edges are found by halving, and drawn wider by `ASTRAY`. The rows inside are asked for their own time.
    """
    low = first_at(conn, millis(since - ASTRAY)) if since is not None else 0
    high = first_at(conn, millis(until + ASTRAY)) if until is not None else _NEWEST
    return low, high


def first_at(conn: sa.Connection, at: int) -> int:
    """The first message that was received then or later, where times grow with ids; one behind the newest: none."""
    behind = newest(conn) + 1
    low, high = 0, behind
    query = (
        sa.select(message.c.id, message.c.received_at)
        .where(message.c.id >= sa.bindparam("from_id"))
        .order_by(message.c.id)
        .limit(1)
    )
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(query, {"from_id": middle}).first()
        if row is None or row.received_at >= at:
            high = middle
        else:
            low = row.id + 1
    return low


def newest(conn: sa.Connection) -> int:
    """The id of the newest message; 0 where there is none."""
    return int(conn.execute(sa.select(sa.func.max(message.c.id))).scalar() or 0)


_NAMING = {Kind.TASK: "task", Kind.CONTROL: "control", Kind.INSTANCE: "instance"}


def named(conn: sa.Connection, text: str) -> tuple[int, str] | None:
    """The one message that has exactly this as its task id, control id or SOP instance, and which of them it is; None
    where none has, or several.
    """
    value = plain(text)
    if not value:
        return None
    kinds = sorted(_NAMING)
    query = sa.select(term.c.message_id, term.c.kind).where(term.c.value == value, term.c.kind.in_(kinds)).limit(2)
    rows = conn.execute(query).all()
    if len({row.message_id for row in rows}) != 1:
        return None
    return rows[0].message_id, _NAMING[rows[0].kind]


def may_name_a_patient(conn: sa.Connection, text: str) -> bool:
    """Whether what was typed could be of a patient: it is no beginning of anything else, or also one of his.

    What could be, is kept out of addresses, which browsers and proxies write down.
    """
    return any(_of_a_patient(conn, choice) for choice in typed(text))


def _of_a_patient(conn: sa.Connection, choice: Sequence[Sequence[str]]) -> bool:
    kinds: set[str] = set()
    for beginning in {word for way in choice for word in way}:
        found = _begun(conn, beginning, STEP + 1)
        kinds.update(kind for _, kind in found)
        if len(found) > STEP:
            return True  # not all were looked at
    return not kinds or bool(kinds & OF_PATIENT)
