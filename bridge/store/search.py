"""Messages found as a person types: every word by its beginning, newest first, with bounded work however much is kept.

There are three ways, the first that can be gone:

1. One of the words, or the states asked for, are those of `FEW` messages at the most. All of them are fetched, and the
   rest is asked of each: what is found is complete.
2. One of the words is whole, or the beginning of few: the index has its messages in order. Or states are asked for, of
   which the same is true. The rest is asked of one after the other.
3. Everything is common and short. The newest messages are walked: what is common is found at once.

The second and third end with the page, or after `MOST` and `FAR` messages: the page says so, and `next` goes on there.
Nothing here uses LIKE, statistics or what one engine alone has: a beginning is a range of words.
"""

import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from bridge.store import line, listing
from bridge.store.by_time import BEHIND, between
from bridge.store.schema import message, millis, term
from bridge.store.terms import OF_PATIENT, OPEN_TO_ALL, Kind, plain, typed
from bridge.store.word_index import END, begun, of_word, whole_words

FEW = 5_000
"""Messages of one word that are fetched whole: 3 ms."""
MOST = 3_000
"""Messages of one word, or of states, that are asked for the rest for one page: 30 ms."""
FAR = 10_000
"""Messages that are walked for one page: 30 ms."""
STEP = 400
"""Messages that are asked in one statement."""
WORDS = 16
"""Words that begin alike and whose messages are laid together."""


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
    """One of the beginnings that a message must have a word of; of this kind, where it says so."""

    beginning: str
    kind: str = ""

    def of(self, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """A word that begins so."""
        return self._where(table, table.c.value)

    def unindexed(self, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """The same, where the way is by messages: without statistics an engine may take the index of words instead."""
        return self._where(table, table.c.value + "")

    def _where(self, table: sa.FromClause, value: sa.ColumnElement[str]) -> list[sa.ColumnElement[bool]]:
        found = [value >= self.beginning, value < self.beginning + END]
        return [*found, table.c.kind == self.kind] if self.kind else found

    @property
    def as_id(self) -> int | None:
        """The message whose id it is."""
        text = self.beginning
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and not self.kind else None


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
    conn: sa.Connection,
    text: str,
    filters: Filters = Filters(),
    *,
    before: int | None = None,
    limit: int = 50,
    of_patients: bool = True,
) -> Page:
    """A page of what was typed. A word that is a message's id finds that message as well.

    Without `of_patients` nothing is found by whose it is: letter by letter, a search would say what is masked.
    """
    asked = _taken_apart(conn, text, filters, before, of_patients=of_patients)
    if asked.low >= asked.high:
        return Page([])
    if asked.high - asked.low > STEP:
        some = _fewest(conn, asked) or _in_order(conn, asked, limit)
        if some is not None:
            return _gone_through(conn, asked, some, limit)
    return _walked(conn, asked, limit)


def _taken_apart(conn: sa.Connection, text: str, filters: Filters, before: int | None, *, of_patients: bool) -> _Asked:
    if of_patients:
        conditions: list[_Condition] = [tuple(tuple(_Word(w) for w in way) for way in choice) for choice in typed(text)]
    else:
        conditions = [
            tuple((_Word(way[0], kind),) for way in choice if len(way) == 1 for kind in OPEN_TO_ALL)
            for choice in typed(text)
        ]
    for value, kind in ((filters.sender, Kind.SENDER), (filters.peer, Kind.PEER)):
        if plain(value):
            conditions.append(((_Word(plain(value), kind),),))
    low, high = between(conn, filters.since, filters.until)
    behind = min(high, before if before is not None else BEHIND, line.newest(conn) + 1)
    return _Asked(tuple(conditions), filters, low, behind)


@dataclass(frozen=True, slots=True)
class _Some:
    """Messages that all that is asked for is among, newest first. `rest` is what is still to be asked of them."""

    ids: Sequence[int]
    rest: tuple[_Condition, ...]
    whole: bool = True  # there are no others


def _gone_through(conn: sa.Connection, asked: _Asked, some: _Some, limit: int) -> Page:
    found: list[int] = []
    for start in range(0, len(some.ids), STEP):
        found += _those(conn, some.ids[start : start + STEP], some.rest, asked.columns())
        if len(found) > limit:
            break
    if some.whole or len(found) > limit:
        return _page(conn, found, limit)
    return Page(listing.of_ids(conn, found), some.ids[-1], len(some.ids))


def _those(
    conn: sa.Connection, ids: Sequence[int], rest: tuple[_Condition, ...], columns: list[sa.ColumnElement[bool]]
) -> Sequence[int]:
    """Those of a few messages that are like that."""
    if not rest and not columns:
        return ids
    own, query = _like(rest, columns, _first(w for w in _single(rest) if w.as_id is None))
    return conn.execute(query.where(own.in_(ids)).order_by(own.desc())).scalars().all()


def _like(
    conditions: tuple[_Condition, ...], columns: list[sa.ColumnElement[bool]], first: _Word | None
) -> tuple[sa.ColumnElement[int], sa.Select[int]]:
    """Messages that are like that, and what they are numbered by: through the words where one of them, the `first`,
    leads, since words are shorter than messages.
    """
    if first is None:
        own = message.c.id
        return own, sa.select(own).where(*columns, *_having(conditions, own))
    own = term.c.message_id
    others = [one for one in conditions if one != ((first,),)]
    query = sa.select(own).distinct().where(*first.unindexed(term), *_having(others, own))
    return own, query.where(sa.exists().where(message.c.id == own, *columns)) if columns else query


def _single(conditions: Iterable[_Condition]) -> list[_Word]:
    """The words that every message must have, the longest first."""
    words = [one[0][0] for one in conditions if len(one) == len(one[0]) == 1]
    return sorted(words, key=lambda word: -len(word.beginning))


def _first(words: Iterable[_Word]) -> _Word | None:
    return next(iter(words), None)


def _having(conditions: Iterable[_Condition], own: sa.ColumnElement[int]) -> list[sa.ColumnElement[bool]]:
    """What is asked of a message's words."""
    return [sa.or_(*(sa.and_(*(_has(word, own) for word in way)) for way in one)) for one in conditions]


def _has(word: _Word, own: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    other = term.alias()
    there = sa.exists().where(other.c.message_id == own, *word.of(other))
    return there if word.as_id is None else sa.or_(there, own == word.as_id)


def _page(conn: sa.Connection, ids: Sequence[int], limit: int) -> Page:
    return Page(listing.of_ids(conn, ids[:limit]), ids[limit - 1] if len(ids) > limit else None)


# --- few ----------------------------------------------------------------------------------------------------


def _fewest(conn: sa.Connection, asked: _Asked) -> _Some | None:
    """None where nothing asked for is rare."""
    found: set[int] | None = None
    rest: list[_Condition] = []
    for condition in asked.conditions:
        few, exact = (None, False) if found is not None and len(found) <= STEP else _of_condition(conn, condition)
        if few is not None:
            found = few if found is None else found & few
        if not exact:
            rest.append(condition)
    if asked.filters.states and (found is None or len(found) > STEP):
        few = _of_states(conn, asked)
        if few is not None:
            found = few if found is None else found & few
    if found is None:
        return None
    return _Some(sorted((i for i in found if asked.low <= i < asked.high), reverse=True), tuple(rest))


def _of_condition(conn: sa.Connection, condition: _Condition) -> tuple[set[int] | None, bool]:
    """Messages that all those are among that go one of these ways, and whether each of them does."""
    found: set[int] = set()
    exact = True
    for way in condition:
        words = [_of_word(conn, word) for word in way]
        known = [one for one in words if one is not None]
        if not known:
            return None, False
        found |= set.intersection(*known)
        exact = exact and len(known) == len(words)
    return found, exact


def _of_word(conn: sa.Connection, word: _Word) -> set[int] | None:
    """Every message with a word that begins so; None where these are more than few."""
    rows = begun(conn, word.beginning, FEW + 1)
    if len(rows) > FEW:
        return None
    return {number for number, kind in rows if word.kind in {"", kind}} | _by_id(conn, word)


def _by_id(conn: sa.Connection, word: _Word) -> set[int]:
    if word.as_id is None:
        return set()
    return set(conn.execute(sa.select(message.c.id).where(message.c.id == word.as_id)).scalars())


def _of_states(conn: sa.Connection, asked: _Asked) -> set[int] | None:
    """Every message in one of the states; None where these are more than few."""
    found = listing.in_states(conn, asked.filters.states, low=asked.low, high=asked.high, most=FEW + 1)
    return None if len(found) > FEW else set(found)


# --- in order -----------------------------------------------------------------------------------------------


def _in_order(conn: sa.Connection, asked: _Asked, limit: int) -> _Some | None:
    """The messages of one word, or of the states; None where no index has them so, or a walk goes as far."""
    for word in _single(asked.conditions):
        rest = tuple(one for one in asked.conditions if one != ((word,),))
        most = MOST if rest or asked.columns() else limit + 1
        values = whole_words(conn, word.beginning, WORDS)
        if values is None:
            continue
        span = {"low": asked.low, "high": asked.high, "most": most + 1}
        lists = [of_word(conn, value, word.kind, **span) for value in values]
        own = (i for i in _by_id(conn, word) if asked.low <= i < asked.high)
        merged = heapq.merge(*lists, own, key=lambda number: -number)
        ids = list(itertools.islice((number for number, _ in itertools.groupby(merged)), most + 1))
        if len(ids) <= most or not rest or ids[0] - ids[most] > FAR:
            return _Some(ids[:most], rest, whole=len(ids) <= most)
    states = asked.filters.states
    if not states:
        return None
    most = MOST if asked.conditions or len(asked.columns()) > 1 else limit + 1
    ids = listing.in_states(conn, states, low=asked.low, high=asked.high, most=most + 1)
    return _Some(ids[:most], asked.conditions, whole=len(ids) <= most)


# --- a walk -------------------------------------------------------------------------------------------------


def _walked(conn: sa.Connection, asked: _Asked, limit: int) -> Page:
    """The newest messages one by one."""
    columns = asked.columns()
    floor = max(asked.low, asked.high - FAR) if asked.conditions or columns else asked.low
    first = _first(_single(asked.conditions))
    own, query = _like(asked.conditions, columns, first)
    query = query.where(own >= floor, own < asked.high).order_by(own.desc()).limit(limit + 1)
    found = list(conn.execute(query).scalars())
    by_id = [i for i in _by_id(conn, first) if floor <= i < asked.high] if first is not None else []
    if by_id:
        found = sorted({*found, *_those(conn, by_id, asked.conditions, columns)}, reverse=True)
    if len(found) > limit or floor <= asked.low:
        return _page(conn, found, limit)
    return Page(listing.of_ids(conn, found), floor, asked.high - floor)


# --- single messages ----------------------------------------------------------------------------------------

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
        found = begun(conn, beginning, STEP + 1)
        kinds.update(kind for _, kind in found)
        if len(found) > STEP:
            return True  # not all were looked at
    return not kinds or bool(kinds & OF_PATIENT)
