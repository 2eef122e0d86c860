"""The order comes to the cart, and comes back with its ECG (PS3.4 annex K; failures.md F35)."""

import asyncio
import itertools
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from bridge.errors import SettingsError
from bridge.sandbox.ecg_object import Subject, build, write
from bridge.sandbox.ecg_signal import ecg
from bridge.settings import host_port, load
from tests.acceptance.scene import House, OpenHouse, order
from tests.authority import Authority

ON = {"BRIDGE_DICOM__WORKLIST": "{ enabled = true }", "BRIDGE_DICOM__CALLING_AE_TITLES": '["CART1"]'}
PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
NUMBERS = ("AccessionNumber", "RequestedProcedureID", "StudyInstanceUID")
STEP = "ScheduledProcedureStepSequence[0]"


@dataclass
class Cart:
    """DCMTK's `findscu` as a cart that asks for its worklist, and the ECG that it records of a match."""

    findscu: str
    folder: Path
    calls: Iterator[int]

    async def ask(self, it: House, *keys: str, calling: str = "CART1", tls: tuple[object, ...] = ()) -> list[Dataset]:
        """The matches, as they came over the network. `tls` are options of the program."""
        folder = self.folder / f"found{next(self.calls)}"
        folder.mkdir()
        host, port = host_port(it.up.addresses["dicom"])
        wanted = [option for key in keys for option in ("-k", key)]
        titles = ["-aet", calling, "-aec", "CARDIOBRIDGE"]
        done = await asyncio.to_thread(
            subprocess.run,
            [self.findscu, "-W", "-X", "-od", folder, *map(str, tls), *titles, *wanted, host, str(port)],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [dcmread(path) for path in sorted(folder.iterdir())]

    def record(self, match: Dataset, *, name: str = "", seed: str = "a") -> Path:
        """An ECG with the patient and the numbers of the match; `name` is another patient's."""
        subject = Subject(
            match.PatientID,
            name or str(match.PatientName),
            match.PatientBirthDate,
            match.PatientSex,
            issuer=match.IssuerOfPatientID,
        )
        signal = ecg(seconds=10, rate=500, seed=7)
        accession = match.AccessionNumber
        made = build(signal, rate=500, seed=seed, subject=subject, start=datetime.now(UTC), accession=accession)
        made.SpecificCharacterSet = match.get("SpecificCharacterSet", "ISO_IR 100")
        path = self.folder / f"{seed}.dcm"
        write(path, made)
        return path


@pytest.fixture
def cart(peer: Callable[[str], str], tmp_path: Path) -> Cart:
    return Cart(peer("findscu"), tmp_path, itertools.count())


@pytest.mark.peer
async def test_the_ecg_of_an_order_told_to_a_cart_attaches_to_it(house: OpenHouse, cart: Cart) -> None:
    async with house(**ON) as it:
        await it.hl7(order("C1", "PL-1"))
        (match,) = await cart.ask(it, *PATIENT, *NUMBERS, f"{STEP}.Modality=ECG")
        assert (match.PatientName, match.PatientID) == ("Muster^Max", "4711")
        assert match.AccessionNumber == "ACCPL-1"
        assert match.StudyInstanceUID.startswith("2.25.")
        assert await it.store(cart.record(match), calling="CART1") == 0
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].task_ids) == ("CREATED", ["4712"])
        task = it.sandbox.tasks[4712].request
        assert task["investigation_id"] == "ACCPL-1"
        assert "draft=4711" in task["searching_tags"]
        assert await cart.ask(it, *PATIENT, *NUMBERS) == []


@pytest.mark.peer
async def test_f35_an_ecg_with_its_number_and_another_patients_name_is_held(house: OpenHouse, cart: Cart) -> None:
    async with house(**ON) as it:
        await it.hl7(order("C1", "PL-1"))
        (match,) = await cart.ask(it, *PATIENT, *NUMBERS)
        assert await it.store(cart.record(match, name="Anders^Anna"), calling="CART1") == 0
        rows = await it.settled(2)
        assert (rows[1].state, rows[1].reason) == ("HELD", "contradicts_order")
        assert list(it.sandbox.tasks) == [4711]


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "character_set"),
    [
        ("Müller-Lüdenscheidt^Jürgen", "ISO_IR 100"),
        ("Иванов^Иван", "ISO_IR 144"),
        ("Παπαδόπουλος^Γιώργος", "ISO_IR 126"),
        ("Иванов^Иван", "ISO_IR 100"),  # not to be written in it
        ("山田^太郎", "ISO_IR 192"),
        ("Müller^Jürgen", ""),
    ],
)
async def test_a_name_in_any_script_comes_back_as_it_was_ordered(
    house: OpenHouse, cart: Cart, name: str, character_set: str
) -> None:
    async with house(BRIDGE_HL7__FALLBACK_CHARSET="utf-8", **ON) as it:
        await it.hl7(order("C1", "PL-1", name=name))
        asked = (f"SpecificCharacterSet={character_set}",) if character_set else ()
        (match,) = await cart.ask(it, *asked, *PATIENT, *NUMBERS)
        assert str(match.PatientName) == name
        assert await it.store(cart.record(match), calling="CART1") == 0
        rows = await it.settled(2)
        assert rows[1].state == "CREATED"
        assert "draft=4711" in it.sandbox.tasks[4712].request["searching_tags"]


