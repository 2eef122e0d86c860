"""Samples that share a pixel column: which of them a curve needs, and how far they reach. No peak is lost."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Samples = npt.NDArray[Any]


def kept(values: Floats, per: int) -> npt.NDArray[np.int64]:
    """The places of the values that a curve is drawn through where `per` neighbours share a column, in order.

    Of each column the first, the lowest, the highest and the last value: a line through these covers the pixels that
    a line through all of them covers. NaN is a gap, and the first and the last NaN of a column stay as well, so that
    no line is drawn across one. Nothing is moved: each value keeps its own place.
    """
    if per <= 4:
        return np.arange(len(values))
    whole = len(values) - len(values) % per
    parts = [_kept(values[:whole].reshape(-1, per))] if whole else []
    if whole < len(values):
        parts.append(_kept(values[whole:].reshape(1, -1)) + whole)
    return np.concatenate(parts) if parts else np.arange(0)


def _kept(grid: Floats) -> npt.NDArray[np.int64]:
    """As `kept`; each row is a column of pixels."""
    gone = np.isnan(grid)
    there = ~gone
    last = grid.shape[1] - 1
    found = np.stack(
        [
            there.argmax(axis=1),
            np.where(gone, np.inf, grid).argmin(axis=1),
            np.where(gone, -np.inf, grid).argmax(axis=1),
            last - there[:, ::-1].argmax(axis=1),
            gone.argmax(axis=1),
            last - gone[:, ::-1].argmax(axis=1),
        ],
        axis=1,
    )
    places: npt.NDArray[np.int64] = np.unique(found + np.arange(len(grid))[:, np.newaxis] * grid.shape[1])
    return places


class Extremes:
    """The lowest and the highest sample of each column of a strip, from blocks that come in order.

    Column c of n holds the frames from c x frames // n up to those of the next. `low` and `high` are of the samples'
    own type; they mean something only where `seen` has a sample.
    """

    def __init__(self, frames: int, columns: int, dtype: str) -> None:
        kind = np.dtype(dtype)
        limits = np.iinfo(kind)
        count = max(min(columns, frames), 1)
        self._edges = np.arange(count + 1, dtype=np.int64) * frames // count
        self._limits = limits
        self.low = np.full(count, limits.max, dtype=kind)
        self.high = np.full(count, limits.min, dtype=kind)
        self.seen = np.zeros(count, dtype=np.int64)
        """Samples of each column; those that are missing are not counted."""

    def add(self, first: int, samples: Samples, padding: int | None) -> None:
        """The next samples; `first` is the frame of the first one. A sample that is `padding` is missing."""
        begin = int(np.searchsorted(self._edges, first, side="right")) - 1
        end = int(np.searchsorted(self._edges, first + len(samples), side="left"))
        inner = slice(begin, end)
        starts = np.maximum(self._edges[inner] - first, 0)
        lows = highs = samples
        counts = np.diff(np.append(starts, len(samples)))
        if padding is not None and (gone := samples == padding).any():
            lows = np.where(gone, self._limits.max, samples).astype(samples.dtype)
            highs = np.where(gone, self._limits.min, samples).astype(samples.dtype)
            counts = counts - np.add.reduceat(gone, starts, dtype=np.int64)
        self.low[inner] = np.minimum(self.low[inner], np.minimum.reduceat(lows, starts))
        self.high[inner] = np.maximum(self.high[inner], np.maximum.reduceat(highs, starts))
        self.seen[inner] += counts
