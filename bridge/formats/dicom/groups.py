"""WaveformSequence as multiplex groups: what each sample means, and where the samples stand (PS3.3 C.10.9)."""

from collections.abc import Iterator
from decimal import Decimal

from bridge.domain.recording import Channel, MultiplexGroup, Originality
from bridge.errors import BadInput
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.leads import lead_name, unique_names
from bridge.formats.dicom.walk import Element, refuse

KINDS: dict[tuple[int, str], str] = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (8, "MB"): "V1",
    (8, "AB"): "V1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
    (64, "SV"): "i8",
    (64, "UV"): "u8",
}
"""numpy kinds by WaveformBitsAllocated and WaveformSampleInterpretation. Companded bytes (µ-law, A-law) are no
numbers: V1, which nothing can scale."""

MICROVOLTS: dict[str, Decimal] = {
    "uV": Decimal(1),
    "µV": Decimal(1),  # micro sign
    "μV": Decimal(1),  # Greek mu
    "mV": Decimal(1000),
    "V": Decimal(1_000_000),
    "nV": Decimal("0.001"),
}
"""The voltages of UCUM, as they are written. Case counts: MV would be a megavolt."""


def read_groups(data_set: DataSet) -> tuple[tuple[MultiplexGroup, ...], tuple[str, ...]]:
    """Every group and what is odd about them. Refuses (C000) what could not be read sample by sample."""
    if data_set.element("WaveformSequence") is None:
        raise refuse("the object has no waveform", "WaveformSequence")
    items = data_set.items("WaveformSequence")
    if not items:
        raise refuse("the object has no waveform", "WaveformSequence")
    groups: list[MultiplexGroup] = []
    warnings: list[str] = []
    for number, item in enumerate(items, 1):
        place = f"WaveformSequence[{number}]"
        try:
            groups.append(_Group(item, number, place, warnings).read())
        except BadInput as problem:
            problem.where = f"{place}.{problem.where}" if problem.where else place
            raise
    return tuple(groups), tuple(warnings)


class _Group:
    """One item of WaveformSequence, being read."""

    def __init__(self, item: DataSet, number: int, place: str, warnings: list[str]) -> None:
        self._item = item
        self._number = number
        self._place = place
        self._warnings = warnings

    def read(self) -> MultiplexGroup:
        channels = self._positive("NumberOfWaveformChannels")
        samples = self._positive("NumberOfWaveformSamples")
        bits = self._positive("WaveformBitsAllocated")
        rate = self._item.number("SamplingFrequency")
        if rate is None or rate <= 0:
            raise refuse("no sampling frequency", "SamplingFrequency")
        kind = KINDS.get((bits, self._item.text("WaveformSampleInterpretation").upper()))
        if kind is None:
            raise refuse("unknown sample interpretation or size", "WaveformSampleInterpretation")
        data = self._item.element("WaveformData")
        if data is None:
            raise refuse("the group has no samples", "WaveformData")
        width = bits // 8
        if width == 1 and data.order == ">" and data.vr != "OB":
            raise refuse("8-bit samples in big endian words", "WaveformData")
        return MultiplexGroup(
            number=self._number,
            originality=self._originality(),
            label=self._item.text("MultiplexGroupLabel"),
            rate=rate,
            samples=samples,
            channels=self._channels(channels),
            dtype=("|" if width == 1 else data.order) + kind,
            bits_stored=self._item.integer("WaveformBitsStored") or bits,
            padding=self._padding(kind, width),
            time_offset_ms=self._item.number("MultiplexGroupTimeOffset") or Decimal(0),
            offset=data.offset,
            length=self._length(data, channels * samples * width),
        )

    def _warn(self, text: str) -> None:
        self._warnings.append(f"{self._place}: {text}")

    def _positive(self, keyword: str) -> int:
        value = self._item.integer(keyword)
        if value is None or value < 1:
            raise refuse("missing, or not above zero", keyword)
        return value

    def _originality(self) -> Originality:
        text = self._item.text("WaveformOriginality").upper()
        if text not in set(Originality):
            self._warn("WaveformOriginality is neither ORIGINAL nor DERIVED: taken as ORIGINAL")
            return Originality.ORIGINAL
        return Originality(text)

    def _length(self, data: Element, needed: int) -> int:
        """The bytes that the samples take: channels x samples x width, whatever else the value holds."""
        if data.length < needed:
            raise refuse(f"{data.length} bytes of samples where {needed} are declared", "WaveformData")
        if data.length > needed + needed % 2:  # a value of odd length has one pad byte (PS3.5 §6.2)
            self._warn(f"WaveformData has {data.length - needed} bytes more than declared: they are left out")
        return needed

    def _padding(self, kind: str, width: int) -> int | None:
        element = self._item.element("WaveformPaddingValue")
        if element is None or element.value is None or len(element.value) < width or kind == "V1":
            return None
        value = int.from_bytes(
            element.value[:width], "little" if element.order == "<" else "big", signed=kind.startswith("i")
        )
        if value != (-(1 << (8 * width - 1)) if kind.startswith("i") else 0):
            # Converters declare 0, which would turn every sample at rest into a missing one (dicom_ecg.md §0)
            self._warn(f"WaveformPaddingValue {value} is not the smallest sample: such samples count as signal")
        return value

    def _channels(self, count: int) -> tuple[Channel, ...]:
        items = self._item.items("ChannelDefinitionSequence")
        if len(items) != count:
            raise refuse(f"{len(items)} definitions for {count} channels", "ChannelDefinitionSequence")
        names = unique_names(_lead(item) for item in items)
        if any(_skewed(item) for item in items):
            self._warn("channels are skewed in time: the skew is not carried into the upload")
        return tuple(_channel(item, name) for item, name in zip(items, names, strict=True))


def _lead(item: DataSet) -> str:
    label = item.text("ChannelLabel")
    source = next(iter(item.items("ChannelSourceSequence")), None)
    if source is None:
        return lead_name("", "", "", label)
    scheme, code, meaning = (source.text(k) for k in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning"))
    return lead_name(scheme, code, meaning, label)


def _channel(item: DataSet, lead: str) -> Channel:
    correction = item.number("ChannelSensitivityCorrectionFactor")
    units = next(iter(item.items("ChannelSensitivityUnitsSequence")), None)
    return Channel(
        lead=lead,
        sensitivity=item.number("ChannelSensitivity"),
        correction=Decimal(1) if correction is None else correction,
        baseline=item.number("ChannelBaseline") or Decimal(0),
        microvolts=MICROVOLTS.get(units.text("CodeValue")) if units else None,
        low_cut_hz=item.number("FilterLowFrequency"),
        high_cut_hz=item.number("FilterHighFrequency"),
        notch_hz=item.number("NotchFilterFrequency"),
    )


def _skewed(item: DataSet) -> bool:
    skews: Iterator[Decimal | None] = (item.number(k) for k in ("ChannelTimeSkew", "ChannelSampleSkew"))
    return any(skew for skew in skews)
