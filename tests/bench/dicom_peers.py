"""The receivers of others that C-STORE is measured beside, each in a process of its own.

`storescp +B` keeps the bytes and syncs nothing; Orthanc keeps and indexes them with one fdatasync an object; pynetdicom
decodes and saves as its documentation shows; and a naive bridge does everything inside pynetdicom's handler.
Called as a program with a peer's name, a port and a folder.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.processes import Process, free_port, wait_for

CLASSES = ("1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.9.1.3")


@dataclass(frozen=True)
class Receiver:
    """A peer that is up."""

    address: tuple[str, int]
    called: str
    process: Process


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    """DCMTK's; `--fork` serves several carts at once."""
    port = free_port()
    folder.mkdir()
    command = ["storescp", "+B", "--fork", "--max-pdu", "131072", "-od", str(folder), "-aet", "PEER", str(port)]
    yield from _up(Process(command, {"TCP_NODELAY": "1"}), port, "PEER")


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Orthanc with its own storage and index, and everything else off."""
    port = free_port()
    folder.mkdir()
    configuration = folder / "orthanc.json"
    settings: dict[str, Any] = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "HttpServerEnabled": False,
        "DicomPort": port,
        "DicomAet": "PEER",
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomThreadsCount": 8,
        "MaximumPduLength": 131_072,
        "DicomScpTimeout": 120,
        "Plugins": [],
    }
    configuration.write_text(json.dumps(settings))
    log = {"TCP_NODELAY": "1"}
    yield from _up(Process(["Orthanc", "--logfile=" + str(folder / "log"), str(configuration)], log), port, "PEER")


@contextlib.contextmanager
def pynetdicom(folder: Path, name: str = "pynetdicom", environment: dict[str, str] | None = None) -> Iterator[Receiver]:
    """Pynetdicom's server, or the naive bridge on it."""
    port = free_port()
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.dicom_peers", name, str(port), str(folder)]
    yield from _up(Process(command, environment), port, "PEER")


def _up(process: Process, port: int, called: str) -> Iterator[Receiver]:
    try:
        wait_for(port)
        yield Receiver(("127.0.0.1", port), called, process)
    finally:
        process.end()


def have(program: str) -> bool:
    """Whether it is installed."""
    return shutil.which(program) is not None


def _serve(port: int, handle: Any) -> None:
    from pynetdicom import AE, evt  # noqa: PLC0415  only in the peer's own process

    entity = AE(ae_title="PEER")
    entity.maximum_pdu_size = 131_072
    entity.maximum_associations = 1000  # its own 10 turns carts away that come right behind one another
    for uid in CLASSES:
        entity.add_supported_context(uid)
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, handle)])


def decode_and_save(port: int, folder: Path) -> None:
    """As in pynetdicom's documentation of a storage SCP."""

    def handle(event: Any) -> int:
        made = event.dataset
        made.file_meta = event.file_meta
        made.save_as(folder / made.SOPInstanceUID, enforce_file_format=True)
        return 0

    _serve(port, handle)


def naive(port: int, folder: Path) -> None:
    """A bridge in thirty lines: decode, EDF by edfio, upload and task by httpx, then the status. Nothing is kept."""
    import base64  # noqa: PLC0415
    import hashlib  # noqa: PLC0415
    import io  # noqa: PLC0415

    import edfio  # noqa: PLC0415
    import httpx  # noqa: PLC0415
    from pydicom.waveforms import multiplex_array  # noqa: PLC0415

    token = os.environ["BRIDGE_CARDIO__TOKEN"]
    api = httpx.Client(base_url=os.environ["BRIDGE_CARDIO__BASE_URL"], headers={"X-Api-Token": token})

    def handle(event: Any) -> int:
        made = event.dataset
        group = made.WaveformSequence[0]
        values = multiplex_array(made, 0, as_raw=False)
        leads = [c.ChannelSourceSequence[0].CodeMeaning for c in group.ChannelDefinitionSequence]
        rate = float(group.SamplingFrequency)
        signals = [edfio.EdfSignal(values[:, n], rate, label=lead[:16]) for n, lead in enumerate(leads)]
        out = io.BytesIO()
        edfio.Edf(signals).write(out)
        data = out.getvalue()
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        opened = api.post("/v3/uploads", json={"total_size": len(data), "hash_sum": digest}).raise_for_status()
        upload = opened.json()["upload_id"]
        octets = {"Content-Type": "application/octet-stream"}
        api.post(f"/v3/uploads/{upload}/chunks?offset=0", content=data, headers=octets).raise_for_status()
        task = {"upload_id": upload, "patient_id": str(made.PatientID)}
        api.post("/v3/orgs/sandbox-hospital/tasks", json=task).raise_for_status()
        return 0

    _serve(port, handle)


if __name__ == "__main__":
    {"pynetdicom": decode_and_save, "naive": naive}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
