"""The fields whose chain says it all: investigation, device and searching tags."""

from bridge.domain.found import Source
from bridge.mapping.rules import ConstantRule, FieldRule, TagRule
from bridge.mapping.sources import first_at
from bridge.mapping.tags import tags_at
from bridge.mapping.trail import Trail


def investigation(source: Source, rule: FieldRule, chain: tuple[str, ...], trail: Trail) -> None:
    """The hospital's number of the investigation. Where none was sent there is none: it is never made up."""
    if not rule.omit:
        _first(source, "investigation_id", chain, trail)


def device(source: Source, rule: ConstantRule, chain: tuple[str, ...], trail: Trail) -> None:
    """What recorded it: a constant of the rules, else the first of the chain."""
    if rule.omit:
        return
    if rule.constant:
        trail.put("device_id", rule.constant, "(rules)", "constant")
    else:
        _first(source, "device_id", chain, trail)


def _first(source: Source, field: str, chain: tuple[str, ...], trail: Trail) -> None:
    found = first_at(source, chain)
    if found is not None:
        trail.put(field, found.value, found.where, "first of the chain")


def tags(source: Source, rule: TagRule, templates: tuple[str, ...], trail: Trail) -> None:
    """The site's searching tags, each once."""
    if rule.omit:
        return
    made = {rule.constant: "(rules)"} if rule.constant else {}
    for found in tags_at(source, templates):
        made.setdefault(found.value, found.where)
    if made:
        trail.put("searching_tags", list(made), ", ".join(dict.fromkeys(made.values())), "the site's tags")
