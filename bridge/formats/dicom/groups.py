"""WaveformSequence as multiplex groups: what each sample means, and where the samples stand (PS3.3 C.10.9)."""

from decimal import Decimal

from bridge.domain.recording import Channel, MultiplexGroup, Originality
from bridge.errors import BadInput
from bridge.formats.dicom.dataset import DataSet
from bridge.formats.dicom.leads import lead_name, unique_names
from bridge.formats.dicom.walk import Element, refuse
from bridge.formats.ecg.scaling import means_no_sample

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

COMPANDED = "µ-law or A-law, which is not linear"
BYTE_ORDER = "their byte order cannot be told"

RATES = (Decimal("0.001"), Decimal(1_000_000))
"""Hz that a sampling frequency is taken for; the SOP classes of today end at 1000, and General 32-bit goes beyond."""

MICROVOLTS: dict[str, Decimal] = {
    "uV": Decimal(1),
    "µV": Decimal(1),  # micro sign
    "μV": Decimal(1),  # Greek mu
    "mV": Decimal(1000),
    "V": Decimal(1_000_000),
    "nV": Decimal("0.001"),
}
"""The voltages of UCUM, as they are written. Case counts: MV would be a megavolt."""

_STATUS = frozenset({"TEST DATA", "DISCONNECTED", "QUESTIONABLE", "INVALID", "UNCALIBRATED", "UNZEROED"})
"""What ChannelStatus says beside OK (PS3.3 C.10.9, table C.10-9)."""


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
        if rate is None or not RATES[0] <= rate <= RATES[1]:
            raise refuse("no sampling frequency that can be right", "SamplingFrequency")
        kind = KINDS.get((bits, self._item.text("WaveformSampleInterpretation").upper()))
        if kind is None:
            raise refuse("unknown sample interpretation or size", "WaveformSampleInterpretation")
        data = self._item.element("WaveformData")
        if data is None:
            raise refuse("the group has no samples", "WaveformData")
        width = bits // 8
        unreadable = COMPANDED if kind == "V1" else ""
        if data.order == ">" and not _order_is_told(data.vr, width):
            kind, unreadable = f"V{width}", BYTE_ORDER
        originality = self._originality()
        definitions = self._definitions(channels)
        stored = [self._bits_stored(item, n, bits) for n, item in enumerate(definitions, 1)]
        return MultiplexGroup(
            number=self._number,
            originality=originality or Originality.ORIGINAL,
            label=self._item.text("MultiplexGroupLabel"),
            rate=rate,
            samples=samples,
            channels=self._channels(definitions, stored, bits),
            dtype=("|" if width == 1 or unreadable else data.order) + kind,
            bits_stored=max(stored),
            padding=self._padding(kind, width, max(stored)),
            time_offset_ms=self._item.number("MultiplexGroupTimeOffset") or Decimal(0),
            offset=data.offset,
            length=self._length(data, channels * samples * width),
            unreadable=unreadable,
            originality_stated=originality is not None,
        )

    def _warn(self, text: str) -> None:
        self._warnings.append(f"{self._place}: {text}")

    def _positive(self, keyword: str) -> int:
        value = self._item.integer(keyword)
        if value is None or value < 1:
            raise refuse("missing, or not above zero", keyword)
        return value

    def _originality(self) -> Originality | None:
        text = self._item.text("WaveformOriginality").upper()
        if text not in set(Originality):
            self._warn("WaveformOriginality is neither ORIGINAL nor DERIVED: taken as ORIGINAL")
            return None
        return Originality(text)

    def _length(self, data: Element, needed: int) -> int:
        """The bytes that the samples take: channels x samples x width, whatever else the value holds."""
        if data.length < needed:
            raise refuse(f"{data.length} bytes of samples where {needed} are declared", "WaveformData")
        if data.length > needed + needed % 2:  # a value of odd length has one pad byte (PS3.5 §6.2)
            self._warn(f"WaveformData has {data.length - needed} bytes more than declared: they are left out")
        return needed

    def _padding(self, kind: str, width: int, stored: int) -> int | None:
        element = self._item.element("WaveformPaddingValue")
        if element is None or not element.value or kind.startswith("V"):
            return None
        if len(element.value) < width:
            self._warn("WaveformPaddingValue is shorter than a sample: it is passed over")
            return None
        signed = kind.startswith("i")
        value = int.from_bytes(element.value[:width], "little" if element.order == "<" else "big", signed=signed)
        if not means_no_sample(value, ("|" if width == 1 else "<") + kind, stored):
            # Converters declare 0, which would turn every sample at rest into a missing one (dicom_ecg.md §0)
            self._warn(f"WaveformPaddingValue {value} may be a true sample: such samples count as signal")
        return value

    def _definitions(self, count: int) -> list[DataSet]:
        items = self._item.items("ChannelDefinitionSequence")
        if len(items) != count:
            raise refuse(f"{len(items)} definitions for {count} channels", "ChannelDefinitionSequence")
        return items

    def _bits_stored(self, item: DataSet, number: int, allocated: int) -> int:
        """The channel's own (PS3.3 table C.10-9); some write it once, for the group."""
        said = next((n for n in (_whole(i, "WaveformBitsStored") for i in (item, self._item)) if n is not None), None)
        if said is None:
            return allocated
        if not 0 < said <= allocated:
            self._warn(f"channel {number}: WaveformBitsStored {said} of {allocated} cannot be: all of them are taken")
            return allocated
        return said

    def _channels(self, items: list[DataSet], stored: list[int], allocated: int) -> tuple[Channel, ...]:
        names = unique_names(_lead(item) for item in items)
        channels: list[Channel] = []
        for number, (item, name, bits) in enumerate(zip(items, names, stored, strict=True), 1):
            channel, odd = _channel(item, name, bits if bits < allocated else None)
            channels.append(channel)
            for text in odd:
                self._warn(f"channel {number}: {text}")
        if any(_skewed(item) for item in items):
            self._warn("channels are skewed in time: the skew is not carried into the upload")
        return tuple(channels)


