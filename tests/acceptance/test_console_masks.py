"""No patient value on a page that is not revealed: canaries in every field of every sample (failures.md §5)."""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
import sqlalchemy as sa

from bridge.sandbox import mllp_sender
from bridge.sandbox.peer import PeerError
from bridge.settings import host_port
from bridge.store.port import Transaction
from bridge.store.schema import anomaly, clinical_order, commitment, event, message, outbound, patient, task
from bridge.store.sqlite import SqliteStore
from tests.acceptance.scene import House, OpenHouse
from tests.acceptance.test_actions_release import held_beside_its_order
from tests.protocol.console_front import Front, opened

SAMPLES = Path("sample_messages")
OBJECTS = sorted(SAMPLES.glob("*.dcm"))
CANARY = re.compile(r"zz.?canary|1911-?02-?03|03\.02\.1911", re.IGNORECASE)
"""And the one birth date of all of them, in each of its forms."""
BORN = "19110203"
OPEN = {
    "MSH": {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 18},
    "EVN": {1, 2},
    "ORC": {1, 2, 3, 4, 5},
    "OBR": {2, 3, 4, 18, 19},
    "IPC": {1, 2},
    "BHS": {*range(1, 13)},
    "FHS": {*range(1, 13)},
    "BTS": {1},
    "FTS": {1},
}
"""Positions that keep what the sample has: structure, who sends, and numbers by which work is found. Nothing else."""
KEPT = {"PID": {7, 8}, "MRG": set(), "OBX": {2}}
"""Positions that must keep their form for the message to be understood."""
MORE = ("PD1", "NK1", "PV1", "PV2", "AL1", "DG1", "GT1", "IN1", "NTE", "OBX", "ROL", "TQ1", "ZPD")
PLANNED = {"BRIDGE_DICOM__WORKLIST": "{ enabled = true }", "BRIDGE_DICOM__CALLING_AE_TITLES": '["TESTCART"]'}
TEXT = {"PN", "LO", "SH", "LT", "ST", "UT", "UC"}
OPEN_ATTRIBUTES = {
    "AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID", "Manufacturer", "ManufacturerModelName",
    "SoftwareVersions", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    "WaveformOriginality", "WaveformSampleInterpretation", "Modality", "SpecificCharacterSet", "TimezoneOffsetFromUTC",
}  # fmt: skip
NUMBERS = itertools.count(1)


def canary() -> str:
    return f"ZZCANARY{next(NUMBERS)}"


def with_canaries(segment: str) -> str:
    """A canary in each field that holds something, and in ten more, but for the open ones."""
    name, *rest = segment.split("|")
    fields = [name, "|", *rest] if name in {"MSH", "BHS", "FHS"} else [name, *rest]
    kept = OPEN.get(name, set()) | KEPT.get(name, set())
    if not kept & {1, 2}:
        fields += [""] * max(0, 12 - len(fields))
    made = []
    for number, text in enumerate(fields[1:], 1):
        if number in kept or (not text and name in OPEN):
            made.append(BORN if (name, number) == ("PID", 7) else text)
        elif name in {"PID", "MRG"} and "^" in text:
            parts = text.split("~")[0].split("^")
            made.append("^".join(canary() if part and len(part) > 2 else part for part in parts))
        else:
            made.append(f"{canary()}^{canary()}&{canary()}")
    return "|".join([name, *(made[1:] if name in {"MSH", "BHS", "FHS"} else made)])


def messages() -> Iterator[bytes]:
    for path in sorted(SAMPLES.glob("*.hl7")):
        segments = [s for s in path.read_text(encoding="latin-1").replace("\n", "\r").split("\r") if s]
        more = [] if segments[0].startswith(("BHS", "FHS")) else [with_canaries(f"{name}|1") for name in MORE]
        yield "\r".join([*map(with_canaries, segments), *more, ""]).encode("latin-1", "replace")
    yield f"{canary()} is no message".encode()


