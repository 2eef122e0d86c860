"""One HL7 order: its numbers and its task fields (hl7.md §5)."""

from datetime import datetime

from bridge.clock import SystemClock
from bridge.domain.found import Source
from bridge.domain.task import Mapped, NumberKind, OrderNumber
from bridge.mapping import measures, reasons
from bridge.mapping.patients import person_from_hl7
from bridge.mapping.plain import destination, device, investigation, tags
from bridge.mapping.rules import Part, Rules
from bridge.mapping.sources import fields_at, part
from bridge.mapping.trail import Trail


def order_numbers(source: Source, rules: Rules) -> tuple[OrderNumber, ...]:
    """Every number of the order, each once, with the namespace that makes it unique (EI.2, else EI.3).

    The kinds come in the order placer, filler, accession, procedure, and each kind's in the order of its chain.
    """
    mine = rules.of(source).numbers
    numbers: dict[tuple[str, NumberKind], OrderNumber] = {}
    for kind in NumberKind:
        for field, found, chained in fields_at(source, getattr(mine, kind.value).hl7):
            value = part(source, field, "1") if found.where == field else found.value
            authority = part(source, field, "2") or part(source, field, "3")
            for made in chained.applied(value):
                numbers.setdefault((made, kind), OrderNumber(made, kind, authority))
    return tuple(numbers.values())


def map_order(source: Source, rules: Rules, *, time_zone: str = "UTC", now: datetime | None = None) -> Mapped:
    """The task fields of one order.

    `time_zone` is the site's, for observation times without an offset; `now` decides which identifiers are valid and
    which birth dates lie in the future. The start of a recording is never filled from an order: OBR-7 is a wish there.
    """
    mine, trail = rules.of(source), Trail()
    identifier = person_from_hl7(source, mine, trail, now or SystemClock().now())
    _measured(source, mine, trail, mine.time_zone or time_zone)
    investigation(source, mine.fields.investigation_id, mine.fields.investigation_id.hl7, trail)
    device(source, mine.fields.device_id, mine.fields.device_id.hl7, trail)
    reasons.from_hl7(source, mine.fields.indications, trail)
    tags(source, mine.fields.searching_tags, mine.fields.searching_tags.hl7, trail)
    routed = destination(source, mine.destination, mine.destination.hl7)
    return trail.mapped(identifier, order_numbers(source, rules), destination=routed)


def _measured(source: Source, mine: Part, trail: Trail, zone: str) -> None:
    for field, read, rule_text in (
        ("patient_height", measures.centimetres, "newest observation, in centimetres"),
        ("patient_weight", measures.grams, "newest observation, in grams"),
        ("patient_age", measures.years, "age in whole years; no birth date"),
    ):
        rule = getattr(mine.fields, field)
        if rule.omit or (field == "patient_age" and "patient_birth_date" in trail.fields):
            continue
        measure, unread = measures.newest(source, rule.hl7, zone=zone)
        for place in unread:
            trail.warn(f"{place}: not a number; left out")
        value = read(measure) if measure else None
        if measure is not None and value is not None:
            trail.put(field, value, measure.where, rule_text)
        elif measure is not None:
            trail.warn(f"{measure.where}: not a possible value in a known unit; left out")
