"""What the Waveform Module asks of each group and channel, and this object lacks (PS3.3 table C.10-9)."""

from collections.abc import Iterator

from bridge.formats.dicom.dataset import DataSet

Remark = tuple[str, str, str]  # severity, where, text

_LEAD_SCHEMES = frozenset({"SCPECG", "MDC"})
_SCALE = ("ChannelSensitivityUnitsSequence", "ChannelSensitivityCorrectionFactor", "ChannelBaseline")


def waveform_remarks(data_set: DataSet, *, explicit: bool) -> Iterator[Remark]:
    """Remarks on every item of WaveformSequence, in order. `explicit`: the transfer syntax says each VR."""
    synchronized = data_set.text("AcquisitionTimeSynchronized") == "Y"
    for number, item in enumerate(data_set.items("WaveformSequence"), 1):
        place = f"WaveformSequence[{number}]"
        if synchronized and not item.text("MultiplexGroupTimeOffset"):
            yield "W", f"{place}.MultiplexGroupTimeOffset", "type 1C: AcquisitionTimeSynchronized is Y"
        if explicit:
            yield from _representation(item, place)
        yield from _channels(item, place)


def _channels(item: DataSet, place: str) -> Iterator[Remark]:
    for number, channel in enumerate(item.items("ChannelDefinitionSequence"), 1):
        yield from _channel(channel, f"{place}.ChannelDefinitionSequence[{number}]")


def _representation(item: DataSet, place: str) -> Iterator[Remark]:
    """OW; for 8 bits OB, wherever the VR is written (PS3.5 §8.3)."""
    data, padding = item.element("WaveformData"), item.element("WaveformPaddingValue")
    if data is None:
        return
    right = "OB" if item.text("WaveformBitsAllocated") == "8" else "OW"
    if data.vr != right:
        yield "W", f"{place}.WaveformData", f"its VR is {data.vr}, and {right} is right (PS3.5 §8.3)"
    if padding is not None and padding.vr != data.vr:
        yield "W", f"{place}.WaveformPaddingValue", "its VR must be that of WaveformData (PS3.5 §8.3)"


def _channel(channel: DataSet, place: str) -> Iterator[Remark]:
    yield from _source(channel, place)
    if not channel.text("WaveformBitsStored"):
        yield "W", f"{place}.WaveformBitsStored", "type 1: must be there with a value; all bits are taken"
    if channel.text("ChannelSensitivity"):
        for keyword in _SCALE:
            if not channel.text(keyword) and not channel.items(keyword):
                yield "W", f"{place}.{keyword}", "type 1C: must be there where ChannelSensitivity is"
        units = next(iter(channel.items("ChannelSensitivityUnitsSequence")), None)
        if units is not None and units.text("CodingSchemeDesignator") != "UCUM":
            yield "W", f"{place}.ChannelSensitivityUnitsSequence", "its scheme must be UCUM (PS3.16 CID 82)"
    if not channel.text("ChannelTimeSkew") and not channel.text("ChannelSampleSkew"):
        yield "W", f"{place}.ChannelTimeSkew", "type 1C: it or ChannelSampleSkew must be there; none is taken for 0"


def _source(channel: DataSet, place: str) -> Iterator[Remark]:
    """Codes other than those of CID 3001 are allowed where a conformance statement names them (PS3.3 A.34.3.4)."""
    items = channel.items("ChannelSourceSequence")
    if not items:
        yield "W", f"{place}.ChannelSourceSequence", "type 1: must be there with an item"
        return
    for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"):
        if not items[0].text(keyword):
            yield "W", f"{place}.ChannelSourceSequence[1].{keyword}", "must be there with a value (PS3.3 §8.8)"
    scheme = items[0].text("CodingSchemeDesignator")
    if scheme and scheme not in _LEAD_SCHEMES:
        text = "not a scheme of PS3.16 CID 3001: the lead is named by CodeMeaning"
        yield "I", f"{place}.ChannelSourceSequence[1].CodingSchemeDesignator", text
