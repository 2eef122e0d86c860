"""What a chain says by itself: investigation, device, searching tags, and where the task goes."""

from collections.abc import Callable

from bridge.domain.found import Found, Source
from bridge.mapping.rules import ConstantRule, FieldRule, TagRule
from bridge.mapping.sources import first_at, found_at
from bridge.mapping.tags import tags_at
from bridge.mapping.trail import Trail


def _value(found: Found) -> str:
    return found.value


def investigation(
    source: Source, rule: FieldRule, chain: tuple[str, ...], trail: Trail, *, read: Callable[[Found], str] = _value
) -> None:
    """The hospital's number of the investigation. Where none was sent there is none: it is never made up."""
    if not rule.omit:
        _first(source, "investigation_id", chain, trail, read=read)


def device(source: Source, rule: ConstantRule, chain: tuple[str, ...], trail: Trail) -> None:
    """What recorded it: a constant of the rules, else the first of the chain."""
    if rule.omit:
        return
    if rule.constant:
        trail.put("device_id", rule.constant, "(rules)", "constant")
    else:
        _first(source, "device_id", chain, trail, read=_value)


def _first(source: Source, field: str, chain: tuple[str, ...], trail: Trail, *, read: Callable[[Found], str]) -> None:
    for found in found_at(source, chain):
        if value := read(found):
            trail.put(field, value, found.where, "first of the chain")
            return


def tags(source: Source, rule: TagRule, templates: tuple[str, ...], trail: Trail) -> None:
    """The site's searching tags, each once."""
    if rule.omit:
        return
    made = {rule.constant: "(rules)"} if rule.constant else {}
    for found in tags_at(source, templates):
        made.setdefault(found.value, found.where)
    if made:
        trail.put("searching_tags", list(made), ", ".join(dict.fromkeys(made.values())), "the site's tags")


def destination(source: Source, rule: ConstantRule, chain: tuple[str, ...]) -> str:
    """What the site's rule says for the routes of the settings; empty where it says nothing. No task field."""
    if rule.omit:
        return ""
    found = None if rule.constant else first_at(source, chain)
    return rule.constant or (found.value if found else "")
