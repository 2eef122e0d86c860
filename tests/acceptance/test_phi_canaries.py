"""No patient value leaves by a side door: canaries in every field of every kind of message (DESIGN.md, promise 6).

The service is a process of its own and logs all it can. What it was sent may stand in the store, in the task, and in
the answers' own echoes; nowhere else.
"""

import asyncio
import contextlib
import io
import itertools
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from bridge.domain.states import SETTLED
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.sandbox.cardio_api import Sandbox
from bridge.sandbox.peer import PeerError
from bridge.serving import open_socket, serving
from bridge.settings import host_port, load
from bridge.store import listing
from bridge.store.sqlite import reader_engine
from tests.acceptance.process import settings

SAMPLES = Path("sample_messages")
SENDERS = re.compile(rb'<section[^>]*aria-label="Senders">.*?</section>', re.DOTALL)
"""Where the overview names systems, by MSH-3 and MSH-4: no patient's, and nothing else of a message stands there."""
CANARY = re.compile(rb"z.?z.?c.?a.?n.?a.?r.?y", re.IGNORECASE | re.DOTALL)
"""With a byte in between: UTF-16, and quoted forms, are found too."""
KINDS = ("01_adt_a04_register", "07_omi_o23_order", "27_adt_a40_merge")
"""Message kinds whose fields are made canaries one by one; in every other sample all of a segment's at once."""
MORE = ("PD1", "NK1", "PV1", "PV2", "AL1", "DG1", "GT1", "IN1", "NTE", "OBX", "ROL", "TQ1", "ZPD")
STRUCTURE = {"MSH": {1, 2, 9, 11, 12}, "ORC": {1}, "BHS": {1, 2}, "FHS": {1, 2}, "BTS": {1}, "FTS": {1}}
FIELDS = 40
TEXT = {"PN", "LO", "SH", "LT", "ST", "UT", "UC"}
CODED = {"CS", "DA", "TM", "DT", "AS", "IS", "DS"}
KEPT = {"SpecificCharacterSet", "Modality", "WaveformOriginality", "WaveformSampleInterpretation"}

numbers = itertools.count(1)


def canary() -> str:
    return f"ZZCANARY{next(numbers)}"


def segment_with_canaries(segment: str, only: int = 0) -> str:
    """Its fields as canaries, but for what makes it a message; `only` that field, where it is given."""
    name, *fields = segment.split("|")
    if name == "MSH":
        fields.insert(0, "|")
    fields += [""] * (FIELDS - len(fields))
    kept = STRUCTURE.get(name, set())
    wanted = {only} - kept if only else set(range(1, FIELDS)) - kept
    fields = [f"{canary()}^{canary()}&{canary()}" if n in wanted else f for n, f in enumerate(fields, 1)]
    return "|".join([name, *(fields[1:] if name == "MSH" else fields)]).rstrip("|")


def messages() -> Iterator[str]:
    """Every sample with a segment of canaries, some field by field; with segments more; and what is no message."""
    for path in sorted(SAMPLES.glob("*.hl7")):
        segments = [s for s in path.read_text(encoding="latin-1").replace("\n", "\r").split("\r") if s]
        for at, segment in enumerate(segments):
            fields = range(1, FIELDS) if path.stem in KINDS else (0,)
            for only in fields:
                changed = [*segments[:at], segment_with_canaries(segment, only), *segments[at + 1 :]]
                if segment[:3] == "MSH" or only:
                    changed[0] = re.sub(r"\|([A-Z]\w*)\|P\|", lambda m: f"|{m[1]}{next(numbers)}|P|", changed[0])
                yield "\r".join(changed) + "\r"
        yield "\r".join([*segments, *(segment_with_canaries(f"{name}|1") for name in MORE)]) + "\r"
        yield "\r".join([s if s[:3] == "MSH" else segment_with_canaries(s) for s in segments]) + "\r"
    yield f"{canary()} is no message"
    yield f"MSH|^~\\&|{canary()}|{canary()}|||{canary()}||ORM^O01|{canary()}|P|2.5\r{canary()}|{canary()}\r"
    broken = f"PID|1||{canary()}\x1b$B\xff||{canary()}\\X4\\^{canary()}\r"
    yield f"MSH|^~\\&|A|B|||20260101||ORM^O01|{canary()}|P|2.5\r{broken}"


def object_with_canaries(made: Dataset, *, dates: bool) -> None:
    """Every text of the object, in its sequences too. `dates`: also where a date, a number or a code is due."""
    for element in made:
        if element.VR == "SQ":
            if element.keyword != "WaveformSequence":
                for item in element.value:
                    object_with_canaries(item, dates=dates)
        elif element.VR not in (TEXT | CODED if dates else TEXT) or element.keyword in KEPT:
            continue
        elif element.VR in {"IS", "DS"}:
            element._value = canary()  # which the library itself would not take
        else:
            element.value = canary()


def objects(folder: Path) -> Iterator[Path]:
    """Every sample object with canaries, also where something else than a text is due."""
    for path, dates in itertools.product(sorted(SAMPLES.glob("*.dcm")), (False, True)):
        made = pydicom.dcmread(path)
        made.PatientComments = made.OtherPatientNames = made.PatientAddress = canary()
        made.AdmittingDiagnosesDescription = made.ReasonForTheRequestedProcedure = canary()
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        with pydicom.config.disable_value_validation():
            object_with_canaries(made, dates=dates)
            target = folder / f"{path.stem}-{dates}.dcm"
            made.save_as(target, enforce_file_format=True)
        yield target


@dataclass
class Service:
    """`bridge run` that logs all it can."""

    addresses: dict[str, str]
    environment: dict[str, str]
    folder: Path
    written: list[bytes]


