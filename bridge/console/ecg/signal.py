"""The samples of a recording by range, in mV, out of its payload: for a picture, in bounded memory.

The scale is that of `formats.ecg` (PS3.3 C.10.9.1.4), lead by lead: one that cannot be scaled says why, and its
neighbours are drawn all the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bridge.console.ecg.columns import Extremes, Floats, Samples, kept
from bridge.domain.recording import MultiplexGroup
from bridge.errors import BridgeError, CannotScale
from bridge.formats.dicom.reader import read_object
from bridge.formats.ecg.samples import as_array, sample_blocks, scaled
from bridge.formats.ecg.scaling import require_scalable, trusted_padding

_CHANNELS = "ChannelDefinitionSequence"
_NEARLY = 1e-6  # of a frame: a start that was computed from a frame is that frame


class NoPicture(BridgeError):
    """What was asked for cannot be shown. `where` names what is in the way: an argument, an attribute, the payload."""

    def __init__(self, message: str, *, where: str) -> None:
        super().__init__(message)
        self.where = where


def _nothing() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Why a lead has no curve, and the attribute that it comes from, with its place."""

    why: str
    where: str

    @property
    def attribute(self) -> str:
        """The last step of `where`."""
        return self.where.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Lead:
    """One channel. `alone` is its group as if it had no other channel: what scales a group scales a lead.

    `name` comes from the object. `lacking`: it has no scale.
    """

    name: str
    alone: MultiplexGroup
    number: int
    lacking: Lacking | None = None

    def millivolts(self, samples: Samples) -> Floats:
        """Samples of the channel in mV; NaN where one is missing. Raises CannotScale, which `lack` puts into words."""
        values: Floats = scaled(self.alone, as_array(self.alone, samples.data))[:, 0] / 1000
        return values

    def lack(self, problem: CannotScale) -> Lacking:
        """The reader's words, with the channel's own number."""
        return Lacking(str(problem), problem.where.replace(f"{_CHANNELS}[1]", f"{_CHANNELS}[{self.number}]"))


@dataclass(frozen=True, slots=True)
class Trace:
    """A lead in a range: mV at seconds from the recording's start, NaN where a sample is missing."""

    at: Floats = field(default_factory=_nothing)
    millivolts: Floats = field(default_factory=_nothing)
    lacking: Lacking | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The lowest and the highest mV of each column of a range; NaN where a column has no sample."""

    low: Floats = field(default_factory=_nothing)
    high: Floats = field(default_factory=_nothing)
    missing: int = 0  # samples
    lacking: Lacking | None = None


class Signal:
    """The samples of one multiplex group. Methods that read raise SamplesChanged, and OSError where the disk fails."""

    def __init__(self, path: Path, group: MultiplexGroup) -> None:
        self.group = group
        self.leads = tuple(_leads(group))
        self.rate = float(group.rate)
        self.seconds = float(group.seconds)
        self._path = path

    def window(self, leads: Sequence[Lead], start: float, seconds: float, *, column: float) -> list[Trace]:
        """The leads from second `start` on, for columns that are so many seconds wide.

        Where five samples or more share a column, only those that a curve needs are there.
        """
        per = max(math.floor(self.rate * column), 1)
        first, count = self._frames(start, seconds)
        lacking = {lead.number: lead.lacking for lead in leads}
        parts: dict[int, list[tuple[Floats, Floats]]] = {lead.number: [] for lead in leads}
        for frame, samples in self._blocks(leads, first, count):
            for lead in leads:
                if lacking[lead.number] is not None:
                    continue
                try:
                    values = lead.millivolts(samples[:, lead.number - 1].copy())
                except CannotScale as problem:
                    lacking[lead.number] = lead.lack(problem)
                    continue
                places = kept(values, per)
                parts[lead.number].append(((places + frame) / self.rate, values[places]))
        return [_trace(parts[lead.number], lacking[lead.number]) for lead in leads]

    def envelope(self, lead: Lead, columns: int, *, start: float = 0, seconds: float | None = None) -> Envelope:
        """How far the lead reaches in each column of a range, the whole recording by default.

        Every sample is looked at, a block at a time.
        """
        first, count = self._frames(start, self.seconds if seconds is None else seconds)
        if lead.lacking is not None or count == 0:
            return Envelope(lacking=lead.lacking)
        reach = Extremes(count, columns, self.group.dtype)
        padding = trusted_padding(self.group)
        for frame, samples in self._blocks([lead], first, count):
            reach.add(frame - first, samples[:, lead.number - 1].copy(), padding)
        full = reach.seen > 0
        low, high = np.full(len(full), np.nan), np.full(len(full), np.nan)
        try:
            # The lowest and the highest sample show whether any has more bits than are stored
            low[full], high[full] = lead.millivolts(reach.low[full]), lead.millivolts(reach.high[full])
        except CannotScale as problem:
            return Envelope(lacking=lead.lack(problem))
        return Envelope(low, high, missing=count - int(reach.seen.sum()))

    def _frames(self, start: float, seconds: float) -> tuple[int, int]:
        """The first frame at or after `start`, and how many there are before the range ends."""
        first = max(math.ceil(start * self.rate - _NEARLY), 0)
        end = min(math.ceil((start + seconds) * self.rate - _NEARLY), self.group.samples)
        return first, max(end - first, 0)

    def _blocks(self, leads: Sequence[Lead], first: int, count: int) -> Iterator[tuple[int, Samples]]:
        """Frame and samples, shape (frames, channels), of each block; none where no lead could be drawn of them."""
        if all(lead.lacking for lead in leads):
            return
        with self._path.open("rb") as payload:
            for block in sample_blocks(self.group, payload, start=first, count=count):
                samples = np.frombuffer(block, dtype=self.group.dtype).reshape(-1, len(self.group.channels))
                yield first, samples
                first += len(samples)


def open_recording(path: Path, number: int | None = None) -> tuple[Signal, tuple[str, ...]]:
    """The group of that number, else the rhythm, and what the object says of it that a viewer should know.

    Raises BadInput for an object that cannot be read, NoPicture for a group that it does not have, and OSError.
    """
    recording = read_object(path).recording
    if number is None:
        group = recording.rhythm()
    elif 1 <= number <= len(recording.groups):
        group = recording.groups[number - 1]
    else:
        raise NoPicture(f"the object has groups 1 to {len(recording.groups)}", where="group")
    place = f"WaveformSequence[{group.number}]: "
    return Signal(path, group), tuple(w.removeprefix(place) for w in recording.warnings if w.startswith(place))


def _leads(group: MultiplexGroup) -> Iterator[Lead]:
    for number, channel in enumerate(group.channels, 1):
        lead = Lead(channel.lead, replace(group, channels=(channel,)), number)
        try:
            require_scalable(lead.alone)
        except CannotScale as problem:
            lead = replace(lead, lacking=lead.lack(problem))
        yield lead


def _trace(parts: list[tuple[Floats, Floats]], lacking: Lacking | None) -> Trace:
    if lacking is not None or not parts:
        return Trace(lacking=lacking)
    return Trace(np.concatenate([at for at, _ in parts]), np.concatenate([values for _, values in parts]))
