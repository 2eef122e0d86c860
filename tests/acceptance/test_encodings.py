"""Every encoding of an ECG object, from the cart to the API: what is uploaded is what was recorded, to the sample.

One known signal is written in each encoding by pydicom, stored by C-STORE, and read back from what the API was given:
by the sandbox, and by `wfdb` or pyEDFlib, which know nothing of this project.
"""

import contextlib
import dataclasses
import hashlib
import io
import warnings
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyedflib
import pytest
import pytest_asyncio
from pydicom.dataset import Dataset

from bridge.app import running
from bridge.domain.states import SETTLED
from bridge.sandbox import cardio_records
from bridge.sandbox.cardio_api import Sandbox
from bridge.sandbox.ecg_signal import ecg as invented_ecg
from bridge.serving import open_socket, serving
from bridge.settings import load
from bridge.store.listing import Row
from tests.acceptance.scene import House
from tests.unit.dicom.ecg_factory import BIG, EXPLICIT, IMPLICIT, TWELVE_LEADS, Group, ecg, encoded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb's own imports meet a deprecation of pandas
    import wfdb

SIGNAL = invented_ecg(seconds=4, rate=500, seed=11).astype(np.int64)
"""µV, 2000 samples of twelve leads."""
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
GAP = slice(700, 760)
MICROVOLTS = {"uV": 1, "mV": 1000, "V": 1_000_000, "nV": Fraction(1, 1000)}
GENERAL, AMBULATORY, GENERAL_32 = (f"1.2.840.10008.5.1.4.1.1.9.1.{n}" for n in (2, 3, 4))


@dataclass(frozen=True)
class Case:
    """How the signal is written: samples of `interpretation` and `bits`, each worth step x correction `units`."""

    name: str
    interpretation: str = "SS"
    bits: int = 16
    step: str = "2.5"
    correction: str | None = "1"
    baseline: str = "0"
    units: str = "uV"
    samples: int = 2000
    leads: int = 12
    zero: int = 0  # the sample that the signal's middle is put at
    gap: int | None = None  # in lead II there are no samples for a while: this value stands there
    group: dict[str, Any] = field(default_factory=dict)
    syntax: str = EXPLICIT
    sop_class: str = "1.2.840.10008.5.1.4.1.1.9.1.1"
    undefined_lengths: bool = False
    raw: Callable[[bytes], bytes] = bytes
    names: tuple[str, ...] = TWELVE
    only: str = ""  # the one form that is exact, whichever the site prefers

    @property
    def steps(self) -> list[Fraction]:
        """µV of one step, lead by lead."""
        worth = Fraction(self.correction or "1") * MICROVOLTS[self.units]
        said = self.group.get("sensitivity", self.step)
        return [Fraction(s.strip()) * worth for s in ([said] * self.leads if isinstance(said, str) else said)]

    def values(self) -> np.ndarray:
        """The samples."""
        at = SIGNAL[: self.samples, : self.leads]
        values = np.rint(at / np.array([float(s) for s in self.steps])).astype(np.int64) + self.zero
        if self.gap is not None:
            values[GAP, min(1, self.leads - 1)] = self.gap
        return values

    def expected(self) -> np.ndarray:
        """µV, each the double that is nearest."""
        offset = Fraction(self.baseline) * MICROVOLTS[self.units]
        values = self.values()
        columns = [[float(int(v) * step + offset) for v in values[:, n]] for n, step in enumerate(self.steps)]
        return np.array(columns).T

    def content(self, number: int) -> bytes:
        """The object's bytes."""
        said: dict[str, Any] = {
            "interpretation": self.interpretation,
            "bits": self.bits,
            "sensitivity": self.step,
            "correction": self.correction,
            "baseline": self.baseline,
            "units": self.units,
            **self.group,
        }
        made = ecg(
            Group(self.values(), **said),
            syntax=self.syntax,
            sop_class=self.sop_class,
            SOPInstanceUID=f"1.2.826.0.1.3680043.10.9999.7.{number}",
            PatientID=f"P{number}",
        )
        return self.raw(encoded(made, undefined_lengths=self.undefined_lengths))


def each_channel(keyword: str, *values: Any) -> Callable[[Dataset], None]:
    """Set an attribute in every channel, one value after the other; None takes it away."""

    def change(item: Dataset) -> None:
        for n, channel in enumerate(item.ChannelDefinitionSequence):
            value = values[n % len(values)]
            if value is None:
                delattr(channel, keyword)
            else:
                setattr(channel, keyword, value)

    return change


