"""Height in centimetres, weight in grams, age in years: units decide (hl7.md §5, dicom_ecg.md §3.4)."""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from bridge.domain.found import Source
from bridge.mapping.rules import Part
from bridge.mapping.sources import first_at, parse_address, part

_NUMBER = re.compile(r"^\s*=?\s*(\d+(?:[.,]\d+)?)\s*([A-Za-z\[\]_]*)\s*$")
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


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured value. `unit` is empty where none was sent."""

    value: Decimal
    unit: str
    where: str


def newest(source: Source, addresses: tuple[str, ...]) -> Measure | None:
    """The best observation of a chain: a final one (OBX-11 F or C) before others, then the newest (OBX-14).

    The chain's order decides between observations that are equal in both. SN (comparator^number) and `180 cm` in
    OBX-5 are read, `<5` is not a value.
    """
    best: tuple[tuple[bool, str], Measure] | None = None
    for text in addresses:
        for found in source.find(parse_address(text)[0]):
            segment = found.where.partition("-")[0]
            status = _of(source, segment, 11)
            if found.null or status in _UNUSABLE:
                continue
            value = part(source, found.where, "2") if _of(source, segment, 2) == "SN" else found.value
            read = _NUMBER.match(value)
            if read is None:
                continue
            unit = read[2] or part(source, f"{segment}-6", "1")
            rank = (status in {"F", "C"}, _of(source, segment, 14))
            if best is None or rank > best[0]:
                best = (rank, Measure(Decimal(read[1].replace(",", ".")), unit.casefold(), found.where))
    return best[1] if best else None


def _of(source: Source, segment: str, field: int) -> str:
    return next((f.value.upper() for f in source.find(f"{segment}-{field}") if not f.null), "")


def centimetres(measure: Measure) -> int | None:
    """A height; without a unit metres below 3 and centimetres from 30 to 260. None: not to be told, or impossible."""
    if measure.unit:
        factor = _CENTIMETRES.get(measure.unit)
    elif measure.value < 3:
        factor = Decimal(100)
    else:
        factor = Decimal(1)
    height = round(measure.value * factor) if factor is not None else 0
    return height if 20 <= height <= 260 else None


def grams(measure: Measure) -> int | None:
    """A weight; without a unit kilograms. None: an unknown unit, or impossible."""
    factor = _GRAMS.get(measure.unit or "kg")
    weight = round(measure.value * factor) if factor is not None else 0
    return weight if 200 <= weight <= 700_000 else None


def years(measure: Measure) -> int | None:
    """An age, floored; under one year is 0. None: an unknown unit, or impossible."""
    divisor = _YEARS.get(measure.unit or "a")
    age = int(measure.value // divisor) if divisor else 200
    return age if age <= 130 else None


def dicom_height(source: Source, mine: Part) -> tuple[int | None, str, str]:
    """PatientSize in metres, as centimetres, with its place and what is wrong.

    100 to 260 is surely centimetres, but is taken so only where the AE title's rules say it.
    """
    found = first_at(source, mine.fields.patient_height.dicom)
    value = _decimal(found.value) if found else None
    if found is None or value is None:
        return None, "", ""
    size = value if mine.height_unit == "cm" else value * 100
    if 20 <= size <= 260:
        return round(size), found.where, ""
    return None, found.where, f"{found.where}: not a height in {mine.height_unit}; left out"


def dicom_weight(source: Source, mine: Part) -> tuple[int | None, str, str]:
    """PatientWeight in kilograms, as grams, with its place and what is wrong."""
    found = first_at(source, mine.fields.patient_weight.dicom)
    value = _decimal(found.value) if found else None
    if found is None or value is None:
        return None, "", ""
    if Decimal("0.2") <= value <= 700:
        return int(value * 1000), found.where, ""
    return None, found.where, f"{found.where}: not a weight in kg; left out"


def dicom_age(value: str) -> int | None:
    """An Age String (PS3.5 §6.2: nnnD, nnnW, nnnM, nnnY) in whole years."""
    read = re.match(r"^(\d{1,3})([DWMY])$", value.strip().upper())
    if read is None:
        return None
    return int(read[1]) // {"D": 365, "W": 52, "M": 12, "Y": 1}[read[2]]


def _decimal(value: str) -> Decimal | None:
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
