"""ECG paper: millimetres, seconds and millivolts. Pure numbers.

25 mm/s and 10 mm/mV (IEC 60601-2-25 calls for both); lines each millimetre, thicker ones each five. Everything stands
on the thick lines: the zero line of a row, both edges of the calibration pulse, the start of a curve.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.console.ecg.signal import Lead, Trace

SPEED = 25.0  # mm/s
GAIN = 10.0  # mm/mV
PIXEL = 25.4 / 96  # mm; a CSS pixel
LINE_SECONDS = 10.0  # of a line of the paper
PULSE_MILLIVOLTS, PULSE_SECONDS = 1.0, 0.2

SQUARE = 5.0  # mm from one thick line to the next
LEFT = 20.0  # mm before the curve: where the pulse stands
PULSE_AT = 10.0  # mm
WIDTH = LEFT + LINE_SECONDS * SPEED + SQUARE
FOOT = 10.0  # mm below the last row, for what is written there
_HEAD = 0.0
_NAME = 4.0  # mm that a lead's name takes at the top of its row
_ROW = (15.0, 10.0)  # mm above and below the zero line at least
REACH = 50.0  # mm from the zero line at most

TWELVE = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM = "II"


class Layout(StrEnum):
    """Where the leads stand."""

    TWELVE = "twelve"  # three rows of four leads, 2.5 s each, and lead II all along below
    STACKED = "stacked"  # a row each, one below the other
