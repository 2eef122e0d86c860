"""Height in centimetres, weight in grams, age in years: units decide (hl7.md §5, dicom_ecg.md §3.4)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from bridge.domain.found import Found, Source
from bridge.mapping.rules import Part
from bridge.mapping.sources import fields_at, first_at, part
from bridge.mapping.times import moment_of

_NUMBER = re.compile(r"=?\s*(\d{1,9}(?:[.,]\d{1,18})?)\s*([A-Za-z\[\]_]*)", re.ASCII)
_DECIMAL_STRING = re.compile(r"[+-]?(\d{1,16}(\.\d{0,16})?|\.\d{1,16})([eE][+-]?\d{1,5})?", re.ASCII)
"""PS3.5 §6.2, DS. `Decimal` alone would take `7_0` as well."""
_AGE = re.compile(r"(\d{1,3})([DWMY])", re.ASCII)
_CENTIMETRES = {
    "cm": Decimal(1), "m": Decimal(100), "mm": Decimal("0.1"), "in": Decimal("2.54"), "[in_i]": Decimal("2.54"),
    "ft": Decimal("30.48"), "[ft_i]": Decimal("30.48"),
}  # fmt: skip
_GRAMS = {
    "kg": Decimal(1000), "g": Decimal(1), "lb": Decimal("453.59237"), "lbs": Decimal("453.59237"),
    "[lb_av]": Decimal("453.59237"), "oz": Decimal("28.349523125"), "[oz_av]": Decimal("28.349523125"),
}  # fmt: skip
_YEARS = {"a": 1, "y": 1, "yr": 1, "year": 1, "years": 1, "mo": 12, "m": 12, "wk": 52, "w": 52, "d": 365}
_UNUSABLE = frozenset({"X", "D", "W"})
"""OBX-11: no result, deleted, wrong."""
OLDEST = 130


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured value. `unit` is empty where none was sent."""

    value: Decimal
    unit: str
    where: str


def newest(source: Source, chain: tuple[str, ...], *, zone: str) -> tuple[Measure | None, list[str]]:
    """The best observation of a chain, and the places of those that are no number (`<5`).

    A final one (OBX-11 F or C) goes before others, then the newest (OBX-14), then the chain's order. SN values
    (HL7 v2.5.1 §2.A.70) and `180 cm` in OBX-5 are read.
    """
    best: tuple[tuple[bool, datetime], Measure] | None = None
    unread: list[str] = []
    seen: set[str] = set()
    for field, found, _ in fields_at(source, chain):
        if found.where in seen:  # by its code and by its name
            continue
        seen.add(found.where)
        segment = field.partition("-")[0]
        status = _of(source, segment, "11").upper()
        if status in _UNUSABLE:
            continue
        text = _structured(source, field) if _of(source, segment, "2").upper() == "SN" else found.value
        read = _NUMBER.fullmatch(text.strip())
        if read is None:
            unread.append(found.where)
            continue
        unit = read[2] or _of(source, segment, "6.1")
        observed = moment_of(_of(source, segment, "14.1"), zone) or datetime.min.replace(tzinfo=UTC)
        rank = (status in {"F", "C"}, observed)
        if best is None or rank > best[0]:
            best = rank, Measure(Decimal(read[1].replace(",", ".")), unit.casefold(), found.where)
    return best[1] if best else None, list(dict.fromkeys(unread))


def _of(source: Source, segment: str, field: str) -> str:
    return part(source, f"{segment}-{field.partition('.')[0]}", field.partition(".")[2] or "1")


def _structured(source: Source, field: str) -> str:
    """SN: comparator, number, separator, number. Only `=` and a lone number are a value."""
    comparator, number, separator = (part(source, field, n) for n in ("1", "2", "3"))
    return number if comparator in {"", "="} and not separator else ""


def centimetres(measure: Measure) -> int | None:
    """A height; without a unit metres below 3 and centimetres from 30 to 260. None: not to be told, or impossible."""
    if measure.unit:
        factor = _CENTIMETRES.get(measure.unit, Decimal(0))
    else:
        factor = Decimal(100) if measure.value < 3 else Decimal(1 if measure.value >= 30 else 0)
    height = _whole(measure.value * factor)
    return height if 20 <= height <= 260 else None


def grams(measure: Measure) -> int | None:
    """A weight; without a unit kilograms. None: an unknown unit, or impossible."""
    weight = _whole(measure.value * _GRAMS.get(measure.unit or "kg", Decimal(0)))
    return weight if 200 <= weight <= 700_000 else None


def years(measure: Measure) -> int | None:
    """An age, floored; under one year is 0. None: an unknown unit, or impossible."""
    divisor = _YEARS.get(measure.unit or "a")
    age = int(measure.value // divisor) if divisor else OLDEST + 1
    return age if age <= OLDEST else None


def dicom_height(source: Source, mine: Part) -> tuple[Found, int | None] | None:
    """PatientSize in metres, as centimetres; a value that is none comes as None with its place.

    100 to 260 is surely centimetres, but is taken so only where the AE title's rules say it.
    """
    found = first_at(source, mine.fields.patient_height.dicom)
    if found is None:
        return None
    value = _decimal(found.value) * (1 if mine.height_unit == "cm" else 100)
    return found, _whole(value) if 20 <= value <= 260 else None


def dicom_weight(source: Source, mine: Part) -> tuple[Found, int | None] | None:
    """PatientWeight in kilograms, as grams; a value that is none comes as None with its place."""
    found = first_at(source, mine.fields.patient_weight.dicom)
    if found is None:
        return None
    value = _decimal(found.value)
    return found, _whole(value * 1000) if Decimal("0.2") <= value <= 700 else None


def dicom_age(value: str) -> int | None:
    """An Age String (PS3.5 §6.2: nnnD, nnnW, nnnM, nnnY) in whole years, floored."""
    read = _AGE.fullmatch(value.strip().upper())
    age = int(read[1]) // {"D": 365, "W": 52, "M": 12, "Y": 1}[read[2]] if read else OLDEST + 1
    return age if age <= OLDEST else None


def _whole(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _decimal(value: str) -> Decimal:
    """The number, -1 where it is none or none that a body could have."""
    number = Decimal(value.strip()) if _DECIMAL_STRING.fullmatch(value.strip()) else Decimal(-1)
    return number if abs(number) < 10_000 else Decimal(-1)