def object_with_canaries(path: Path, folder: Path) -> Path:
    made = pydicom.dcmread(path)
    made.PatientComments = made.OtherPatientNames = made.PatientAddress = made.PatientName = canary()
    made.AdmittingDiagnosesDescription = made.ReasonForTheRequestedProcedure = canary()
    made.PatientBirthDate = BORN
    for element in made.iterall():
        if element.VR in TEXT and element.keyword not in OPEN_ATTRIBUTES and "Waveform" not in element.keyword:
            element.value = canary()
    target = folder / f"canary-{path.name}"
    made.save_as(target, enforce_file_format=True)
    return target


@contextlib.asynccontextmanager
async def front_of(folder: Path) -> AsyncIterator[Front]:
    """The console of a store that its bridge has left, with a viewer and an operator."""
    store = SqliteStore(folder / "bridge.db")
    store.open(asyncio.get_running_loop())
    front = await opened(store)
    try:
        await front.person("vera", "viewer")
        await front.person("otto", "operator")
        yield front
    finally:
        await front.aclose()
        store.close()


def everything_hurts(tx: Transaction) -> None:
    """What no sample brings about: the API's echo, a person's words, answers of receivers, work of every kind."""
    word = f"{canary()} of {BORN}"
    tx.conn.execute(task.update(), {"api_text": f"bad name {word}", "watched": f'{{"severity": "{word}"}}'})
    row = {"at": 1, "actor": "otto", "state": "HELD", "reason": "released"}
    ids = tx.conn.execute(message.select()).all()
    for one in ids:
        detail = f'{{"why": "{word}", "api": "{word}", "unheard_of": "{word}", "warnings": []}}'
        tx.conn.execute(event.insert(), {**row, "message_id": one.id, "detail": detail})
    tx.conn.execute(
        outbound.insert(),
        {
            "message_id": ids[0].id,
            "kind": "task_ids",
            "listener": "hl7",
            "address": "127.0.0.1:1",
            "control_id": "CB1",
            "body": f"MSH|^~\\&|A|B|C|D|1||ORM^O01|CB1|P|2.3.1\rPID|1||{word}\r".encode(),
            "answer": f"MSH|^~\\&|A|B|C|D|1||ACK|1|P|2.3.1\rMSA|AE|CB1|{word}\rERR|{word}\r".encode(),
            "state": "HELD",
            "reason": "AE",
            "next_at": 1,
            "created_at": 1,
        },
    )
    tx.conn.execute(
        commitment.insert(),
        {
            "transaction_uid": "1.2",
            "requester": "CART",
            "called": "CB",
            "state": "HELD",
            "reason": "0110",
            "next_at": 1,
            "requested_at": 1,
        },
    )
    tx.conn.execute(
        anomaly.insert(),
        {
            "message_id": ids[0].id,
            "task_message_id": ids[1].id,
            "reason": "merged_after_task",
            "task_ids": "1",
            "at": 1,
        },
    )


async def filled(it: House, folder: Path) -> int:
    """Every sample with canaries comes in; how many messages that makes."""
    host, port = host_port(it.up.addresses["hl7"])
    for body in messages():
        with contextlib.suppress(PeerError):
            await mllp_sender.send(host, port, body)
    for sample in OBJECTS:
        await it.store(object_with_canaries(sample, folder))
    rows = await it.settled(30, seconds=60)
    await it.up.store.write(everything_hurts)
    return len(rows)


async def paths_of(front: Front) -> list[str]:
    """Every page that could show somebody."""

    def ids(conn: sa.Connection, table: sa.Table) -> list[int]:
        return [row.id for row in conn.execute(table.select())]

    rows = await front.store.read(lambda conn: conn.execute(message.select()).all())
    orders = await front.store.read(lambda conn: ids(conn, clinical_order))
    people = await front.store.read(lambda conn: ids(conn, patient))
    groups = {(r.state, r.reason) for r in rows if r.state in {"HELD", "REJECTED", "IN_DOUBT"}}
    found = ["/work", "/patients", "/work/part", "/work/group?kind=outbound&reason=AE"]
    found += ["/work/group?kind=commitment&reason=0110", "/work/group?kind=anomaly&reason=merged_after_task"]
    found += [f"/work/group?kind={state}&reason={reason}" for state, reason in sorted(groups)]
    found += [f"/orders/{n}" for n in orders] + [f"/patients/{n}" for n in people]
    for row in rows:
        found += [f"/messages/{row.id}", f"/messages/{row.id}/parts/stand", f"/messages/{row.id}/parts/stages"]
        if row.kind == "dicom":
            found.append(f"/messages/{row.id}/ecg")
    assert orders
    assert people
    return found


