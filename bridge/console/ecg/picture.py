"""A kept recording as a picture on ECG paper. For a thread: it reads the payload's file."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.console.ecg.drawing import clock, draw
from bridge.console.ecg.paper import GAIN, LINE, PIXEL, SPEED, Cell, Curve, Layout, Row, Sheet, layout_for, rows, sheet
from bridge.console.ecg.signal import Lead, NoPicture, Signal, Trace, open_recording
from bridge.domain.recording import Originality
from bridge.errors import BadInput
from bridge.formats.ecg.samples import SamplesChanged

MOST_SECONDS = 60.0  # of a picture
MOST_ROWS = 36  # of a sheet: 0.9 m of paper where the curves are low, 3 MB of SVG where they are dense
_COLUMN = PIXEL / 2 / SPEED
"""Seconds of half a CSS pixel: a printer, and a screen with more of them, has something left to show."""


@dataclass(frozen=True, slots=True)
class Picture:
    """SVG, and what it shows. `svg` is safe to stand in a page: whatever comes from the object is escaped in it."""

    svg: str
    leads: tuple[str, ...]  # drawn, or named with the reason why not
    start: float  # seconds from the recording's start
    seconds: float
    whole: float  # seconds of the recording
    rate: float  # Hz
    group: int  # position in WaveformSequence, from 1
    layout: Layout
    notes: tuple[str, ...]


def picture(
    path: Path,
    *,
    start: float | None = None,
    seconds: float | None = None,
    layout: Layout | None = None,
    leads: Sequence[str] | None = None,
    group: int | None = None,
) -> Picture:
    """A range of a recording, its first ten seconds by default, at 25 mm/s and 10 mm/mV.

    Nothing is filtered and nothing smoothed. `leads` picks some, for a stacked layout. Raises NoPicture or BadInput,
    both with `where`.
    """
    with readable():
        signal, said = open_recording(path, group)
        chosen = _chosen(signal, leads)
        begin, length = range_of(signal, start, seconds, LINE)
        layout = layout or (Layout.STACKED if leads else layout_for(signal.leads, length))
        length, notes = _bounded(length, len(rows(layout, chosen, begin, LINE)))
        placed = _traced(signal, rows(layout, chosen, begin, length))
    made = sheet(placed)
    there = {cell.name for row, _ in placed for cell in row}
    shown = tuple(lead.name for lead in chosen if lead.name in there)
    title = f"ECG on paper: {', '.join(shown)}; {clock(begin)} to {clock(begin + length)}; not for diagnosis"
    return Picture(
        svg=draw(made, title=title, foot=_facts(signal, begin, length)),
        leads=shown,
        start=begin,
        seconds=length,
        whole=signal.seconds,
        rate=signal.rate,
        group=signal.group.number,
        layout=layout,
        notes=(*notes, *_left_out(signal, shown), *_remarks(made), *said),
    )


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Whatever can be wrong with a payload, as an error with `where`; no name of a file is in its text."""
    try:
        yield
    except BadInput as problem:
        problem.where = problem.where or "payload"
        raise
    except SamplesChanged as problem:
        raise NoPicture(str(problem), where="WaveformData") from problem
    except OSError as problem:
        raise NoPicture(f"the payload cannot be read: {problem.strerror}", where="payload") from problem


def lead_named(signal: Signal, name: str) -> Lead:
    """The lead of that name, whatever its case. Raises NoPicture."""
    for lead in signal.leads:
        if lead.name.casefold() == name.casefold():
            return lead
    raise NoPicture("the recording has no lead of that name", where="leads")


def range_of(signal: Signal, start: float | None, seconds: float | None, default: float) -> tuple[float, float]:
    """Where a range begins and how long it is, inside of the recording. Raises NoPicture for one that is none."""
    begin = 0.0 if start is None else start
    length = default if seconds is None else seconds
    if not (math.isfinite(begin) and begin >= 0):
        raise NoPicture("a range starts at second 0 or later", where="start")
    if not (math.isfinite(length) and length > 0):
        raise NoPicture("a range is longer than nothing", where="seconds")
    if begin >= signal.seconds:
        raise NoPicture(f"the recording ends at {clock(signal.seconds)}", where="start")
    return begin, min(length, signal.seconds - begin)


