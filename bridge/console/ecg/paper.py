"""ECG paper: where millivolts and seconds stand on it, in millimetres. Pure numbers.

25 mm a second and 10 mm a millivolt, as electrocardiographs print; a line each millimetre, a thicker one each five.
The zero lines of rows, the edges of the calibration pulse and the starts of curves stand on thick lines.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bridge.console.ecg.columns import Floats
from bridge.console.ecg.signal import Lacking, Lead, Trace

SPEED = 25.0  # mm/s
GAIN = 10.0  # mm/mV
PIXEL = 25.4 / 96  # mm; CSS Values and Units 4 §6.2
SQUARE = 5.0  # mm from a thick line to the next
LINE = 10.0  # seconds that stand side by side
_COLUMN, _NEARLY_ALL = LINE / 4, 9.5  # s: of a column of four; as much as fills all four

LEFT = 20.0  # mm before the curves
PULSE = (5.0, 10.0, 15.0, 18.0)  # mm: where the calibration pulse begins, rises, falls, ends; 200 ms, 1 mV
WIDTH = LEFT + LINE * SPEED + SQUARE
FOOT = 10.0  # mm below the rows, for what is written there
REACH = 50.0  # mm that a curve may go up or down
_LEAST = (15.0, 10.0)  # mm above and below a zero line, where the curve needs no more
_NAME, _CLEAR = 5.0, 1.0  # mm at the top of a row, for the leads' names, and at its foot

RHYTHM = "II"
TWELVE = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))


class Layout(StrEnum):
    """Where the leads stand. Each line of the paper is ten seconds, and one layout."""

    TWELVE = "twelve"
    """Three rows of four leads, 2.5 s each, time going on from column to column, and lead II all along below them. What
    is no longer than a column, a median beat say, stands whole in each of them."""
    STACKED = "stacked"
    """Each lead a row."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A lead's room in a row: from second `start` of the recording on, which stands at `x` mm. Lead None: it has none
    of that name.
    """

    name: str
    lead: Lead | None
    start: float
    seconds: float
    x: float = LEFT


Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A cell on the paper. `x` and `y` are mm, y downwards; NaN is a gap.

    `moved`: mV that the zero line of this lead stands for. `beyond`: it leaves the paper, and is cut there. `missing`:
    some of its samples are.
    """

    cell: Cell
    x: Floats
    y: Floats
    lacking: Lacking | None
    moved: float
    beyond: bool
    missing: bool


@dataclass(frozen=True, slots=True)
class Strip:
    """A row on the paper: its top and its zero line, in mm from the top of the sheet."""

    top: float
    zero: float
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole picture; all of it in mm."""

    strips: tuple[Strip, ...]
    height: float
    width: float = WIDTH


def layout_for(leads: Iterable[Lead], seconds: float) -> Layout:
    """Twelve leads stand as cardiologists know them, where each has something to show; everything else is stacked."""
    there = {lead.name.casefold() for lead in leads}
    complete = all(name.casefold() in there for row in TWELVE for name in row)
    return Layout.TWELVE if complete and not _COLUMN < seconds < _NEARLY_ALL else Layout.STACKED


def rows(layout: Layout, leads: Sequence[Lead], start: float, seconds: float) -> list[Row]:
    """The rows that show a range, line after line."""
    lines = max(math.ceil(seconds / LINE - 1e-9), 1)
    found: list[Row] = []
    for line in range(lines):
        begin = start + line * LINE
        length = min(LINE, start + seconds - begin)
        if layout is Layout.TWELVE:
            found += _twelve(leads, begin, length)
        else:
            found += [(Cell(lead.name, lead, begin, length),) for lead in leads]
    return found


def _twelve(leads: Sequence[Lead], start: float, seconds: float) -> list[Row]:
    named = {lead.name.casefold(): lead for lead in leads}
    whole = seconds <= _COLUMN
    made: list[Row] = []
    for names in TWELVE:
        cells: list[Cell] = []
        for n, name in enumerate(names):
            later = 0.0 if whole else n * _COLUMN
            length = min(max(seconds - later, 0.0), _COLUMN)
            cells.append(Cell(name, named.get(name.casefold()), start + later, length, LEFT + n * _COLUMN * SPEED))
        made.append(tuple(cells))
    return made if whole else [*made, (Cell(RHYTHM, named.get(RHYTHM.casefold()), start, seconds),)]


def sheet(placed: Sequence[tuple[Row, Sequence[Trace]]]) -> Sheet:
    """The rows with their traces, one below the other. A row is as high as its curves, so that none meets another."""
    moved = _moved(placed)
    top = 0.0
    strips: list[Strip] = []
    for row, traces in placed:
        heights = [
            (trace.millivolts - moved.get(cell.name, 0.0)) * GAIN for cell, trace in zip(row, traces, strict=True)
        ]
        within = [np.where(np.abs(height) <= REACH, height, np.nan) for height in heights]
        low, high = _reach(within)
        above = max(_LEAST[0], math.ceil((high + _NAME) / SQUARE) * SQUARE)
        below = max(_LEAST[1], math.ceil((_CLEAR - low) / SQUARE) * SQUARE)
        zero = top + above
        strips.append(
            Strip(
                top,
                zero,
                tuple(
                    Curve(
                        cell,
                        cell.x + (trace.at - cell.start) * SPEED,
                        zero - drawn,
                        trace.lacking,
                        moved.get(cell.name, 0.0),
                        beyond=bool((np.abs(height) > REACH).any()),
                        missing=bool(np.isnan(trace.millivolts).any()),
                    )
                    for cell, trace, height, drawn in zip(row, traces, heights, within, strict=True)
                ),
            )
        )
        top = zero + below
    return Sheet(tuple(strips), top + FOOT)


def _moved(placed: Sequence[tuple[Row, Sequence[Trace]]]) -> dict[str, float]:
    """What the zero line of a lead stands for in mV, where the lead would leave the paper otherwise: its median, to
    the next half millivolt. An electrode has an offset of its own, and a recorder without a filter keeps it.
    """
    parts: dict[str, list[Floats]] = {}
    for row, traces in placed:
        for cell, trace in zip(row, traces, strict=True):
            parts.setdefault(cell.name, []).append(trace.millivolts[~np.isnan(trace.millivolts)])
    found: dict[str, float] = {}
    for name, values in parts.items():
        whole = np.concatenate(values)
        if whole.size and np.abs(whole).max() * GAIN > REACH:
            found[name] = round(float(np.median(whole)) * 2) / 2
    return found


def _reach(heights: Iterable[Floats]) -> tuple[float, float]:
    """The lowest and the highest of them all; 0 where there is none."""
    whole = np.concatenate([np.zeros(1), *heights])
    return float(np.nanmin(whole)), float(np.nanmax(whole))
