"""The `.hea` file of a WFDB record: written, and read back for the proof (WFDB header(5)).

It names no patient and no time: the API takes both as fields, and whether it reads them from the file is unknown.
The unit is mV, WFDB's default: naive readers assume it, and the error is 5e-13 (dicom_ecg.md §4.3).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from bridge.domain.recording import MultiplexGroup
from bridge.errors import CannotScale
from bridge.formats.ecg.encoding import Encoding
from bridge.formats.ecg.samples import SamplesChanged
from bridge.formats.ecg.scaling import scale_of

_SIGNAL = re.compile(
    r"(?P<file>\w+\.dat) (?P<format>\d+) (?P<gain>[\d.]+)\((?P<baseline>-?\d+)\)/mV \d+ 0 "
    r"(?P<initial>-?\d+) (?P<checksum>-?\d+) 0 (?P<lead>[\x20-\x7e]+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal line, read back. mV = (stored - baseline) / gain."""

    format: int
    gain: float
    baseline: int
    initial: int
    checksum: int  # modulo 65536
    lead: str


def baselines(group: MultiplexGroup, encoding: Encoding) -> list[int]:
    """Each channel's zero volt in stored units. Raises `CannotScale` where that is no whole number.

    WFDB knows no other: rounding would move the channel by up to half a step (dicom_ecg.md §4.2, note 1).
    """
    found: list[int] = []
    for number, channel in enumerate(group.channels, 1):
        zero = scale_of(channel).zero
        if zero is None or abs(zero - encoding.shift) >= 1 << 31:
            raise CannotScale(
                "the channel's baseline is no whole number of sample steps, and WFDB knows no other",
                where=f"WaveformSequence[{group.number}].ChannelDefinitionSequence[{number}].ChannelBaseline",
            )
        found.append(zero - encoding.shift)
    return found


def header_text(
    group: MultiplexGroup,
    encoding: Encoding,
    record: str,
    *,
    zeros: Sequence[int],
    initials: Sequence[int],
    checksums: Sequence[int],
) -> str:
    """The whole `.hea`. `zeros` are the `baselines`; checksums come modulo 65536 and are written signed."""
    lines = [f"{record} {len(group.channels)} {group.rate.normalize():f} {group.samples}"]
    bits = min(group.bits_stored, encoding.format)
    for channel, zero, initial, total in zip(group.channels, zeros, initials, checksums, strict=True):
        gain, lead = _gain(scale_of(channel).per_millivolt), _description(channel.lead)
        signed = total - 65536 if total > 32767 else total
        lines.append(f"{record}.dat {encoding.format} {gain}({zero})/mV {bits} 0 {initial} {signed} 0 {lead}")
    filters = ((c.lead, _filters(c.low_cut_hz, c.high_cut_hz, c.notch_hz)) for c in group.channels)
    lines += [f"# {_description(lead)}: {text}" for lead, text in filters if text]
    return "\n".join(lines) + "\n"


def read_header(text: str, group: MultiplexGroup, record: str) -> list[Signal]:
    """The signal lines, read back. `SamplesChanged` where the header does not describe the group."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    name, channels, rate, samples = lines[0].split(" ")
    if (name, int(channels), Decimal(rate), int(samples)) != (
        record,
        len(group.channels),
        group.rate,
        group.samples,
    ) or len(lines) != 1 + len(group.channels):
        raise SamplesChanged("the header does not describe the recording")
    signals: list[Signal] = []
    for line in lines[1:]:
        match = _SIGNAL.fullmatch(line)
        if match is None or match["file"] != f"{record}.dat":
            raise SamplesChanged("a signal line of the header cannot be read back")
        signals.append(
            Signal(
                format=int(match["format"]),
                gain=float(match["gain"]),
                baseline=int(match["baseline"]),
                initial=int(match["initial"]),
                checksum=int(match["checksum"]) % 65536,
                lead=match["lead"],
            )
        )
    return signals


@lru_cache(maxsize=1024)  # as the scales: a device has the same few in every recording
def _gain(per_millivolt: float) -> str:
    """Stored units per mV, with the digits that bring a reader to the nearest double: 204.91803278688525."""
    return f"{Decimal(repr(per_millivolt)):f}".removesuffix(".0")


@lru_cache(maxsize=1024)
def _description(lead: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "_", lead)


@lru_cache(maxsize=1024)
def _filters(low_cut_hz: Decimal | None, high_cut_hz: Decimal | None, notch_hz: Decimal | None) -> str:
    named = (("high-pass", low_cut_hz), ("low-pass", high_cut_hz), ("notch", notch_hz))
    return ", ".join(f"{name} {float(value):g} Hz" for name, value in named if value)