def _order_is_told(vr: str, width: int) -> bool:
    """Whether big endian says in which order the bytes of a sample stand.

    Of 8-bit samples OB does, of 16-bit ones OW (PS3.5 §8.3). OW swaps the bytes of each 16-bit word (PS3.5 §6.2), so
    8-bit samples in it, and wider ones, stand as their writer understood that; and OB is never swapped, so what was
    converted in it kept the order that it came in.
    """
    return (width, vr) in {(1, "OB"), (2, "OW")}


def _lead(item: DataSet) -> str:
    label = item.text("ChannelLabel")
    source = next(iter(item.items("ChannelSourceSequence")), None)
    if source is None:
        return lead_name("", "", "", label)
    scheme, code, meaning = (source.text(k) for k in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning"))
    return lead_name(scheme, code, meaning, label)


def _channel(item: DataSet, lead: str, bits_stored: int | None) -> tuple[Channel, list[str]]:
    """The channel, and what is odd about it. What of its scale is no number is named: nothing takes its place."""
    odd: list[str] = []
    no_number = ""
    scale: dict[str, Decimal | None] = {}
    for keyword in ("ChannelSensitivity", "ChannelSensitivityCorrectionFactor", "ChannelBaseline"):
        try:
            scale[keyword] = item.number(keyword)
        except BadInput:
            scale[keyword] = None
            no_number = no_number or keyword
    filters: dict[str, Decimal | None] = {}
    for keyword in ("FilterLowFrequency", "FilterHighFrequency", "NotchFilterFrequency"):
        try:
            filters[keyword] = item.number(keyword)
        except BadInput:  # it describes the signal and changes no sample
            filters[keyword] = None
            odd.append(f"{keyword} is not a number: it is left out")
    status = [s.upper() for s in item.texts("ChannelStatus") if s]
    if set(status) - {"OK"}:
        odd.append(f"ChannelStatus is {', '.join(s for s in status if s in _STATUS) or 'an unknown word'}")
    units = next(iter(item.items("ChannelSensitivityUnitsSequence")), None)
    correction = scale["ChannelSensitivityCorrectionFactor"]
    channel = Channel(
        lead=lead,
        sensitivity=scale["ChannelSensitivity"],
        correction=Decimal(1) if correction is None else correction,
        baseline=scale["ChannelBaseline"] or Decimal(0),
        microvolts=MICROVOLTS.get(units.text("CodeValue")) if units else None,
        low_cut_hz=filters["FilterLowFrequency"],
        high_cut_hz=filters["FilterHighFrequency"],
        notch_hz=filters["NotchFilterFrequency"],
        bits_stored=bits_stored,
        no_number=no_number,
    )
    return channel, odd


def _whole(item: DataSet, keyword: str) -> int | None:
    """A whole number that is no more than advice; None where it is none."""
    try:
        return item.integer(keyword)
    except BadInput:
        return None


def _skewed(item: DataSet) -> bool:
    """By more than nothing, or by something that cannot be read."""
    try:
        return any(item.number(keyword) for keyword in ("ChannelTimeSkew", "ChannelSampleSkew"))
    except BadInput:
        return True
