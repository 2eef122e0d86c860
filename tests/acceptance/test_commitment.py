"""Storage commitment, the whole way: C-STORE and N-ACTION come in, the N-EVENT-REPORT goes out (PS3.4 J.3)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import EncapsulatedPDFStorage, StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from bridge.receive.dicom.acceptor import DicomAcceptor
from bridge.receive.dicom.commitment import Commitment
from bridge.receive.dicom.intake import DicomIntake
from bridge.receive.dicom.operations import Services
from bridge.settings import host_port, load
from bridge.store import commitments
from bridge.store.commitments import SENT, WAITING
from bridge.store.payloads import Payloads
from bridge.store.sqlite import SqliteStore
from tests.acceptance.scene import OpenHouse
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.virtual_clock import VirtualClock
from tests.protocol.commitment_cart import Cart, listening
from tests.unit.dicom.test_commitment import request

RESTING = "1.2.840.10008.5.1.4.1.1.9.1.1"


@dataclass
class Door:
    """A DICOM door that is open, and what it keeps."""

    host: str
    port: int
    store: SqliteStore

    async def until(self, wanted: dict[str, int]) -> None:
        """Wait until the requests stand so."""
        async with asyncio.timeout(20):
            while True:
                if await self.store.read(commitments.counts) == wanted:
                    return
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def door(folder: Path, cart: str, clock: VirtualClock, **rules: Any) -> AsyncIterator[Door]:
    """The door for as long as the context is open. Opened again, it finds the same store."""
    values = {
        "BRIDGE_STORE__PAYLOADS": f"{folder}/payloads",
        "BRIDGE_STORE__MIN_FREE": "1 MiB",
        "BRIDGE_DICOM__LISTEN": "127.0.0.1:0",
        "BRIDGE_DICOM__DISCARD_DOCUMENTS": "true",
        "BRIDGE_DICOM__COMMITMENT": f"{{ enabled = true, delay = {rules.get('delay', 0)} }}",
        "BRIDGE_DICOM__PEERS": f'{{ CART = {{ address = "{cart}" }} }}',
    }
    settings = load(None, values)
    store = SqliteStore(folder / "bridge.db")
    store.open(asyncio.get_running_loop())
    payloads = Payloads(settings.store.payloads, min_free=settings.store.min_free)
    payloads.open()
    commitment = Commitment(store, payloads, settings, clock)
    intake = DicomIntake(store, payloads, clock, settings.dicom)
    acceptor = DicomAcceptor(Services(settings.dicom, intake, commitment=commitment), settings.dicom)
    telling = asyncio.create_task(commitment.run())
    try:
        yield Door(*host_port(acceptor.start()), store)
        assert not telling.done()
    finally:
        await asyncio.to_thread(acceptor.stop)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        store.close()


def pdf() -> Dataset:
    """A document beside the waveform."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = EncapsulatedPDFStorage, "2.25.77"
    made.EncapsulatedDocument = b"%PDF-1.7 of nobody"
    return made


async def sends(
    it: Door, objects: list[Any], *instances: tuple[str, str], transaction: str = "2.25.9", calling: str = "CART"
) -> tuple[list[int], int, str]:
    """A cart stores its objects and asks for them on the same association: its statuses, and the comment."""

    def work() -> tuple[list[int], int, str]:
        entity = AE(ae_title=calling)
        entity.add_requested_context(StorageCommitmentPushModel)
        for sop_class in {str(one.SOPClassUID) for one in objects}:
            entity.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
        association = entity.associate(it.host, it.port, ae_title="CARDIOBRIDGE")
        assert association.is_established
        stored = [int(association.send_c_store(one).Status) for one in objects]
        asked = request(*instances, transaction=transaction)
        told, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        association.release()
        return stored, int(told.Status), str(told.get("ErrorComment", ""))

    return await asyncio.to_thread(work)


def objects(folder: Path, count: int) -> list[Dataset]:
    """Recordings of an invented patient, as a cart has them."""
    made = [dcmread(recording(folder, seed=f"seed{n}")) for n in range(count)]
    for one in made:
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return made


