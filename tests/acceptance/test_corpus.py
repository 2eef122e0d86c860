"""Published messages and objects, where the folder is there (`BRIDGE_CORPUS`, else ../shared/corpus). Extra input only:
nothing here is depended on alone.
"""

import os
from pathlib import Path

import pytest

from bridge.errors import BadInput
from bridge.formats.hl7 import batch
from bridge.sandbox import mllp_sender
from bridge.sandbox.peer import PeerError
from bridge.settings import host_port
from tests.acceptance.scene import OpenHouse, order

CORPUS = Path(os.environ.get("BRIDGE_CORPUS", Path(__file__).parents[2].parent / "shared" / "corpus"))
pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="no corpus here; it is extra input, not a peer")

STATUSES = {
    "pydicom__waveform_ecg.dcm": 0x0000,
    "ecgtoolkit-cs__Example.dcm": 0x0000,
    "cabolabs__out2_attrs_1lead.dcm": 0x0000,
    "ecg2dcm__synthetic_muse.dcm": 0x0000,
}


async def test_every_message_gets_an_answer_of_its_own(house: OpenHouse) -> None:
    async with house(BRIDGE_HL7__PROCESSING_IDS='["P", "T", "D", ""]') as it:
        host, port = host_port(it.up.addresses["hl7"])
        wrong = {}
        for path in sorted((CORPUS / "hl7").glob("*.hl7")):
            body = path.read_bytes().strip(b"\x0b\x1c")
            async with await mllp_sender.Connection.open(host, port, timeout=10, checked=False) as connection:
                if b"\rMSA|" in body.replace(b"\n", b"\r") and not batch.is_batch(body):
                    connection._timeout = 1.0
                    with pytest.raises(PeerError, match="no answer"):
                        await connection.send(body)
                    continue
                answer = await connection.send(body)
            told = [a.control_id for a in mllp_sender.answers(answer)]
            asked = mllp_sender.control_ids(body)
            if not told or (asked and told != asked and not batch.is_batch(body)):
                wrong[path.name] = (asked, told)
            if batch.is_batch(body) and b"BTS|" not in answer:
                wrong[path.name] = "no batch"
        assert wrong == {}
        assert "MSA|AA|HONEST|task=" in await it.hl7(order("HONEST", "PL-HONEST"))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # a published object's UID is wrong, and is taken
async def test_every_object_gets_its_status(house: OpenHouse) -> None:
    async with house() as it:
        got = {}
        for path in sorted((CORPUS / "dicom").glob("*.dcm")):
            try:
                got[path.name] = await it.store(path)
            except (PeerError, BadInput):
                continue  # not negotiated, or no DICOM file
        assert got == STATUSES
        rows = await it.settled(len(STATUSES))
        assert len(rows) == len(STATUSES)
        assert {r.state for r in rows} <= {"CREATED", "HELD"}