def vr_of_data(vr: str) -> Callable[[bytes], bytes]:
    """WaveformData with another VR in explicit little endian."""
    mark = b"\x00\x54\x10\x10"
    return lambda raw: raw[: raw.index(mark + b"O") + 4] + vr.encode() + raw[raw.index(mark + b"O") + 6 :]


def other_text(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    """Bytes in place of others, as long as they were."""
    assert len(before) == len(after)
    return lambda raw: raw.replace(before, after)


def private(item: Dataset) -> None:
    """What stands between, of a maker's own."""
    for number in (0x1455, 0x5401):
        block = item.private_block(number, "INVENTED", create=True)
        block.add_new(1, "OB", bytes(range(256)) * 40)
        block.add_new(2, "SQ", [Dataset()])


def sources(*codes: tuple[str, str, str]) -> Callable[[Dataset], None]:
    """Scheme, code and meaning of each lead, one after the other; no scheme: the whole sequence is missing."""

    def change(item: Dataset) -> None:
        for n, channel in enumerate(item.ChannelDefinitionSequence):
            scheme, code, meaning = codes[n % len(codes)]
            if not scheme:
                del channel.ChannelSourceSequence
                channel.ChannelLabel = meaning
                continue
            source = channel.ChannelSourceSequence[0]
            source.CodingSchemeDesignator, source.CodeValue, source.CodeMeaning = scheme, code, meaning

    return change


ODD_STEPS = ["1", "1.25", "2.5", "4.88", "5", "0.5", "10", "3.0517578125", "0.125", "2.44140625", "1.953125", "20"]

CASES = (
    Case("16 bits signed"),
    Case("16 bits signed, implicit", syntax=IMPLICIT),
    Case("16 bits signed, big endian", syntax=BIG),
    Case("16 bits signed, undefined lengths", undefined_lengths=True),
    Case("16 bits signed, implicit, undefined lengths", syntax=IMPLICIT, undefined_lengths=True),
    Case("16 bits signed, big endian, undefined lengths", syntax=BIG, undefined_lengths=True),
    Case("16 bits unsigned", "US", zero=30000, baseline="-75000"),
    Case("16 bits unsigned, implicit", "US", zero=30000, baseline="-75000", syntax=IMPLICIT),
    Case("16 bits unsigned, big endian", "US", zero=30000, baseline="-75000", syntax=BIG),
    Case("8 bits signed", "SB", 8, step="25"),
    Case("8 bits signed, implicit: OW", "SB", 8, step="25", syntax=IMPLICIT),
    Case("8 bits signed, big endian: OB", "SB", 8, step="25", syntax=BIG),
    Case("8 bits unsigned", "UB", 8, step="25", zero=128, baseline="-3200"),
    Case("8 bits, odd length and its pad byte", "SB", 8, step="25", samples=1999, leads=3, names=TWELVE[:3]),
    Case("8 bits, odd length, big endian", "UB", 8, step="25", zero=128, baseline="-3200", samples=1999, leads=1,
         syntax=BIG, names=TWELVE[:1]),
    Case("32 bits signed, small numbers", "SL", 32, sop_class=GENERAL_32),
    Case("32 bits signed, large numbers", "SL", 32, step="0.001", sop_class=GENERAL_32, only="wfdb"),
    Case("32 bits signed, implicit", "SL", 32, step="0.001", sop_class=GENERAL_32, syntax=IMPLICIT, only="wfdb"),
    Case("32 bits unsigned", "UL", 32, zero=40000, baseline="-100000", sop_class=GENERAL_32, only="wfdb"),
    Case("64 bits signed that 16 hold", "SV", 64, sop_class=GENERAL_32),
    Case("64 bits unsigned that 32 hold", "UV", 64, zero=10**6, baseline="-2500000", sop_class=GENERAL_32, only="wfdb"),
    Case("12 bits stored in 16, sign extended", group={"bits_stored": 12}),
    Case("12 bits stored in 16, unsigned", "US", zero=2000, baseline="-5000", group={"bits_stored": 12}),
    Case("24 bits stored in 32", "SL", 32, step="0.01", group={"bits_stored": 24}, sop_class=GENERAL_32, only="wfdb"),
    Case("14 and 16 bits by channel", group={"change_item": each_channel("WaveformBitsStored", 14, 16)}),
    Case("padding: the least value, a gap", gap=-32768, group={"padding": -32768}, only="wfdb"),
    Case("padding: the least value, no gap", group={"padding": -32768}),
    Case("padding: the least value, big endian", gap=-32768, group={"padding": -32768}, syntax=BIG, only="wfdb"),
    Case("padding: 0, which is signal", gap=0, group={"padding": 0}),
    Case("padding: beyond the bits stored", gap=4095, group={"padding": 4095, "bits_stored": 12}, only="wfdb"),
    Case("padding: 8 bits", "SB", 8, step="25", gap=-128, group={"padding": -128}, only="wfdb"),
    Case("padding: 32 bits", "SL", 32, gap=-(2**31), group={"padding": -(2**31)}, sop_class=GENERAL_32, only="wfdb"),
    Case("padding: unsigned 0", "US", zero=30000, baseline="-75000", gap=0, group={"padding": 0}, only="wfdb"),
    Case("undeclared -32768", gap=-32768),
    Case("undeclared -32768 beside a padding of 0", gap=-32768, group={"padding": 0}),
    Case("baseline: whole steps", baseline="-250"),
    Case("baseline: no whole steps", baseline="1.25", only="edf"),
    Case("correction factor", step="1", correction="4.88"),
    Case("correction factor absent", step="4.88", correction=None),
    Case("a step for each lead", group={"sensitivity": ODD_STEPS}),
    Case("DS with an exponent", step="25e-1"),
    Case("DS with spaces", step=" 4.88 "),
    Case("DS with a sign and no digit before the point", step="+.5"),
    Case("mV", step="0.005", units="mV"),
    Case("V", step="0.0000025", units="V"),
    Case("nV", step="2500", units="nV"),
    Case("VR OB for 16 bits", raw=vr_of_data("OB")),
    Case("VR UN for the samples", raw=vr_of_data("UN")),
    Case("VR OW for 8 bits", "SB", 8, step="25", raw=vr_of_data("OW")),
    Case("more data than declared", group={"tail": bytes(240)}),
    Case("private elements between", group={"change_item": private}),
    Case("private elements between, implicit", group={"change_item": private}, syntax=IMPLICIT),
    Case("leads by MDC", group={"scheme": "MDC"}),
    Case("leads by meaning that ends in NUL", group={"change_item": sources(
        *[("99INVENTED", str(n), f"Lead {name} (Einthoven)\0") for n, name in enumerate(TWELVE)])}),
    Case("leads by SRT codes and their meaning", group={"change_item": sources(
        *[("SRT", f"G-{n}", f"Lead {name}") for n, name in enumerate(TWELVE)])}),
    Case("leads by label alone", group={"change_item": sources(*[("", "", name) for name in TWELVE])}),
    Case("leads that nothing names", leads=2, names=("ch1", "ch2"), group={"change_item": sources(("", "", ""))}),
    Case("a prime number of samples", samples=1999),
    Case("a frequency with a fraction", group={"rate": "62.5"}),
    Case("a frequency that makes no whole data records of EDF", group={"rate": "499.5"}, only="wfdb"),
    Case("a frequency with an exponent", group={"rate": "5e2"}),
    Case("24 channels of two kinds", sop_class=GENERAL, leads=12, group={"leads": TWELVE_LEADS}),
    Case("one lead, ambulatory", "SB", 8, step="25", leads=1, names=TWELVE[:1], sop_class=AMBULATORY),
    Case("an offset of the group", group={"offset_ms": "1500"}),
    Case("a skew of the channels", group={"change_item": each_channel("ChannelTimeSkew", "0", "0.0002")}),
    Case("a filter that is no number", raw=other_text(b"DS\x04\x000.05", b"DS\x04\x00DC  ")),
    Case("no bits stored", group={"change_item": each_channel("WaveformBitsStored", None)}),
    Case("a channel that was loose", group={"change_item": each_channel("ChannelStatus", "OK", "DISCONNECTED")}),
)  # fmt: skip


@dataclass
class Place:
    """A bridge whose site prefers one form of upload."""

    house: House
    prefers: str
    sent: int = 0

    async def store(self, content: bytes) -> tuple[int, Row]:
        """Store an object; the status, and what became of it."""
        self.sent += 1
        path = self.house.folder / f"{self.sent}.dcm"
        path.write_bytes(content)
        status = await self.house.store(path)
        rows = await self.house.until(lambda rows: len(rows) >= self.sent and rows[self.sent - 1].state in SETTLED)
        return status, rows[self.sent - 1]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["wfdb", "edf"])
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A bridge that takes every transfer syntax."""
    folder = tmp_path_factory.mktemp(request.param)
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    async with contextlib.AsyncExitStack() as stack:
        sock = open_socket("127.0.0.1", 0, setting="sandbox")
        address = await stack.enter_async_context(serving(api.application(), sock))
        values = {
            "BRIDGE_SITE__TIME_ZONE": "Europe/Berlin",
            "BRIDGE_STORE__URL": f"sqlite:///{folder}/bridge.db",
            "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
            "BRIDGE_STORE__MIN_FREE": "1 MiB",
            "BRIDGE_HL7__LISTEN": "127.0.0.1:0",
            "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
            "BRIDGE_DICOM__TRANSFER_SYNTAXES": f'["{EXPLICIT}", "{IMPLICIT}", "{BIG}"]',
            "BRIDGE_CONSOLE__LISTEN": "127.0.0.1:0",
            "BRIDGE_CARDIO__BASE_URL": f"http://{address}",
            "BRIDGE_CARDIO__ORGANIZATION_PATH": "test-hospital",
            "BRIDGE_CARDIO__TOKEN": "test-token",
            "BRIDGE_CARDIO__UPLOAD_FORMAT": request.param,
        }
        up = await stack.enter_async_context(running(load(None, values)))
        yield Place(House(up, api, folder, values), request.param)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
async def test_what_is_uploaded_is_what_was_recorded(place: Place, case: Case, tmp_path: Path) -> None:
    status, row = await place.store(case.content(place.sent))
    assert (status, row.state, row.reason) == (0, "CREATED", "")
    assert row.sop_instance_uid == f"1.2.826.0.1.3680043.10.9999.7.{place.sent - 1}"
    api = place.house.sandbox
    (task_id,) = row.task_ids
    data = bytes(api.uploads[api.tasks[int(task_id)].request["upload_id"]].data)
    (proof,) = [
        e["detail"]["proof"]
        for e in (await place.house.show(row.id))["history"]
        if e["detail"] and "proof" in e["detail"]
    ]
    form = "wfdb" if data[:2] == b"PK" else "edf"
    assert form == proof["form"] == (case.only or place.prefers)
    assert bool(proof["instead"]) == (form != place.prefers)
    (heard,) = cardio_records.records(data)
    names = tuple(f"ECG {name}" for name in case.names) if form == "edf" else case.names  # EDF+ §2.1.3.3
    assert (heard.format, heard.leads, heard.samples) == (form, names, case.samples)
    assert heard.rate == pytest.approx(float(case.group.get("rate", "500")), rel=1e-12)
    read = in_wfdb if form == "wfdb" else in_edf
    read(case, data, heard, tmp_path, Fraction(proof["deviation"]))


def in_wfdb(case: Case, data: bytes, heard: cardio_records.Record, folder: Path, deviation: Fraction) -> None:
    """By the `wfdb` package: 0 samples different, 0 µV off but for the rounding of doubles."""
    assert deviation == 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
        (dat,) = [n for n in archive.namelist() if n.endswith(".dat")]
        assert hashlib.sha256(archive.read(dat)).hexdigest() == heard.sha256
    record = wfdb.rdrecord(str(folder / dat.removesuffix(".dat")), physical=False, return_res=64)
    values = case.values()
    shift = 32768 if (record.fmt[0], case.interpretation) == ("16", "US") else 0
    missing = record.d_signal == -(1 << (int(record.fmt[0]) - 1))
    gone = np.zeros_like(missing)
    if case.only == "wfdb" and case.gap is not None:
        gone[GAP, min(1, case.leads - 1)] = True
    assert np.array_equal(missing, gone)
    assert np.count_nonzero((record.d_signal + shift != values) & ~gone) == 0
    microvolts, expected = record.dac() * 1000, case.expected()
    assert np.array_equal(np.isnan(microvolts), gone)
    size = np.abs(record.d_signal.astype(float) - record.baseline).max() + np.abs(record.baseline).max()
    rounding = 1e-12 * float(max(case.steps)) * size
    assert np.abs(microvolts - expected)[~gone].max() <= rounding
    first = [f * 1000 for f in heard.first_mv]
    assert np.abs(np.array(first) - expected[0]).max() <= rounding


def in_edf(case: Case, data: bytes, heard: cardio_records.Record, folder: Path, deviation: Fraction) -> None:
    """By pyEDFlib: 0 samples different, and no further off in µV than the proof says that EDF's header is."""
    path = folder / "upload.edf"
    path.write_bytes(data)
    values, expected = case.values(), case.expected()
    shift = 32768 if case.interpretation == "US" else 0
    with pyedflib.EdfReader(str(path)) as reader:
        assert reader.signals_in_file == case.leads
        digital = np.array([reader.readSignal(n, digital=True) for n in range(case.leads)]).T
        physical = np.array([reader.readSignal(n) for n in range(case.leads)]).T
    assert np.count_nonzero(digital + shift != values) == 0
    rounding = 1e-9 + 1e-12 * (np.abs(expected).max() + 40_000 * float(max(case.steps)))
    assert np.abs(physical - expected).max() <= float(deviation) + rounding
    assert deviation <= min(case.steps) / 13  # dicom_ecg.md §4.2, note 3
    assert np.abs(np.array(heard.first_mv) * 1000 - expected[0]).max() <= float(deviation) + rounding