def named(*some: Dataset) -> list[tuple[str, str]]:
    return [(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in some]


async def test_what_was_stored_is_committed_and_what_was_not_is_not(tmp_path: Path) -> None:
    good, cut = objects(tmp_path, 2)
    del cut.WaveformSequence
    document = pdf()
    document.file_meta = good.file_meta.__class__()
    document.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    with listening(Cart()) as cart:
        async with door(tmp_path, cart.address, VirtualClock()) as it:
            asked = [*named(good, cut, document), (RESTING, "2.25.404")]
            assert await sends(it, [good, cut, document], *asked) == ([0x0000, 0xC000, 0x0000], 0x0000, "")
            await it.until({SENT: 1})
    (heard,) = cart.journal
    assert heard.event_type == 2
    assert heard.committed == [good.SOPInstanceUID]
    assert heard.failed == {cut.SOPInstanceUID: 0x0112, "2.25.77": 0x0122, "2.25.404": 0x0112}
    assert (heard.calling, heard.called) == ("CARDIOBRIDGE", "CART")


async def test_f7_f43_a_restart_between_the_request_and_its_report_loses_nothing(tmp_path: Path) -> None:
    (good,) = objects(tmp_path, 1)
    clock = VirtualClock()
    with listening(Cart()) as cart:
        async with door(tmp_path, cart.address, clock, delay=600) as it:
            assert await sends(it, [good], *named(good)) == ([0x0000], 0x0000, "")
            await it.until({WAITING: 1})
        assert cart.journal == []
        clock.jump(601)
        async with door(tmp_path, cart.address, clock) as it:
            await it.until({SENT: 1})
    assert [(h.event_type, h.committed) for h in cart.journal] == [(1, [good.SOPInstanceUID])]


async def test_f13_f44_a_cart_that_is_away_for_a_while_is_told_when_it_is_back(tmp_path: Path) -> None:
    (good,) = objects(tmp_path, 1)
    clock = VirtualClock()
    with listening(Cart()) as cart:
        pass  # its port is free again
    async with door(tmp_path, cart.address, clock) as it:
        assert await sends(it, [good], *named(good)) == ([0x0000], 0x0000, "")
        assert (await sends(it, [], *named(good)))[1] == 0x0000  # it asks once more, and is absorbed
        await it.until({WAITING: 1})
        with listening(cart, port=int(cart.address.rpartition(":")[2])):
            clock.jump(901)
            await it.until({SENT: 1})
    assert {(h.transaction_uid, h.event_type, *h.committed) for h in cart.journal} == {
        ("2.25.9", 1, str(good.SOPInstanceUID))
    }


async def test_a_cart_whose_address_is_not_known_is_told_so(tmp_path: Path) -> None:
    async with door(tmp_path, "127.0.0.1:1", VirtualClock()) as it:
        answer = await sends(it, [], (RESTING, "2.25.1"), calling="STRANGER")
        assert answer == ([], 0x0124, "no address in dicom.peers for this calling AE title")
        await it.until({})


async def test_the_service_tells_a_cart_that_its_recording_is_safe(house: OpenHouse, tmp_path: Path) -> None:
    (good,) = objects(tmp_path, 1)
    with listening(Cart()) as cart:
        rules = {
            "BRIDGE_DICOM__COMMITMENT": "{ enabled = true, delay = 0 }",
            "BRIDGE_DICOM__PEERS": f'{{ CART = {{ address = "{cart.address}" }} }}',
        }
        async with house(**rules) as it:
            at_door = Door(*host_port(it.up.addresses["dicom"]), it.up.store)
            assert await sends(at_door, [good], *named(good)) == ([0x0000], 0x0000, "")
            await at_door.until({SENT: 1})
            await it.settled(1)
    assert [(h.event_type, h.committed) for h in cart.journal] == [(1, [good.SOPInstanceUID])]
