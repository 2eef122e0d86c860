"""Which order a recording belongs to: the rule of promise 3, and nothing else.

An order is a candidate where one of its numbers is one of the recording's. It is attached where the patient identifier
agrees, at least one of name and birth date agrees, and nothing contradicts. Everything else is for a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bridge.domain.patient import Demographics, Identifier, folded
from bridge.domain.task import OrderNumber


class HoldReason(StrEnum):
    """Why a person must look."""

    CONTRADICTION = "contradicts_order"
    TOO_LITTLE = "too_little_agrees"
    AMBIGUOUS = "several_orders"


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """What a recording says of whose it is."""

    numbers: tuple[OrderNumber, ...]
    identifier: Identifier
    demographics: Demographics


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What an order says of whose it is."""

    order_id: int
    numbers: tuple[OrderNumber, ...]
    identifier: Identifier
    demographics: Demographics


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two accounts of a person, field by field; a field in neither is not known on one side, or unclear."""

    agree: tuple[str, ...]
    contradict: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """The one order it belongs to."""

    order_id: int
    agreements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoOrder:
    """No order has its number; `reason` says whether it has one."""

    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """Orders have its number, but it cannot be told that they are its own."""

    reason: HoldReason
    order_ids: tuple[int, ...]
    agreements: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()


Match = Matched | NoOrder | Held


def compare(a: Demographics, b: Demographics) -> Comparison:
    """Name, birth date and sex, each agreeing, contradicting, or unknown."""
    agree, contradict = [], []
    for name, verdict in (
        ("name", _names(a, b)),
        ("birth_date", _equal(a.birth_date, b.birth_date)),
        ("sex", _equal(_known_sex(a.gender), _known_sex(b.gender))),
    ):
        if verdict is True:
            agree.append(name)
        elif verdict is False:
            contradict.append(name)
    return Comparison(tuple(agree), tuple(contradict))


def _equal(a: str, b: str) -> bool | None:
    return a == b if a and b else None


def _known_sex(gender: str) -> str:
    """UNDIFFERENTIATED stands for several codes, so it contradicts nothing."""
    return gender if gender in {"MALE", "FEMALE"} else ""


def _names(a: Demographics, b: Demographics) -> bool | None:
    """Family names must be equal; given names equal, or one the beginning of the other, word by word.

    `Anna` and `Anna Maria` agree: carts cut middle names, and a number and an identifier agree besides. `A` and `Anna`
    do not contradict, but do not agree either: an initial is too little. A missing family name says nothing; a missing
    given name leaves the family name to speak alone, which is too little to agree (relatives share it, and the
    identifier may be mistyped) and enough to contradict. A changed, swapped or transliterated family name (`Mueller`
    for `Müller`) contradicts: it costs a person a look, where the other error costs a patient the right ECG.
    """
    last_a, last_b = folded(a.last_name), folded(b.last_name)
    if not last_a or not last_b:
        return None
    if last_a != last_b:
        return False
    first_a, first_b = folded(a.first_name).split(), folded(b.first_name).split()
    if not first_a or not first_b:
        return None
    shorter, longer = sorted((first_a, first_b), key=len)
    if longer[: len(shorter)] == shorter:
        return True
    if all(x.startswith(y) or y.startswith(x) for x, y in zip(shorter, longer, strict=False)):
        return None
    return False


def _shares_number(a: Sequence[OrderNumber], b: Sequence[OrderNumber]) -> bool:
    """One number in both, whose authorities do not differ. Kinds may differ: carts fill what they can."""
    return any(
        x.value.strip() == y.value.strip()
        and (not x.authority or not y.authority or x.authority.casefold() == y.authority.casefold())
        for x in a
        for y in b
        if x.value.strip()
    )


def match(recording: RecordingFacts, orders: Sequence[OrderFacts], *, site_authority: str = "") -> Match:
    """The order of a recording. Time is never a reason, and nothing is guessed."""
    candidates = {o.order_id: o for o in orders if _shares_number(recording.numbers, o.numbers)}
    if not candidates:
        return NoOrder("no order has its number" if recording.numbers else "it has no order number")
    good: list[tuple[int, tuple[str, ...]]] = []
    agreements: dict[str, None] = {}
    contradictions: dict[str, None] = {}
    for order in candidates.values():
        same_id = recording.identifier.agrees(order.identifier, site_authority=site_authority)
        told = compare(recording.demographics, order.demographics)
        against = (*(() if same_id else ("patient_id",)), *told.contradict)
        agreed = (*(("patient_id",) if same_id else ()), *told.agree)
        if not against and {"name", "birth_date"} & set(told.agree):
            good.append((order.order_id, agreed))
        agreements |= dict.fromkeys(agreed)
        contradictions |= dict.fromkeys(against)
    if len(good) == 1:
        return Matched(*good[0])
    ids = tuple(candidates)
    if good:
        return Held(HoldReason.AMBIGUOUS, ids, tuple(agreements), tuple(contradictions))
    reason = HoldReason.CONTRADICTION if contradictions else HoldReason.TOO_LITTLE
    return Held(reason, ids, tuple(agreements), tuple(contradictions))
