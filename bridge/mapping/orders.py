"""One HL7 order: its numbers and its task fields (hl7.md §5)."""

from collections.abc import Iterator

from bridge.domain.found import Source
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.mapping import measures
from bridge.mapping.patients import Trail, person_from_hl7
from bridge.mapping.rules import Part, Rules
from bridge.mapping.sources import first_at, found_at, parse_address, part

_NUMBERS = (
    (NumberKind.PLACER, ("ORC-2", "OBR-2")),
    (NumberKind.FILLER, ("ORC-3", "OBR-3")),
    (NumberKind.ACCESSION, ("IPC-1", "OBR-18")),
    (NumberKind.PROCEDURE, ("IPC-2", "OBR-19")),
)


def order_numbers(source: Source) -> tuple[OrderNumber, ...]:
    """Every number of the order, each kind once, with the namespace that makes it unique (EI.2, else EI.3)."""
    numbers = []
    for kind, addresses in _NUMBERS:
        for address in addresses:
            value = part(source, address, "1")
            if value:
                authority = part(source, address, "2") or part(source, address, "3")
                numbers.append(OrderNumber(value, kind, authority))
                break
    return tuple(numbers)


def map_order(source: Source, rules: Rules) -> Mapped:
    """The task fields of one order.

    The start of a recording is never filled from an order: OBR-7 in an order is a wish.
    """
    trail = Trail.new()
    mine = rules.of(source)
    identifier = person_from_hl7(source, rules, trail)
    _measured(source, mine, trail)
    _plain(source, mine, trail)
    indications = list(_indications(source, mine))
    if indications and not mine.fields.indications.omit:
        texts = [text for text, _ in indications]
        places = ", ".join(dict.fromkeys(where for _, where in indications))
        trail.put("indications", texts, places, "reasons of the order, folded by code")
    return Mapped(
        fields=trail.fields,
        traces=tuple(trail.traces),
        warnings=tuple(trail.warnings),
        patient_authority=identifier.authority if identifier else "",
        numbers=order_numbers(source),
    )


def _plain(source: Source, mine: Part, trail: Trail) -> None:
    """The fields whose chain says it all."""
    for field in ("investigation_id", "device_id"):
        rule = getattr(mine.fields, field)
        if rule.omit:
            continue
        if rule.constant:
            trail.put(field, rule.constant, "(rules)", "constant")
            continue
        found = first_at(source, rule.hl7)
        if found is not None:
            trail.put(field, found.value, found.where, "first of the chain")
    tags = list(dict.fromkeys(f.value for f in found_at(source, mine.fields.searching_tags.hl7)))
    if tags:
        trail.put("searching_tags", tags, "(chain)", "the site's tags")


def _measured(source: Source, mine: Part, trail: Trail) -> None:
    for field, read, what in (
        ("patient_height", measures.centimetres, "centimetres"),
        ("patient_weight", measures.grams, "grams"),
    ):
        rule = getattr(mine.fields, field)
        measure = None if rule.omit else measures.newest(source, rule.hl7)
        if measure is None:
            continue
        value = read(measure)
        if value is None:
            trail.warn(f"{measure.where}: not a possible value in a known unit; left out")
        else:
            trail.put(field, value, measure.where, f"newest observation, as {what}")
    if "patient_birth_date" in trail.fields or mine.fields.patient_age.omit:
        return
    measure = measures.newest(source, mine.fields.patient_age.hl7)
    age = measures.years(measure) if measure else None
    if measure is not None and age is not None:
        trail.put("patient_age", age, measure.where, "age in years; no birth date")


def _indications(source: Source, mine: Part) -> Iterator[tuple[str, str]]:
    """`text` of coded reasons, else their code; the same code or the same text comes once."""
    seen: set[str] = set()
    for address in mine.fields.indications.hl7:
        for found in source.find(parse_address(address)[0]):
            if found.null:
                continue
            code, text = part(source, found.where, "1"), part(source, found.where, "2")
            told = text or code
            keys = {k.casefold() for k in (code if text else "", told) if k}
            if told and not keys & seen:
                seen |= keys
                yield told, found.where