def _chosen(signal: Signal, leads: Sequence[str] | None) -> tuple[Lead, ...]:
    picked = tuple(dict.fromkeys(lead_named(signal, name) for name in leads or ()))
    return (picked or signal.leads)[:MOST_ROWS]


def _bounded(seconds: float, rows_of_line: int) -> tuple[float, list[str]]:
    most = min(MOST_SECONDS, max(MOST_ROWS // rows_of_line, 1) * LINE)
    return (seconds, []) if seconds <= most else (most, [f"A picture shows {most:g} s at most: the rest is left out"])


def _traced(signal: Signal, wanted: Sequence[Row]) -> list[tuple[Row, list[Trace]]]:
    """The rows with a trace for each cell. A range is read once, whatever number of leads stand in it."""
    ranges: dict[tuple[float, float], dict[int, Lead]] = {}
    for cell in itertools.chain.from_iterable(wanted):
        if cell.lead is not None and cell.seconds > 0:
            ranges.setdefault((cell.start, cell.seconds), {})[cell.lead.number] = cell.lead
    traces: dict[tuple[float, float, int], Trace] = {}
    for (start, seconds), leads in ranges.items():
        read = signal.window(list(leads.values()), start, seconds, column=_COLUMN)
        traces.update({(start, seconds, number): trace for number, trace in zip(leads, read, strict=True)})

    def of(cell: Cell) -> Trace:
        return traces.get((cell.start, cell.seconds, cell.lead.number), Trace()) if cell.lead else Trace()

    return [(row, [of(cell) for cell in row]) for row in wanted]


def _facts(signal: Signal, start: float, seconds: float) -> list[str]:
    """What stands at the foot of an ECG: speed, gain, the recorder's own filters, rate, and which part it is."""
    facts = [f"{SPEED:g} mm/s", f"{GAIN:g} mm/mV"]
    channels = signal.group.channels
    low, high, notch = (
        {None if hertz is None else float(hertz) for hertz in said}
        for said in zip(*((c.low_cut_hz, c.high_cut_hz, c.notch_hz) for c in channels), strict=True)
    )
    if len(low) == len(high) == 1 and None not in low | high:
        facts.append(f"{low.pop():g}–{high.pop():g} Hz")
    if len(notch) == 1 and (hertz := notch.pop()):
        facts.append(f"notch {hertz:g} Hz")
    facts += [
        f"{signal.rate:g} samples/s",
        f"{clock(start)} to {clock(start + seconds)} of {clock(signal.seconds)}",
    ]
    if signal.group.originality is Originality.DERIVED:
        facts.append("a derived group, an averaged beat say: no rhythm")
    return facts


def _left_out(signal: Signal, shown: Sequence[str]) -> list[str]:
    out = [lead.name for lead in signal.leads if lead.name not in shown]
    return [f"Not in this picture: {', '.join(out[:MOST_ROWS])}"] if out else []


def _remarks(made: Sheet) -> list[str]:
    """What the curves alone do not say: each remark once, with the leads that it is about."""
    found: dict[str, dict[str, None]] = {}
    for strip in made.strips:
        for curve in strip.curves:
            for remark in _about(curve):
                found.setdefault(remark, {})[curve.cell.name] = None
    return [f"{', '.join(names)}: {remark}" for remark, names in found.items()]


def _about(curve: Curve) -> Iterator[str]:
    if curve.cell.lead is None:
        yield "not in this recording"
    if curve.lacking is not None:
        yield f"no curve, {curve.lacking.why} ({curve.lacking.attribute})"
    if curve.moved:
        yield f"moved, the zero line stands for {curve.moved:g} mV"
    if curve.beyond:
        yield "leaves the paper, and is cut there"
    if curve.missing:
        yield "has gaps, where samples are missing"
