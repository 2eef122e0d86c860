"""Why the ECG was asked for: reasons and diagnoses, each once (hl7.md §5, dicom_ecg.md §3.4)."""

from collections.abc import Callable, Iterator

from bridge.domain.found import Source
from bridge.mapping.rules import ConstantRule
from bridge.mapping.sources import fields_at, found_at, part
from bridge.mapping.trail import Trail

_DIAGNOSES = frozenset({"", "A", "W", "F"})
"""DG1-6 (HL7 table 0052): admitting, working, final."""
_MEANING = "CodeMeaning"

Reason = tuple[str, str, str]
"""Text, code (may be empty) and place."""


def from_hl7(source: Source, rule: ConstantRule, trail: Trail) -> None:
    """The reasons of an order: the text of a coded one, else its code."""
    _put(rule, lambda: _hl7(source, rule.hl7), trail)


def from_dicom(source: Source, rule: ConstantRule, trail: Trail) -> None:
    """The reasons of an object: free texts, and the meanings of codes."""
    _put(rule, lambda: _dicom(source, rule.dicom), trail)


def _put(rule: ConstantRule, reasons: Callable[[], Iterator[Reason]], trail: Trail) -> None:
    if rule.omit:
        return
    if rule.constant:
        trail.put("indications", [rule.constant], "(rules)", "constant")
        return
    seen: set[str] = set()
    texts: list[str] = []
    places: list[str] = []
    for text, code, where in reasons():
        keys = {key for key in (_key(text), _key(code)) if key}
        if keys and not keys & seen:
            texts.append(text)
            places.append(where)
        seen |= keys
    if texts:
        trail.put("indications", texts, ", ".join(places), "reasons in order, folded by code")


def _key(text: str) -> str:
    """`I48.0` and `i480` are one code, `Palpitations.` and `palpitations` one text."""
    return "".join(c for c in text.casefold() if c.isalnum())


def _hl7(source: Source, chain: tuple[str, ...]) -> Iterator[Reason]:
    for field, found, chained in fields_at(source, chain):
        segment, _, number = field.partition("-")
        if segment.startswith("DG1") and part(source, f"{segment}-6", "1").upper() not in _DIAGNOSES:
            continue
        if found.where != field:
            text, code = found.value, ""
        else:
            code = part(source, field, "1") or part(source, field, "4")
            text = part(source, field, "2") or part(source, field, "5") or code
            if segment.startswith("DG1") and number.partition("[")[0] == "3" and text == code:
                text = part(source, f"{segment}-4", "1") or code  # 2.3 and before: the description has its own field
        for made in chained.applied(text):
            yield made, code if code != text else "", field


def _dicom(source: Source, chain: tuple[str, ...]) -> Iterator[Reason]:
    for found in found_at(source, chain):
        codes = source.find(found.where.removesuffix(_MEANING) + "CodeValue") if found.where.endswith(_MEANING) else []
        yield found.value, codes[0].value if codes else "", found.where
