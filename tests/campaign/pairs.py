"""Orders and recordings of generated identities, agreeing and contradicting: who is attached, against a second rule.

`allowed` is promise 3 written a second time, from the promise and not from the code (DESIGN.md; failures.md F35).
"""

import random
import time
import unicodedata
from collections import Counter
from collections.abc import Callable

from bridge.domain.patient import Demographics, Identifier
from bridge.domain.task import NumberKind, OrderNumber
from bridge.mapping.matching import Held, Matched, OrderFacts, RecordingFacts, match
from tests.campaign.results import Result, Say

VALUES = {
    "number": ["A1", "A2", "P7"],
    "number_authority": ["", "", "HIS", "RIS"],
    "id": ["4711", "4711", "4712", ""],
    "authority": ["", "TEST", "test", "OTHER"],
    "last": ["Muster", "MUSTER", "Müster", "Probe", ""],
    "first": ["Max", "max", "Max Otto", "Max Anton", "M", "Anna", ""],
    "sex": ["MALE", "FEMALE", "UNDIFFERENTIATED", ""],
    "born": ["1970-01-31", "1970-01-31", "1970-01-13", ""],
}
"""Few values, close to each other, so that most pairs agree in something."""
POOL = 4000
ROUND = 20_000


def number(value: str, authority: str = "", kind: NumberKind = NumberKind.ACCESSION) -> OrderNumber:
    return OrderNumber(value, kind, authority)


def facts(pick: Callable[[str], str]) -> tuple[tuple[OrderNumber, ...], Identifier, Demographics]:
    """What an order or a recording says, drawn value by value."""
    numbers = tuple(number(pick("number"), pick("number_authority")) for _ in range(2))
    who = Demographics(pick("last"), pick("first"), pick("sex"), pick("born"))
    return numbers, Identifier(pick("id"), pick("authority")), who


def plain(text: str) -> tuple[str, ...]:
    """Letters and digits without case and accents, word by word."""
    letters = [c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn"]
    return tuple("".join(c if c.isalnum() else " " for c in letters).replace("ß", "ss").split())


def allowed(rec: RecordingFacts, ordered: OrderFacts, site: str = "") -> bool:
    """Whether a person who reads promise 3 would let this recording go to this order."""
    numbers = {
        (a.value, b.value)
        for a in rec.numbers
        for b in ordered.numbers
        if a.value == b.value and a.value and len({a.authority.lower(), b.authority.lower()} - {""}) < 2
    }
    mine, theirs = rec.identifier, ordered.identifier
    issuers = {i.lower() for i in (mine.authority or site, theirs.authority or site) if i}
    same_patient = mine.value != "" and mine.value == theirs.value and len(issuers) < 2
    a, b = rec.demographics, ordered.demographics
    lasts, firsts = (plain(a.last_name), plain(b.last_name)), (plain(a.first_name), plain(b.first_name))
    contradicts = any(x and y and x != y for x, y in [lasts, ((a.birth_date), (b.birth_date))])
    contradicts = contradicts or {a.gender, b.gender} == {"MALE", "FEMALE"}
    n = min(map(len, firsts))
    name_agrees = all(lasts) and lasts[0] == lasts[1] and n > 0 and firsts[0][:n] == firsts[1][:n]
    if all(lasts) and n and any(not (x.startswith(y) or y.startswith(x)) for x, y in zip(*firsts, strict=False)):
        contradicts = True
    date_agrees = a.birth_date != "" and a.birth_date == b.birth_date
    return bool(numbers) and same_patient and not contradicts and (name_agrees or date_agrees)


def judged(chance: random.Random, pairs: int) -> Counter[str]:
    """So many pairs: how many were attached, held and left without an order, wrongly or in vain."""
    counts: Counter[str] = Counter(pairs=pairs)
    pool = [facts(lambda name: chance.choice(VALUES[name])) for _ in range(POOL)]
    for _ in range(pairs):
        rec, ordered = RecordingFacts(*chance.choice(pool)), OrderFacts(1, *chance.choice(pool))
        site = chance.choice(["", "TEST"])
        outcome, right = match(rec, [ordered], site_authority=site), allowed(rec, ordered, site)
        got = isinstance(outcome, Matched)
        counts["attached" if got else "held" if isinstance(outcome, Held) else "no_order_of_that_number"] += 1
        counts["wrong_patient"] += got and not right
        counts["broken"] += right and not got  # a pair that a person would have attached
    return counts


def run(seed: int, minutes: float, say: Say) -> Result:
    """Generate pairs for about so many minutes."""
    chance, began = random.Random(seed), time.monotonic()
    counts: Counter[str] = Counter()
    while time.monotonic() - began < 60 * minutes:
        counts += judged(chance, ROUND)
    counts.update(wrong_patient=0, broken=0)
    say(f"{counts['pairs']:,} pairs, {counts['held'] / counts['pairs']:.1%} held")
    return Result("pairs", seed, dict(counts), time.monotonic() - began)