async def seen_by(browser: httpx.AsyncClient, path: str) -> str:
    answer = await browser.get(path)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    return answer.text


@pytest.mark.timeout(900)
async def test_no_page_shows_a_patient_to_a_viewer_or_before_the_reveal(house: OpenHouse, tmp_path: Path) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="0.05", **PLANNED) as it:
        many = await filled(it, tmp_path)
    async with front_of(tmp_path) as front:
        paths = await paths_of(front)
        vera, otto = await front.signed_in("vera"), await front.signed_in("otto")
        for name, browser in (("viewer", vera), ("operator", otto)):
            for path in paths:
                page = await seen_by(browser, path)
                found = CANARY.search(page)
                assert found is None, (name, path, page[max(0, found.start() - 300) : found.end() + 100])
                assert "<svg" not in page, (name, path)
            for text in ("zzcanary", "ZZ"):
                answer = await browser.post("/patients", data={"text": text})
                if name == "viewer":  # who may not see whose it is may not ask by it, letter by letter
                    assert answer.status_code == 403
                    assert CANARY.search(answer.text) is None
                    continue
                shown = answer.text.replace(f'value="{text}"', "")
                assert 'data-name="Record"' in shown
                assert CANARY.search(shown) is None
        assert many > 30
        # And where they are: the same pages, revealed, show nearly all of them.
        unmasked = 0
        for path in (p for p in paths if re.fullmatch(r"/(messages|patients|orders)/\d+", p)):
            assert (await vera.post(f"{path}/reveal")).status_code == 403
            assert (await otto.post(f"{path}/reveal")).status_code == 303
            unmasked += CANARY.search(await seen_by(otto, path)) is not None
            assert CANARY.search(await seen_by(vera, path)) is None, "revealed to another"
        assert unmasked > 30
        acts = await front.acts("reveal")
        assert {act.actor for act in acts} == {"otto"}


async def test_a_viewer_cannot_act_and_is_told_who_can(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
    async with front_of(tmp_path) as front:
        vera = await front.signed_in("vera")
        page = await seen_by(vera, f"/messages/{held}")
        assert "An operator can do this; your role is viewer." in page
        assert "fieldset disabled" in page
        assert "/reveal" not in page
        verbs = ("release", "replay", "discard", "resolve", "settle", "untold/1", "reveal")
        posts = [f"/messages/{held}/{verb}" for verb in verbs]
        posts += ["/work/replay", "/work/untold/outbound/1", "/patients/1/reveal", "/orders/1/reveal"]
        for path in posts:
            form = {"reason": "because", "way": "found", "verb": "release", "anomaly": "1", "message": held}
            answer = await vera.post(path, data=form)
            assert answer.status_code == 403, path
        assert (await vera.get("/work/replay?kind=HELD&reason=contradicts_order")).status_code == 403
        assert (await vera.post("/patients", data={"text": "4711", "reveal": "true"})).status_code == 403
        assert await front.acts("release", "replay", "discard", "reveal") == []


async def test_a_reveal_is_of_one_session_and_over_when_nobody_looks(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        held = await held_beside_its_order(it, tmp_path)
    async with front_of(tmp_path) as front:
        idle = front.settings.console.idle_timeout
        here, there = await front.signed_in("otto"), await front.signed_in("otto")
        path = f"/messages/{held}"
        await here.post(f"{path}/reveal")
        assert "Anders" in await seen_by(here, path)
        assert "Anders" not in await seen_by(there, path)
        front.clock.jump(idle * 0.6)
        assert "Anders" in await seen_by(here, path)
        front.clock.jump(idle * 0.6)
        await seen_by(here, "/work")  # he is there, and looks at something else
        refreshed = await here.get(f"{path}/parts/stages", headers={"x-refresh": "1"})
        assert "Anders" in refreshed.text
        front.clock.jump(idle * 0.6)
        await seen_by(here, "/work")
        assert "Anders" not in await seen_by(here, path), "a refresh that nobody asked for kept it open"
        assert [act.actor for act in await front.acts("reveal")] == ["otto"]
