"""From samples to microvolts: whether it can be done, and by which exact numbers."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from bridge.domain.recording import Channel, MultiplexGroup
from bridge.errors import CannotScale

SMALLEST_STEP, LARGEST = Fraction(1, 10**9), Fraction(10**9)  # µV


@dataclass(frozen=True, slots=True)
class Scale:
    """A channel's scale: µV = sample x `microvolts` + `baseline_microvolts`, exact.

    `zero` is the sample at 0 µV, None where that is no whole number.
    """

    microvolts: Fraction
    baseline_microvolts: Fraction
    zero: int | None
    per_millivolt: float  # steps, to the nearest double


def require_scalable(group: MultiplexGroup) -> None:
    """Raises `CannotScale` where a sample of the group has no voltage (PS3.3 C.10.9.1.4, dicom_ecg.md §3.2).

    Such an object is whole and is kept; a person must look. No sensitivity is ever assumed.
    """
    if group.dtype[1] == "V":
        raise CannotScale(f"the samples are no numbers: {group.unreadable}", where=f"{_place(group)}.WaveformData")
    for number, channel in enumerate(group.channels, 1):
        try:
            scale_of(channel)
        except CannotScale as problem:
            problem.where = f"{_place(group)}.ChannelDefinitionSequence[{number}].{problem.where}"
            raise


def scale_of(channel: Channel) -> Scale:
    """The scale of a channel. Raises `CannotScale`, `where` an attribute of the channel."""
    if channel.no_number:
        raise CannotScale("it is no number: the channel has no scale", where=channel.no_number)
    if channel.sensitivity is None:
        raise CannotScale("the channel has no sensitivity: its unit per sample is unknown", where="ChannelSensitivity")
    if channel.microvolts is None:
        raise CannotScale(
            "the unit of the sensitivity is missing or no voltage", where="ChannelSensitivityUnitsSequence"
        )
    return _scale(channel.sensitivity, channel.correction, channel.baseline, channel.microvolts)


@lru_cache(maxsize=1024)  # fractions are slow, and a device has the same few scales in every recording
def _scale(sensitivity: Decimal, correction: Decimal, baseline: Decimal, microvolts: Decimal) -> Scale:
    step = Fraction(sensitivity) * Fraction(correction) * Fraction(microvolts)
    offset = Fraction(baseline) * Fraction(microvolts)
    if not SMALLEST_STEP <= step <= LARGEST:
        # zero or below would turn the signal flat or upside down; the rest cannot be an ECG
        raise CannotScale("the sensitivity cannot be right", where="ChannelSensitivity")
    if abs(offset) > LARGEST:
        raise CannotScale("the baseline cannot be right", where="ChannelBaseline")
    zero = -offset / step
    return Scale(step, offset, int(zero) if zero.denominator == 1 else None, float(1000 / step))


def smallest(dtype: str) -> int:
    """The smallest value that a sample of the type can take."""
    return -(1 << (8 * int(dtype[-1]) - 1)) if dtype[1] == "i" else 0


def stored_range(dtype: str, bits: int) -> tuple[int, int]:
    """The smallest and the largest sample of the type that takes so many bits."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype[1] == "i" else (0, (1 << bits) - 1)


def means_no_sample(padding: int, dtype: str, bits_stored: int) -> bool:
    """Whether a declared padding value can be believed: no true sample is likely to have it, or none can.

    That is the smallest value of the type, and whatever lies outside of the bits stored (PS3.3 C.10.9.1.7).
    Converters declare 0, and honouring that would make every sample at rest a missing one (dicom_ecg.md §3.2). That a
    long run of a value "is obviously missing" is no rule here: a loose electrode draws the same line.
    """
    low, high = stored_range(dtype, bits_stored)
    return padding == smallest(dtype) or not low <= padding <= high


def trusted_padding(group: MultiplexGroup) -> int | None:
    """The value that means "no sample", where the object's word for it can be believed."""
    padding = group.padding
    return padding if padding is not None and means_no_sample(padding, group.dtype, group.bits_stored) else None


def _place(group: MultiplexGroup) -> str:
    return f"WaveformSequence[{group.number}]"