# --- what is held -----------------------------------------------------------------------------------------------

SHORT = Case("", samples=200)


def beyond() -> Callable[[Dataset], None]:
    """-1 of 12 bits without its sign."""

    def change(item: Dataset) -> None:
        item.WaveformData = b"\xff\x0f" + item.WaveformData[2:]

    return change


HELD = {
    "no sensitivity": (
        dataclasses.replace(SHORT, group={"change_item": each_channel("ChannelSensitivity", None)}),
        "cannot_scale",
    ),
    "a unit that is no voltage": (dataclasses.replace(SHORT, units="uV", group={"units": "mm[Hg]"}), "cannot_scale"),
    "a unit without a code": (
        dataclasses.replace(SHORT, group={"change_item": each_channel("ChannelSensitivityUnitsSequence", None)}),
        "cannot_scale",
    ),
    "megavolts": (dataclasses.replace(SHORT, group={"units": "MV"}), "cannot_scale"),
    "a sensitivity of nothing": (
        dataclasses.replace(SHORT, group={"change_item": each_channel("ChannelSensitivity", "2.5", "0")}),
        "cannot_scale",
    ),
    "a sensitivity below nothing": (dataclasses.replace(SHORT, group={"sensitivity": "-2.5"}), "cannot_scale"),
    "a sensitivity that is no number": (
        dataclasses.replace(SHORT, step="7.7777", raw=other_text(b"7.7777", b"7,7777")),
        "cannot_scale",
    ),
    "a baseline that is no number": (
        dataclasses.replace(SHORT, baseline="7.7777", raw=other_text(b"7.7777", b"7,7777")),
        "cannot_scale",
    ),
    "µ-law": (
        dataclasses.replace(SHORT, interpretation="UB", bits=8, step="25", zero=128, group={"interpretation": "MB"}),
        "cannot_scale",
    ),
    "32 bits, big endian": (
        dataclasses.replace(SHORT, interpretation="SL", bits=32, syntax=BIG, sop_class=GENERAL_32),
        "cannot_scale",
    ),
    "a sign that was not extended": (
        dataclasses.replace(SHORT, group={"bits_stored": 12, "change_item": beyond()}),
        "cannot_convert",
    ),
    "64 bits that 32 do not hold": (
        dataclasses.replace(SHORT, interpretation="SV", bits=64, zero=2**32, sop_class=GENERAL_32),
        "cannot_convert",
    ),
    "no form is exact": (
        dataclasses.replace(SHORT, interpretation="SL", bits=32, step="0.01", baseline="0.001", sop_class=GENERAL_32),
        "cannot_convert",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", HELD)
async def test_what_cannot_be_scaled_is_kept_and_held(place: Place, name: str) -> None:
    case, reason = HELD[name]
    before = len(place.house.sandbox.uploads)
    status, row = await place.store(case.content(place.sent))
    assert (status, row.state, row.reason) == (0, "HELD", reason)
    assert len(place.house.sandbox.uploads) == before


def gone(keyword: str) -> Callable[[Dataset], None]:
    return lambda item: delattr(item, keyword)


REFUSED: dict[str, Callable[[Dataset], None]] = {
    "more samples than data": lambda item: setattr(item, "NumberOfWaveformSamples", 201),
    "more channels than data": lambda item: setattr(item, "NumberOfWaveformChannels", 13),
    "no samples": gone("WaveformData"),
    "no number of samples": gone("NumberOfWaveformSamples"),
    "no bits allocated": gone("WaveformBitsAllocated"),
    "no interpretation": gone("WaveformSampleInterpretation"),
    "24 bits": lambda item: setattr(item, "WaveformBitsAllocated", 24),
    "no frequency": gone("SamplingFrequency"),
    "no channels": gone("ChannelDefinitionSequence"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_read_sample_by_sample_is_c000_and_kept(place: Place, name: str) -> None:
    case = dataclasses.replace(SHORT, group={"change_item": REFUSED[name]})
    before = len(place.house.sandbox.uploads)
    status, row = await place.store(case.content(place.sent))
    assert (status, row.state, row.reason) == (0xC000, "REJECTED", "corrupt")
    assert len(place.house.sandbox.uploads) == before


def test_the_table_is_large_enough_and_each_case_is_another() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({case.content(1) for case in CASES}) == len(CASES)