@pytest.mark.peer
async def test_a_number_too_long_for_a_cart_has_a_short_one_that_matches(house: OpenHouse, cart: Cart) -> None:
    long = "7d9f0e52-6f0a-4a52-9d0f-2d1f6a7c9b11"
    async with house(**ON) as it:
        await it.hl7(order("C1", long))
        (match,) = await cart.ask(it, *PATIENT, *NUMBERS, "PlacerOrderNumberImagingServiceRequest")
        assert match.PlacerOrderNumberImagingServiceRequest == long
        assert match.AccessionNumber == match.RequestedProcedureID
        assert len(match.AccessionNumber) == 16
        await it.store(cart.record(match), calling="CART1")
        rows = await it.settled(2)
        assert rows[1].state == "CREATED"
        assert it.sandbox.tasks[4712].request["investigation_id"] == f"ACC{long}"


@pytest.mark.peer
async def test_an_order_leaves_the_worklist_on_hold_and_cancelled_and_comes_back_released(
    house: OpenHouse, cart: Cart
) -> None:
    async with house(BRIDGE_ORDERS__CREATE="on_recording", **ON) as it:
        listed = []
        for number, control in enumerate(("NW", "HD", "RL", "CA")):
            await it.hl7(order(f"C{number}", "PL-1").replace("ORC|NW", f"ORC|{control}"))
            listed.append(len(await cart.ask(it, *PATIENT)))
        assert listed == [1, 0, 1, 0]


@pytest.mark.peer
async def test_f34_the_identifier_that_stands_since_a_merge_is_told_and_matches(house: OpenHouse, cart: Cart) -> None:
    merge = (
        "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301130000+0100||ADT^A40^ADT_A39|M1|P|2.5\rEVN|A40|20260301130000\r"
        "PID|1||0815^^^TEST^MR||Muster^Max||19700131|M\rMRG|4711^^^TEST^MR\r"
    )
    async with house(**ON) as it:
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(merge)
        (match,) = await cart.ask(it, *PATIENT, *NUMBERS, "PatientID=0815")
        assert match.PatientID == "0815"
        assert await cart.ask(it, *PATIENT, "PatientID=4711") == []
        await it.store(cart.record(match), calling="CART1")
        rows = await it.settled(3)
        assert rows[2].state == "CREATED"
        assert it.sandbox.tasks[4712].request["patient_id"] == "0815"


@pytest.mark.peer
async def test_the_ecg_of_a_patient_who_has_a_new_name_since_the_order_attaches_to_it(
    house: OpenHouse, cart: Cart
) -> None:
    rename = (
        "MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301130000+0100||ADT^A08|A1|P|2.5\rEVN|A08|20260301130000\r"
        "PID|1||4711^^^TEST^MR||Neumann^Max||19700131|M\r"
    )
    async with house(**ON) as it:
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(rename)
        (match,) = await cart.ask(it, *PATIENT, *NUMBERS)
        assert match.PatientName == "Neumann^Max"
        await it.store(cart.record(match), calling="CART1")
        rows = await it.settled(3)
        assert (rows[2].state, rows[2].reason) == ("CREATED", "")
        (made,) = (t.request for t in it.sandbox.tasks.values() if "upload_id" in t.request)
        assert (made["patient_last_name"], made["investigation_id"]) == ("Neumann", "ACCPL-1")


@pytest.mark.peer
async def test_a_worklist_over_mutual_tls_needs_no_list_of_titles(house: OpenHouse, cart: Cart, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    certificate, key = authority.sign("bridge")
    own, own_key = authority.sign("cart1")
    tls = f'{{ certificate = "{certificate}", key = "{key}", client_ca = "{authority.certificate}" }}'
    async with house(BRIDGE_DICOM__WORKLIST="{ enabled = true }", BRIDGE_DICOM__TLS=tls) as it:
        await it.hl7(order("C1", "PL-1"))
        shown = ("+tls", own_key, own, "+cf", authority.certificate)
        (match,) = await cart.ask(it, *PATIENT, *NUMBERS, tls=shown)
        assert (match.PatientID, match.AccessionNumber) == ("4711", "ACCPL-1")
        with pytest.raises(AssertionError):
            await cart.ask(it, *PATIENT, tls=("+tla", "+cf", authority.certificate))
        with pytest.raises(AssertionError):
            await cart.ask(it, *PATIENT)


@pytest.mark.peer
async def test_a_cart_that_is_not_named_is_told_nothing(house: OpenHouse, cart: Cart) -> None:
    async with house(**ON) as it:
        await it.hl7(order("C1", "PL-1"))
        with pytest.raises(AssertionError, match="Rejected"):
            await cart.ask(it, *PATIENT, calling="ELSEWHERE")


@pytest.mark.peer
async def test_without_the_setting_there_is_no_worklist(house: OpenHouse, cart: Cart) -> None:
    async with house(BRIDGE_DICOM__CALLING_AE_TITLES='["CART1"]') as it:
        await it.hl7(order("C1", "PL-1"))
        with pytest.raises(AssertionError, match=r"(?i)no (acceptable )?presentation context"):
            await cart.ask(it, *PATIENT)


def test_a_worklist_for_everybody_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"worklist: it names patients; say who may ask in calling_ae_titles"):
        load(None, {"BRIDGE_DICOM__WORKLIST": "{ enabled = true }"})


def test_a_worklist_for_whoever_shows_a_certificate_is_taken() -> None:
    tls = '{ certificate = "a.pem", key = "a.key", client_ca = "ca.pem" }'
    taken = load(None, {"BRIDGE_DICOM__WORKLIST": "{ enabled = true }", "BRIDGE_DICOM__TLS": tls})
    assert taken.dicom.worklist.enabled
