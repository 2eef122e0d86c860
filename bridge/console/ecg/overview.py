"""A long recording at a glance: how far one lead reaches in each column of a strip, and the way to each part of it.

Every sample is looked at and none is kept, so a day of twelve leads takes the time to read it and next to no memory.
The strip is no ECG paper: neither its speed nor its gain is the usual one, and it says so.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from bridge.console.ecg.drawing import NOT_FOR_DIAGNOSIS, clock
from bridge.console.ecg.paper import LEFT, PIXEL, RHYTHM, SQUARE, WIDTH
from bridge.console.ecg.picture import lead_named, range_of, readable
from bridge.console.ecg.signal import Envelope, Lead, Signal, open_recording
from bridge.console.ecg.svg import INK, PAPER, THICK, WARNING, band, document, element, text

COLUMNS = round((WIDTH - LEFT - SQUARE) / PIXEL)
HEIGHT = 38.0
_TOP, _BOTTOM = 6.0, 31.0  # mm: between them the strip
_MIDDLE, _ROOM = (_TOP + _BOTTOM) / 2, (_BOTTOM - _TOP) / 2
_GAINS = (10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1)  # mm/mV
_FIT, _ARTEFACT = 0.98, 4.0  # what reaches four times as far as 98 of 100 columns would press them flat: it is cut
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)  # s
_PARTS, _TIMES = 60, 13  # parts to go to and times below the strip, at most
_LATELY = 64

Address = Callable[[float, float], str]
"""Where a part of the recording is shown, by its first second and its length."""


class Envelopes:
    """What overviews have lately been made of, some 16 kB each: a payload is named by its content, and never changes.

    For any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lately: OrderedDict[tuple[object, ...], Envelope] = OrderedDict()

    def of(self, path: Path, signal: Signal, lead: Lead, start: float, seconds: float) -> Envelope:
        """As `Signal.envelope`."""
        key = (path, signal.group.number, lead.number, start, seconds)
        with self._lock:
            found = self._lately.get(key)
        if found is None:
            found = signal.envelope(lead, COLUMNS, start=start, seconds=seconds)
            with self._lock:
                self._lately[key] = found
                if len(self._lately) > _LATELY:
                    self._lately.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class Overview:
    """SVG, and what it shows. `svg` is safe to stand in a page."""

    svg: str
    lead: str
    start: float  # seconds from the recording's start
    seconds: float
    whole: float  # seconds of the recording
    notes: tuple[str, ...]


def overview(
    path: Path,
    *,
    start: float | None = None,
    seconds: float | None = None,
    lead: str | None = None,
    group: int | None = None,
    marked: tuple[float, float] | None = None,
    address: Address | None = None,
    envelopes: Envelopes | None = None,
) -> Overview:
    """A range of a recording as a strip, all of it by default: lead II, or the first that has a scale.

    `marked`: start and seconds of what is shown elsewhere. With `address` each part of the strip is a link. Raises
    NoPicture or BadInput, both with `where`.
    """
    with readable():
        signal, _ = open_recording(path, group)
        begin, length = range_of(signal, start, seconds, signal.seconds)
        chosen = lead_named(signal, lead) if lead else _usual(signal)
        reach = (envelopes or Envelopes()).of(path, signal, chosen, begin, length)
    strip = _Strip(chosen, reach, begin, length, signal.seconds)
    return Overview(strip.drawn(marked, address), chosen.name, begin, length, signal.seconds, tuple(strip.notes()))


def _usual(signal: Signal) -> Lead:
    scaled = [lead for lead in signal.leads if lead.lacking is None]
    return next((lead for lead in scaled if lead.name == RHYTHM), next(iter(scaled), signal.leads[0]))