@contextlib.asynccontextmanager
async def service(folder: Path, base_url: str, upload_format: str) -> AsyncIterator[Service]:
    environment = settings(
        folder / "store",
        base_url,
        BRIDGE_HL7__REPLY_BUDGET="0.05",
        BRIDGE_CARDIO__ORGANIZATION_PATH="test-hospital",
        BRIDGE_CARDIO__TOKEN="test-token",
        BRIDGE_CARDIO__UPLOAD_FORMAT=upload_format,
        BRIDGE_CONSOLE__SIGN_IN="false",
    )
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "run", "--log-level", "debug"]
    log = folder / "service.log"
    process = await asyncio.to_thread(_start, command, environment, log)
    made = Service({}, environment, folder, [])
    assert process.stdout is not None
    try:
        for line in process.stdout:
            made.written.append(line)
            if line == b"ready\n":
                break
            name, _, address = line.decode().strip().partition(" ")
            made.addresses[name] = address
        else:
            pytest.fail(log.read_text())
        yield made
    finally:
        process.terminate()
        made.written.append(process.communicate(timeout=100)[0])
        made.written.append(log.read_bytes())


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=errors)


def checked(environment: dict[str, str]) -> list[bytes]:
    """What `bridge check` prints."""
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "check"]
    told = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    return [told.stdout, told.stderr]


def open_ones(environment: dict[str, str]) -> list[str]:
    """States of the messages that the service still works on."""
    engine = reader_engine(load(None, environment).store.sqlite_path)
    with engine.connect() as conn:
        states = [s for s, n in listing.counts(conn).items() if n]
    engine.dispose()
    return [s for s in states if s not in SETTLED]


def unpacked(data: bytes) -> bytes:
    """Everything of an upload that is no sample: the header of an EDF file, the headers of a WFDB record."""
    if data[:2] != b"PK":
        signals = int(data[252:256])
        return data[: 256 * (signals + 1)]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        headers = [archive.read(n) for n in names if n.endswith(".hea")]
    assert headers
    return b"\n".join([*(n.encode() for n in names), *headers])


def erring(answer: bytes) -> bytes:
    """The ERR segments of an answer: what is wrong, and where, never what stood there."""
    return b"\r".join(s for s in answer.split(b"\r") if s.startswith(b"ERR"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("upload_format", ["wfdb", "edf"])
async def test_no_canary_leaves_by_a_side_door(tmp_path: Path, upload_format: str) -> None:
    api = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    api.faults.add("400", on="tasks", every=5)
    api.faults.add("lost_answer", on="tasks", every=17, times=3)
    api.faults.add("5xx_before", on="uploads", times=2)
    async with (
        serving(api.application(), open_socket("127.0.0.1", 0, setting="sandbox")) as address,
        service(tmp_path, f"http://{address}", upload_format) as up,
    ):
        answers = await _send_everything(up, tmp_path)
        await _until_settled(up)
        pages = b"".join(_get(up.addresses["console"], path) for path in ("/", "/healthz", "/readyz", "/metrics"))
        check = await asyncio.to_thread(checked, up.environment)
    names = [str(p.relative_to(tmp_path)).encode() for p in (tmp_path / "store").rglob("*")]
    uploads = [unpacked(bytes(u.data)) for u in api.uploads.values() if u.whole()]
    bodies = [e["body"] for e in api.journal if e["call"] == "tasks" and "body" in e]
    tags = [t.encode() for b in bodies for t in b.get("searching_tags", ())]
    paths = [f"{e['path']}?{e['query']}".encode() for e in api.journal]
    assert any(CANARY.search(str(b).encode()) for b in bodies), "the canaries have to arrive where they belong"
    assert len(uploads) > 3
    assert len(SENDERS.findall(pages)) == 1
    assert b"message.held" in up.written[-1] or b"level" in up.written[-1], "the log has to be there"
    places = {
        "log and output": up.written,
        "check": check,
        "console": [SENDERS.sub(b"", pages)],
        "file names": names,
        "uploads": uploads,
        "addresses": paths,
        "tags": tags,
        "ERR": [erring(a) for a in answers],
    }
    hits = {place: [CANARY.search(text) for text in texts] for place, texts in places.items()}
    found = {p: [m.string[max(0, m.start() - 80) : m.end() + 20] for m in ms if m] for p, ms in hits.items()}
    assert {p: texts[:3] for p, texts in found.items() if texts} == {}


async def _send_everything(up: Service, folder: Path) -> list[bytes]:
    answers: list[bytes] = []
    host, port = host_port(up.addresses["hl7"])
    waiting: Iterator[str] = messages()

    if up.environment["BRIDGE_CARDIO__UPLOAD_FORMAT"] != "wfdb":  # the same messages once more would say nothing new
        waiting = itertools.islice(waiting, 100)

    async def send() -> None:
        for text in waiting:
            with contextlib.suppress(PeerError):  # what is no message gets no answer that names it
                async with await mllp_sender.Connection.open(host, port, timeout=60, checked=False) as connection:
                    answers.append(await connection.send(text.encode("latin-1")))

    await asyncio.gather(*(send() for _ in range(8)))
    host, port = host_port(up.addresses["dicom"])
    for path in objects(folder):
        await asyncio.to_thread(dicom_sender.store, host, port, [path])
    return answers


async def _until_settled(up: Service) -> None:
    async with asyncio.timeout(120):
        while open_ones(up.environment):  # noqa: ASYNC110  another process's store
            await asyncio.sleep(0.1)


def _get(address: str, path: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as refused:
        return refused.read()
