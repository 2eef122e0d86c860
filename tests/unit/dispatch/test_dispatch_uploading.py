"""F37: an upload is of one object, whatever goes on beside it."""

import asyncio
import io
import itertools
import random
import zipfile
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.clock import SystemClock
from bridge.dispatch import policy
from bridge.dispatch.grouping import Due, Grouping
from bridge.dispatch.in_hand import InHand
from bridge.dispatch.uploading import Uploaded, Uploading
from bridge.domain.outcome import Answered2xx, Outcome, Refused, Unknown
from bridge.domain.states import State
from bridge.domain.task import Mapped
from bridge.formats.dicom.reader import read_object
from bridge.sandbox.cardio_records import records
from bridge.sandbox.ecg_object import Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from bridge.store import line
from bridge.store.payloads import Payloads

PEOPLE = 4


class Client:
    """An API of upload sessions, which loses some of what it is given."""

    def __init__(self, seed: int) -> None:
        self.sessions: dict[str, bytearray] = {}
        self._random = random.Random(seed)
        self._ids = itertools.count(1)

    async def open_upload(self, total_size: int, sha256: bytes) -> Outcome:
        await asyncio.sleep(0)
        name = f"up-{next(self._ids)}"
        self.sessions[name] = bytearray()
        return Answered2xx(upload_id=name)

    async def send_chunk(self, upload_id: str, offset: int, data: bytes) -> Outcome:
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(0)
        kept = self.sessions[upload_id]
        match self._random.randrange(30):
            case 0:
                return Refused(400, "gone")
            case 1:
                return Unknown("lost before")
            case 2:
                kept[offset:] = data
                return Unknown("lost behind")
        assert offset in {len(kept), len(kept) - len(data)}, "a gap, or an overlap"
        kept[offset:] = data
        return Answered2xx()


class Kept:
    """Objects of several patients, and the samples of each by its payload's name."""

    def __init__(self, payloads: Payloads, samples: dict[str, bytes]) -> None:
        self.payloads = payloads
        self.samples = samples


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """One of each patient."""
    payloads = Payloads(tmp_path_factory.mktemp("payloads"), min_free=0)
    payloads.open()
    samples = {}
    for n in range(PEOPLE):
        subject = Subject(f"P{n}", f"Muster^{n}", "19700131", "M")
        made = build(ecg(seconds=1, rate=250, seed=n), rate=250, seed=f"s{n}", subject=subject, start=datetime.now(UTC))
        write(payloads.root / f"object{n}", made)
        samples[f"object{n}"] = made.WaveformSequence[0].WaveformData
    return Kept(payloads, samples)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), chunk=st.integers(800, 8000), form=st.sampled_from(["wfdb", "edf"]))
def test_f37_each_upload_holds_one_record_and_the_samples_of_one_object(
    objects: Kept, monkeypatch: pytest.MonkeyPatch, seed: int, chunk: int, form: str
) -> None:
    payloads, samples = objects.payloads, objects.samples
    monkeypatch.setattr(policy, "backoff", lambda attempt, jitter: 0.0)
    client = Client(seed)

    async def clear() -> None:
        return None

    async def note(*_: Any) -> None:
        return None

    goes_to: Any = SimpleNamespace(
        client=client, settings=SimpleNamespace(chunk_size=chunk, upload_format=form), clear=clear
    )
    uploading = Uploading(goes_to, payloads, SystemClock(), note)

    async def upload(name: str) -> Any:
        group = read_object(payloads.root / name).recording.rhythm()
        return name, await uploading.upload(group, name, attempt=1, jitter=0.0)

    async def together() -> list[Any]:
        return await asyncio.gather(*(upload(name) for name in [*samples, *samples]))

    done = [(name, came) for name, came in asyncio.run(together()) if isinstance(came, Uploaded)]
    assert len({came.upload_id for _, came in done}) == len(done) > 0
    for name, came in done:
        assert came.payload == name
        data = bytes(client.sessions[came.upload_id])
        (record,) = records(data)
        if form == "wfdb":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                (dat,) = [archive.read(n) for n in archive.namelist() if n.endswith(".dat")]
            assert dat == samples[name]
        else:
            assert record.format.lower().startswith("edf")


def test_f37_the_upload_of_another_object_is_never_the_task_of_this_one(
    objects: Kept,
) -> None:
    group = read_object(objects.payloads.root / "object0").recording.rhythm()
    claimed = line.Claimed(**dict.fromkeys(line.Claimed.__slots__, "") | {"id": 7, "payload": "object0"})
    nothing: Any = None
    grouping = Grouping(nothing, nothing, nothing, nothing)
    other = Uploaded("up-1", "00", {}, payload="object1")
    with pytest.raises(ValueError, match="message 7 was given the upload of another object"):
        grouping.intend(nothing, InHand(claimed, State.UPLOADING), Due(group, Mapped({})), other, Mapped({}))
