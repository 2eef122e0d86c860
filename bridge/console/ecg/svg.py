"""SVG as text: elements with escaped values, and paths. Presentation attributes alone, as the console's CSP wants."""

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from bridge.console.ecg.columns import Floats

STEPS = 100  # to a millimetre in a path of a curve
INK, PAPER, THIN, THICK, WARNING = "#111111", "#fffaf5", "#f6c9c2", "#e4938a", "#8f1d14"
"""Colours of the paper, in a dark scheme too: a printed ECG has no other side."""

_NEVER = re.compile("[^\t\n\r\x20-\x7e\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 §2.2 allows nowhere, and DEL."""


def escaped(words: str) -> str:
    """Words for an element."""
    return escape(_allowed(words))


def element(name: str, content: str = "", **attributes: object) -> str:
    """An element; `content` is SVG already, attributes are not. `stroke_width` is `stroke-width`, `class_` `class`."""
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_allowed(_value(value)))}"
        for key, value in attributes.items()
    )
    return f"<{name}{said}>{content}</{name}>" if content else f"<{name}{said}/>"


def text(words: str, x: float, y: float, **attributes: object) -> str:
    """Words on paper, with a rim in its colour so that the grid does not cross them."""
    rim = {"stroke": PAPER, "stroke_width": 0.8, "stroke_linejoin": "round", "paint_order": "stroke"}
    return element("text", escaped(words), x=x, y=y, **{"fill": INK, "font_size": 3.2, **rim, **attributes})


def document(content: Iterable[str], *, title: str, width: float, height: float, **attributes: object) -> str:
    """A picture that prints to scale: as many millimetres as its user units."""
    inside = "".join([element("title", escaped(title)), *content])
    return element(
        "svg",
        inside,
        **{
            "xmlns": "http://www.w3.org/2000/svg",
            "role": "img",
            "width": f"{_value(width)}mm",
            "height": f"{_value(height)}mm",
            "viewBox": f"0 0 {_value(width)} {_value(height)}",
            "font_family": "Arial, Helvetica, sans-serif",
            **attributes,
        },
    )


def polyline(x: Floats, y: Floats) -> str:
    """The `d` of a path through points in mm, in steps of 1/100 mm; NaN in `y` is a gap. A lone point is a dot."""
    there = ~np.isnan(y)
    edges = np.flatnonzero(np.diff(there, prepend=False, append=False))
    across = np.rint(x * STEPS).astype(np.int64)
    down = np.rint(np.where(there, y, 0.0) * STEPS).astype(np.int64)
    pieces: list[str] = []
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        steps = zip(np.diff(across[begin:end]).tolist(), np.diff(down[begin:end]).tolist(), strict=True)
        line = " ".join([f"{dx} {dy}" for dx, dy in steps]) or "0 0"
        pieces.append(f"M{across[begin]} {down[begin]}l{line}".replace(" -", "-"))
    return "".join(pieces)


def band(x: Floats, top: Floats, bottom: Floats) -> str:
    """The `d` of the areas between two lines through points in mm; NaN in both is a gap."""
    there = ~np.isnan(top)
    edges = np.flatnonzero(np.diff(there, prepend=False, append=False)).tolist()
    pieces: list[str] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        around = zip(
            np.concatenate([x[begin:end], x[begin:end][::-1]]).tolist(),
            np.concatenate([top[begin:end], bottom[begin:end][::-1]]).tolist(),
            strict=True,
        )
        pieces.append("M" + " ".join([f"{_value(across)} {_value(down)}" for across, down in around]) + "z")
    return "".join(pieces)


def grid(width: float, height: float, step: float, *, without: float = 0.0) -> str:
    """The `d` of a path of lines each `step` mm, apart from those each `without` mm."""

    def places(size: float) -> list[float]:
        found = [n * step for n in range(round(size / step) + 1)]
        return [p for p in found if not without or p % without]

    upright = "".join(f"M{_value(x)} 0V{_value(height)}" for x in places(width))
    level = "".join(f"M0 {_value(y)}H{_value(width)}" for y in places(height))
    return upright + level


def _value(value: object) -> str:
    return f"{round(value, 3):.7g}" if isinstance(value, float) else str(value)


def _allowed(words: str) -> str:
    return _NEVER.sub("�", words)
