"""What an upload holds: counted and decoded, checked against the independent `wfdb` package."""

import io
import struct
import warnings
import zipfile
from pathlib import Path

import edfio
import numpy as np
import pytest

from bridge.sandbox.cardio_records import records
from bridge.sandbox.cardio_wfdb import NotARecord

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import uses what pandas deprecates
    import wfdb

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")  # wfdb calls pandas so

SIGNAL = np.column_stack([np.arange(-500, 501) % 97 - 40, np.arange(1001)[::-1] % 89 - 30]).astype(np.int64)


def packed(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    with io.BytesIO() as made:
        with zipfile.ZipFile(made, "w", kind) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return made.getvalue()


def written(folder: Path, kind: str = "16", *, name: str = "rec", length: int = 1001) -> dict[str, bytes]:
    """A record as `wfdb` writes it."""
    wfdb.wrsamp(
        name,
        fs=500,
        units=["mV", "uV"],
        sig_name=["I", "II"],
        d_signal=SIGNAL[:length],
        fmt=[kind, kind],
        adc_gain=[200.0, 0.5],
        baseline=[10, 0],
        write_dir=str(folder),
    )
    return {p.name: p.read_bytes() for p in sorted(folder.glob(f"{name}*"))}


def edf(seconds: int = 2) -> bytes:
    wave = np.linspace(-1, 1, 500 * seconds)
    signals = [edfio.EdfSignal(wave * n, 500, label=f"ECG {n}", physical_dimension="mV") for n in (1, 2)]
    with io.BytesIO() as made:
        edfio.Edf(signals).write(made)
        return made.getvalue()


def scp() -> bytes:
    """Section 0 with a pointer to itself and to a section of 16 bytes."""
    table = struct.pack("<HII", 0, 36, 7) + struct.pack("<HII", 1, 16, 43)
    section = struct.pack("<HHI", 0, 0, 36) + b"\x14\x14SCPECG" + table
    whole = section + bytes(16)
    return struct.pack("<HI", 0, 6 + len(whole)) + whole


@pytest.mark.parametrize("length", [1000, 1001])
@pytest.mark.parametrize("kind", ["16", "24", "32", "61", "80", "160", "212", "8"])
def test_every_format_is_decoded_as_wfdb_wrote_it(tmp_path: Path, kind: str, length: int) -> None:
    files = by_hand(kind, length) if kind in {"61", "160", "8"} else written(tmp_path, kind, length=length)
    (record,) = records(packed(files))
    assert (record.format, record.leads, record.rate, record.samples) == ("wfdb", ("I", "II"), 500, length)
    expected = ((SIGNAL[0, 0] - 10) / 200, SIGNAL[0, 1] / 0.5 / 1000)
    assert record.first_mv == pytest.approx(expected)


def by_hand(kind: str, length: int) -> dict[str, bytes]:
    """Formats that `wfdb` cannot write: signal(5)."""
    values = SIGNAL[:length]
    if kind == "61":
        content = values.astype(">i2").tobytes()
    elif kind == "160":
        content = (values + 32768).astype("<u2").tobytes()
    else:
        steps = np.clip(np.diff(values, axis=0, prepend=values[:1]), -128, 127)
        values = values[:1] + np.cumsum(steps, axis=0)
        content = steps.astype("i1").tobytes()
    sums = [int(s) & 0xFFFF for s in values.sum(axis=0)]
    return {
        "rec.hea": (
            f"rec 2 500 {length}\n"
            f"rec.dat {kind} 200(10)/mV 16 0 {SIGNAL[0, 0]} {sums[0]} 0 I\n"
            f"rec.dat {kind} 0.5(0)/uV 16 0 {SIGNAL[0, 1]} {sums[1]} 0 II\n"
        ).encode(),
        "rec.dat": content,
    }


def test_a_record_longer_than_a_block_is_whole(tmp_path: Path) -> None:
    long = np.tile(SIGNAL, (80, 1))
    wfdb.wrsamp("day", fs=500, units=["mV"] * 2, sig_name=["I", "II"], d_signal=long, fmt=["212"] * 2,
                adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(tmp_path))  # fmt: skip
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert records(packed(files))[0].samples == 80_080
    spoiled = bytearray(files["day.dat"])
    spoiled[-7] ^= 1
    with pytest.raises(NotARecord, match="checksum"):
        records(packed(files | {"day.dat": bytes(spoiled)}))


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_of_every_kind_that_python_knows_is_opened(tmp_path: Path, kind: int) -> None:
    assert len(records(packed(written(tmp_path), kind))) == 1


def test_several_records_in_an_archive_are_several(tmp_path: Path) -> None:
    files = {f"a/{k}": v for k, v in written(tmp_path, name="one").items()}
    files |= written(tmp_path, name="two") | {"three.edf": edf(), "four.scp": scp()}
    assert sorted(r.format for r in records(packed(files))) == ["edf", "scp", "wfdb", "wfdb"]


def test_signals_in_several_files_are_one_record(tmp_path: Path) -> None:
    files = written(tmp_path)
    values = SIGNAL.astype("<i2")
    header = files["rec.hea"].decode().splitlines()
    header[1] = header[1].replace("rec.dat 16", "first.dat 16+4")
    header[2] = header[2].replace("rec.dat", "second.dat")
    two = {
        "rec.hea": "\n".join(header).encode(),
        "first.dat": b"skip" + values[:, 0].tobytes(),
        "second.dat": values[:, 1].tobytes(),
    }
    (record,) = records(packed(two))
    assert (record.samples, len(record.leads)) == (1001, 2)


def test_a_single_edf_is_one_record() -> None:
    (record,) = records(edf())
    assert (record.format, record.leads, record.rate, record.samples) == ("edf", ("ECG 1", "ECG 2"), 500, 1000)
    assert record.first_mv == pytest.approx((-1, -2), abs=1e-3)


def test_an_scp_ecg_is_recognised_by_its_section_pointer_table() -> None:
    assert records(scp())[0].format == "scp"
    for damaged in (
        scp()[:-1],
        scp()[:20],
        scp().replace(struct.pack("<HII", 1, 16, 43), struct.pack("<HII", 1, 17, 43)),
    ):
        with pytest.raises(NotARecord):
            records(damaged)


@pytest.mark.parametrize(
    ("part", "was", "becomes", "why"),
    [
        ("rec.hea", b"rec 2 500 1001", b"rec 2 500 1002", "bytes"),
        ("rec.hea", b"rec 2 500 1001", b"rec 3 500 1001", "3 signals"),
        ("rec.hea", b"rec 2 500 1001", b"other 2 500 1001", "another record"),
        ("rec.hea", b"rec 2 500 1001", b"rec/2 2 500 1001", "segments"),
        ("rec.hea", b"rec 2 500 1001", b"rec 2 0 1001", "rate"),
        ("rec.hea", b"rec.dat 16 ", b"rec.dat 311 ", "311"),
        ("rec.hea", b"rec.dat 16 ", b"rec.dat 16x2 ", "frame"),
        ("rec.hea", b"rec.dat ", b"gone.dat ", "missing"),
        ("rec.dat", b"", b"\0", "bytes"),
    ],
)
def test_a_header_that_does_not_describe_its_samples_is_refused(
    tmp_path: Path, part: str, was: bytes, becomes: bytes, why: str
) -> None:
    files = written(tmp_path)
    files[part] = files[part].replace(was, becomes) if was else files[part] + becomes
    with pytest.raises(NotARecord, match=why):
        records(packed(files))


@pytest.mark.parametrize("place", [0, 2, 1000, 4001])
def test_a_changed_sample_breaks_checksum_or_initial_value(tmp_path: Path, place: int) -> None:
    files = written(tmp_path)
    spoiled = bytearray(files["rec.dat"])
    spoiled[place] ^= 0x40
    with pytest.raises(NotARecord, match="checksum"):
        records(packed(files | {"rec.dat": bytes(spoiled)}))


def test_what_is_not_listed_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path)
    dicom = bytes(128) + b"DICM" + bytes(64)
    for data in (b"", b"PK", dicom, b"<xml/>", packed({}), packed({"a.dcm": dicom}), packed(files)[:-30]):
        with pytest.raises(NotARecord):
            records(data)
    with pytest.raises(NotARecord, match="belong to no record"):
        records(packed(files | {"report.pdf": b"%PDF"}))


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    data = bytearray(packed(written(tmp_path), zipfile.ZIP_STORED))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(mark, at + 4)
    with pytest.raises(NotARecord, match="RuntimeError"):
        records(bytes(data))


def test_whatever_is_damaged_is_refused_and_raises_nothing_else(tmp_path: Path) -> None:
    dice = np.random.default_rng(20260301)
    for whole in (packed(written(tmp_path)), edf(), scp()):
        for _ in range(150):
            data = bytearray(whole)
            for place in dice.integers(0, min(len(data), 900), 3):
                data[place] = dice.integers(0, 256)
            try:
                records(bytes(data[: dice.integers(1, len(data) + 1)] if dice.random() < 0.5 else data))
            except NotARecord:
                continue