class _Strip:
    def __init__(self, lead: Lead, reach: Envelope, start: float, seconds: float, whole: float) -> None:
        self._lead = lead
        self._reach = reach
        self._start = start
        self._seconds = seconds
        self._whole = whole
        middle = (reach.low + reach.high) / 2
        there = middle[~np.isnan(middle)]
        median = float(np.median(there)) if there.size else 0.0
        self._zero = round(median * 2) / 2 if abs(median) > 1 else 0.0  # mV; an electrode's own offset
        away = np.fmax(np.abs(reach.high - self._zero), np.abs(reach.low - self._zero))
        away = away[~np.isnan(away)]
        most = float(min(away.max(), _ARTEFACT * np.quantile(away, _FIT))) if away.size else 0.0
        self._gain = next((gain for gain in _GAINS if most * gain <= _ROOM), _GAINS[-1])
        self._cut = int((away * self._gain > _ROOM).sum())

    def notes(self) -> Iterator[str]:
        """What the strip alone does not say."""
        if self._reach.lacking is not None:
            yield f"{self._lead.name} has no curve: {self._reach.lacking.why} ({self._reach.lacking.where})"
        if self._reach.missing:
            yield f"{self._reach.missing} samples of {self._lead.name} are missing"
        if self._cut:
            columns = f"{self._cut} of {len(self._reach.low)} columns"
            yield f"{self._lead.name} leaves the strip in {columns}, and is cut there"

    def drawn(self, marked: tuple[float, float] | None, address: Address | None) -> str:
        end = self._start + self._seconds
        span = f"{clock(self._start)} to {clock(end)} of {clock(self._whole)}"
        facts = [self._lead.name, f"{self._gain:g} mm/mV", span, "lowest and highest of each column"]
        if self._zero:
            facts.insert(2, f"zero line at {self._zero:g} mV")
        role: dict[str, object] = {"role": "group"} if address else {}  # nothing inside of an image can be reached
        return document(
            [
                element("rect", class_="paper", width=WIDTH, height=HEIGHT, fill=PAPER),
                *self._times(),
                *self._curve(),
                *self._marked(marked),
                text(" · ".join(facts), SQUARE, 4.2, class_="facts", font_size=3),
                text(NOT_FOR_DIAGNOSIS, WIDTH - SQUARE, 4.2, class_="warning", text_anchor="end", font_size=3,
                     font_weight="bold", fill=WARNING),
                *(self._links(address) if address else ()),
            ],
            title=f"Overview of lead {self._lead.name}: {span}; not for diagnosis",
            width=WIDTH,
            height=HEIGHT,
            class_="ecg-overview",
            **role,
        )  # fmt: skip

    def _x(self, second: float) -> float:
        within = min(max(second - self._start, 0.0), self._seconds)
        return LEFT + within / self._seconds * (WIDTH - LEFT - SQUARE)

    def _curve(self) -> Iterator[str]:
        if self._reach.lacking is not None:
            words = f"No curve: cannot be scaled ({self._reach.lacking.attribute})"
            yield text(words, LEFT + 2, _MIDDLE, class_="lacking", fill=WARNING)
            return
        bar = f"M{LEFT - 4:g} {_MIDDLE + self._gain / 2:g}v-{self._gain:g}"
        yield element("path", class_="pulse", d=bar, stroke=INK, stroke_width=0.5, fill="none")
        yield text("1 mV", LEFT - 6, _MIDDLE + 1, text_anchor="end", font_size=2.8)
        count = len(self._reach.low)
        x = LEFT + (np.arange(count) + 0.5) / max(count, 1) * (WIDTH - LEFT - SQUARE)
        top, bottom = (
            _MIDDLE - np.clip((values - self._zero) * self._gain, -_ROOM, _ROOM)
            for values in (self._reach.high, self._reach.low)
        )
        yield element("path", class_="reach", d=band(x, top, bottom), fill=INK, stroke=INK, stroke_width=0.15)

    def _times(self) -> Iterator[str]:
        yield element("path", d=f"M{LEFT:g} {_MIDDLE:g}H{WIDTH - SQUARE:g}", stroke=THICK, stroke_width=0.2)
        for second in self._multiples(_TIMES):
            if second >= self._start:
                x = self._x(second)
                yield element("path", d=f"M{x:.5g} {_TOP:g}V{_BOTTOM + 1:g}", stroke=THICK, stroke_width=0.1)
                at = min(x, WIDTH - 7.5)  # a time of a day has room before the edge
                yield text(clock(second), at, _BOTTOM + 4.5, class_="time", text_anchor="middle", font_size=2.8)

    def _marked(self, marked: tuple[float, float] | None) -> Iterator[str]:
        if marked is None or not marked[0] < self._start + self._seconds or sum(marked) <= self._start:
            return
        begin, end = self._x(marked[0]), self._x(sum(marked))
        width = max(end - begin, 1.0)  # a second of a day would not be seen
        x = min(max((begin + end - width) / 2, LEFT), WIDTH - SQUARE - width)
        yield element(
            "rect", class_="marked", x=x, y=_TOP - 0.5, width=width, height=_BOTTOM - _TOP + 1,
            fill=WARNING, fill_opacity=0.2, stroke=WARNING, stroke_width=0.5,
        )  # fmt: skip

    def _links(self, address: Address) -> Iterator[str]:
        edges = [*self._multiples(_PARTS), self._start + self._seconds]
        edges[0] = self._start
        for begin, end in pairwise(edges):
            if end <= begin:
                continue
            words = f"{clock(begin)} to {clock(end)}"
            x = self._x(begin)
            area = element("rect", x=x, y=_TOP, width=self._x(end) - x, height=_BOTTOM - _TOP, fill="transparent")
            yield element(
                "a", element("title", words) + area, href=address(begin, end - begin), aria_label=words, class_="part"
            )

    def _multiples(self, most: int) -> list[float]:
        """Seconds from the last one at or before the start on, as many as are wanted at most."""
        days = math.ceil(self._seconds / most / _STEPS[-1]) * _STEPS[-1]
        step = next((s for s in _STEPS if self._seconds / s <= most), days)
        first = int(self._start // step)
        return [float(n * step) for n in range(first, int((self._start + self._seconds) / step) + 1)]
