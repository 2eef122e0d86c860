"""A sheet of ECG paper as SVG: grid, calibration pulses, names, curves, and that it is not for diagnosis."""

from collections.abc import Iterator, Sequence

from bridge.console.ecg.paper import FOOT, GAIN, LEFT, PULSE, SQUARE, Curve, Sheet, Strip
from bridge.console.ecg.svg import INK, PAPER, STEPS, THICK, THIN, WARNING, document, element, grid, polyline, text

NOT_FOR_DIAGNOSIS = "NOT FOR DIAGNOSIS"
PEN = 0.28  # mm
_NAME = 3.8  # mm from the top of a row to the foot of its letters


def draw(sheet: Sheet, *, title: str, foot: Sequence[str]) -> str:
    """The sheet; `foot` are the facts below it. Every text may come from an object: all of it is escaped."""
    foot_at = sheet.height - FOOT / 2 + 1
    return document(
        [
            *_paper(sheet.width, sheet.height),
            element("g", "".join(_words(sheet.strips)), class_="leads"),
            element("g", "".join(_pulses(sheet.strips)), class_="pulses", **_pen(1)),
            element(
                "g", "".join(_curves(sheet.strips)), class_="curves", transform=f"scale({1 / STEPS:g})", **_pen(STEPS)
            ),
            text(" · ".join(foot), SQUARE, foot_at, class_="facts"),
            text(
                NOT_FOR_DIAGNOSIS,
                sheet.width - SQUARE,
                foot_at,
                class_="warning",
                text_anchor="end",
                font_weight="bold",
                fill=WARNING,
            ),
        ],
        title=title,
        width=sheet.width,
        height=sheet.height,
        class_="ecg-paper",
    )


def _paper(width: float, height: float) -> Iterator[str]:
    yield element("rect", class_="paper", width=width, height=height, fill=PAPER)
    thin, thick = grid(width, height, 1, without=SQUARE), grid(width, height, SQUARE)
    yield element("path", class_="thin", d=thin, stroke=THIN, stroke_width=0.1, fill="none")
    yield element("path", class_="thick", d=thick, stroke=THICK, stroke_width=0.2, fill="none")


def _pen(scale: float) -> dict[str, object]:
    return {
        "stroke": INK,
        "stroke_width": PEN * scale,
        "stroke_linejoin": "round",
        "stroke_linecap": "round",
        "fill": "none",
    }


def _pulses(strips: Sequence[Strip]) -> Iterator[str]:
    begin, rise, fall, end = PULSE
    for strip in strips:
        yield element(
            "path", class_="pulse", d=f"M{begin:g} {strip.zero:g}H{rise:g}v-{GAIN:g}H{fall:g}v{GAIN:g}H{end:g}"
        )


def _words(strips: Sequence[Strip]) -> Iterator[str]:
    begun = None
    for strip in strips:
        line = strip.curves[0].cell.start
        if line != begun:
            begun = line
            yield text(clock(line), 1.0, strip.top + _NAME, class_="time", font_size=2.8)
        for curve in strip.curves:
            cell = curve.cell
            if cell.x > LEFT:
                yield element("path", class_="tick", d=f"M{cell.x:g} {strip.top + 1:g}v3", stroke=INK, stroke_width=0.3)
            yield text(_name(curve), cell.x + 1, strip.top + _NAME, class_="lead", font_weight="bold", font_size=3.6)
            for number, words in enumerate(_instead(curve)):
                yield text(words, cell.x + 2, strip.zero - 1 + number * 4, class_="lacking", fill=WARNING, font_size=3)


def _name(curve: Curve) -> str:
    said = [curve.cell.name]
    if curve.moved:
        said.append(f"zero line at {curve.moved:g} mV")
    if curve.beyond:
        said.append("leaves the paper")
    return ", ".join(said)


def _instead(curve: Curve) -> tuple[str, ...]:
    """What stands where a curve cannot."""
    if curve.cell.lead is None:
        return ("Not in this recording",)
    if curve.lacking is not None:
        return ("No curve: cannot be scaled", curve.lacking.attribute)
    if curve.cell.seconds <= 0:
        return ("The range ends before",)
    return ()


def _curves(strips: Sequence[Strip]) -> Iterator[str]:
    for strip in strips:
        for curve in strip.curves:
            if path := polyline(curve.x, curve.y):
                yield element("path", class_="curve", data_lead=curve.cell.name, d=path)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds since the recording's start."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    whole = f"{minutes // 60}:{minutes % 60:02}:{rest // 100:02}"
    return whole + (f".{rest % 100:02}" if rest % 100 else "")
