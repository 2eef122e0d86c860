"""Storage commitment from the request to the report: what a cart is told, and when it is told again."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

import pytest

from bridge.domain.states import State
from bridge.errors import CommitUnknown, SettingsError, StoreError, StoreFull
from bridge.formats.dicom.reader import ECG_SOP_CLASSES
from bridge.receive.dicom import commitment as commitment_module
from bridge.receive.dicom.commitment import Commitment
from bridge.receive.dicom.session import Session
from bridge.settings import Settings, load
from bridge.store import commitments, inbox
from bridge.store.commitments import HELD, SENT, WAITING
from bridge.store.payloads import Payloads
from bridge.store.sqlite import SqliteStore
from tests.acceptance.virtual_clock import VirtualClock
from tests.protocol.commitment_cart import Cart, Line, listening, scripted
from tests.unit.dicom.test_commitment import encoded, request

RESTING, GENERAL = list(ECG_SOP_CLASSES)[:2]
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
IMPLICIT = "1.2.840.10008.1.2"


class House:
    """The inside of the SCP with its store, and a clock to jump with."""

    def __init__(self, store: SqliteStore, folder: Path, peers: dict[str, str], **rules: Any) -> None:
        self.store = store
        self.clock = VirtualClock()
        self.settings = _settings(folder, peers, rules)
        self.payloads = Payloads(folder / "payloads", min_free=0)
        self.payloads.open()
        self.commitment = Commitment(store, self.payloads, self.settings, self.clock)

    async def keep(
        self,
        uid: str,
        *,
        sop_class: str = RESTING,
        state: State = State.RECEIVED,
        refused: bool = False,
        body: str = "",
    ) -> Path:
        """An object that came in; where its payload is."""
        file = self.payloads.incoming()
        file.write(f"{uid} {body}".encode())
        name, digest = file.keep()
        file.close()
        arrival = inbox.Arrival(
            kind="dicom",
            type=ECG_SOP_CLASSES.get(sop_class, sop_class),
            received_at=self.clock.now(),
            listener="dicom",
            peer="127.0.0.1",
            sender="CART",
            identity=f"{'refused' if refused else 'sop'}:{uid}:{digest}",
            digest=digest,
            sop_instance_uid=uid,
            payload=name,
        )
        await self.store.write(lambda tx: inbox.keep(tx, arrival, state=state))
        return self.payloads.root / name

    async def ask(
        self, *instances: tuple[str, str], transaction: str = "2.25.9", calling: str = "CART", action: int = 1
    ) -> tuple[int, str]:
        """What an association's thread gets for an N-ACTION."""
        information = encoded(request(*instances, transaction=transaction), IMPLICIT)
        session = Session(calling, "BRIDGE", "127.0.0.1")
        return await asyncio.to_thread(self.commitment.action, information, action, IMPLICIT, session)

    async def counts(self) -> dict[str, int]:
        return await self.store.read(commitments.counts)

    async def until(self, wanted: dict[str, int]) -> None:
        """Wait until the requests stand so."""
        async with asyncio.timeout(20):
            while True:
                if await self.counts() == wanted:
                    return
                await asyncio.sleep(0.01)

    async def attempts(self) -> list[tuple[int, str]]:
        """Attempts of each request, and the reason of the last."""
        table = commitments.commitment

        def read(conn: Any) -> list[tuple[int, str]]:
            return [(row.attempts, row.reason) for row in conn.execute(table.select().order_by(table.c.id))]

        return await self.store.read(read)

    async def attempted(self, count: int) -> str:
        """Wait until the first request has been tried so often; the reason of the last time."""
        async with asyncio.timeout(20):
            while True:
                found = await self.attempts()
                if found[0][0] >= count:
                    return found[0][1]
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """The loop that tells, for as long as the context is open."""
        task = asyncio.create_task(self.commitment.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 20)


def _settings(folder: Path, peers: dict[str, str], rules: dict[str, Any]) -> Settings:
    lines = ["[dicom.commitment]", "enabled = true"]
    lines += [f"{key} = {value}" for key, value in {"delay": 0, "timeout": 5, **rules}.items()]
    for title, address in peers.items():
        lines += [f'[dicom.peers."{title}"]', f'address = "{address}"']
    lines += ["[store]", f'payloads = "{folder / "payloads"}"', 'min_free = "0 B"']
    (folder / "bridge.toml").write_text("\n".join(lines))
    return load(folder / "bridge.toml", {})


MakeHouse = Callable[..., House]


@pytest.fixture
def make(store: SqliteStore, tmp_path: Path) -> MakeHouse:
    return lambda peers, **rules: House(store, tmp_path, peers, **rules)


async def test_ps3_3_c_14_1_1_each_instance_is_told_for_itself(make: MakeHouse) -> None:
    with listening(Cart()) as cart:
        house = make({"CART": cart.address})
        await house.keep("2.25.1")
        await house.keep("2.25.2", state=State.HELD)  # whatever becomes of it, it is in our custody
        await house.keep("2.25.3", state=State.REJECTED, refused=True)  # answered C000: it never was
        await house.keep("2.25.4", sop_class=GENERAL)
        asked = [(RESTING, f"2.25.{n}") for n in (1, 2, 3, 4, 5)]
        assert await house.ask(*asked, (PDF, "2.25.6"), (PDF, "2.25.1")) == (0x0000, "")
        async with house.telling():
            await house.until({SENT: 1})
    (heard,) = cart.journal
    assert heard.event_type == 2
    assert heard.committed == ["2.25.1", "2.25.2"]
    assert heard.failed == {"2.25.3": 0x0112, "2.25.4": 0x0119, "2.25.5": 0x0112, "2.25.6": 0x0122, "2.25.1": 0x0119}
    assert (heard.calling, heard.called) == ("BRIDGE", "CART")


async def test_ps3_4_j_3_3_1_2_where_everything_is_kept_that_is_the_event(make: MakeHouse) -> None:
    with listening(Cart()) as cart:
        house = make({"CART": cart.address})
        await house.keep("2.25.1")
        await house.ask((RESTING, "2.25.1"))
        async with house.telling():
            await house.until({SENT: 1})
    assert (cart.journal[0].event_type, cart.journal[0].committed, cart.journal[0].failed) == (1, ["2.25.1"], {})


async def test_a_payload_that_is_not_what_it_was_is_not_committed(make: MakeHouse) -> None:
    with listening(Cart()) as cart:
        house = make({"CART": cart.address})
        await house.keep("2.25.1")
        (await house.keep("2.25.2")).write_bytes(b"something else")
        (await house.keep("2.25.3")).unlink()
        await house.keep("2.25.4", body="one")
        (await house.keep("2.25.4", body="other", state=State.HELD)).unlink()  # F29: who knows which one is meant
        await house.ask(*[(RESTING, f"2.25.{n}") for n in (1, 2, 3, 4)])
        async with house.telling():
            await house.until({SENT: 1})
    assert cart.journal[0].committed == ["2.25.1"]
    assert cart.journal[0].failed == {"2.25.2": 0x0110, "2.25.3": 0x0110, "2.25.4": 0x0110}


async def test_f43_a_long_payload_does_not_keep_the_service_from_its_end(make: MakeHouse) -> None:
    house = make({"CART": "127.0.0.1:1"})
    payload = await house.keep("2.25.1")
    payload.unlink()
    os.mkfifo(payload)  # it is as long as the test goes on writing
    await house.ask((RESTING, "2.25.1"))
    async with house.telling():
        endless = await asyncio.to_thread(payload.open, "wb", 0)
        await _written(endless, 1)
    with endless, pytest.raises(BrokenPipeError):
        await _written(endless, 64)


async def _written(file: IO[bytes], mebibytes: int) -> None:
    for _ in range(mebibytes):
        await asyncio.to_thread(file.write, bytes(1 << 20))


async def test_ps3_7_10_1_4_1_10_what_is_refused_is_not_kept_and_is_told_why(make: MakeHouse) -> None:
    house = make({"CART": "127.0.0.1:1"}, max_instances=2)
    one = (RESTING, "2.25.1")
    refused = [
        await house.ask(one, action=2),
        await house.ask(one, calling="STRANGER"),
        await house.ask(),
        await house.ask(*[(RESTING, f"2.25.{n}") for n in range(3)]),
        await asyncio.to_thread(house.commitment.action, b"\xff" * 99, 1, IMPLICIT, Session("CART", "B", "127.0.0.1")),
    ]
    assert [status for status, _ in refused] == [0x0123, 0x0124, 0x0115, 0x0213, 0x0115]
    assert all(0 < len(comment) <= 64 for _, comment in refused)
    assert refused[1][1] == "no address in dicom.peers for this calling AE title"
    assert await house.counts() == {}


async def test_ps3_4_j_3_3_1_2_a_transaction_uid_of_other_instances_is_refused(make: MakeHouse) -> None:
    house = make({"CART": "127.0.0.1:1"})
    assert (await house.ask((RESTING, "2.25.1")))[0] == 0x0000
    assert await house.ask((RESTING, "2.25.2")) == (0x0115, "TransactionUID: in use for other instances")
    assert await house.counts() == {WAITING: 1}


@pytest.mark.parametrize(("problem", "status"), [(StoreFull("full"), 0x0213), (StoreError("locked"), 0x0110)])
async def test_f24_f26_a_store_that_cannot_keep_it_is_no_success(
    make: MakeHouse, monkeypatch: pytest.MonkeyPatch, problem: Exception, status: int
) -> None:
    house = make({"CART": "127.0.0.1:1"})
    monkeypatch.setattr(house.store, "write_from_thread", _raising(problem))
    assert (await house.ask((RESTING, "2.25.1")))[0] == status


async def test_a3_where_the_commit_is_unknown_nothing_is_said(make: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house = make({"CART": "127.0.0.1:1"})
    monkeypatch.setattr(house.store, "write_from_thread", _raising(CommitUnknown("who knows")))
    with pytest.raises(CommitUnknown):
        await house.ask((RESTING, "2.25.1"))


def _raising(problem: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise problem

    return fail


async def test_f7_f43_a_request_that_was_answered_outlives_the_service(make: MakeHouse, tmp_path: Path) -> None:
    with listening(Cart()) as cart:
        house = make({"CART": cart.address})
        await house.keep("2.25.1")
        await house.ask((RESTING, "2.25.1"))
        house.store.close()
        second = SqliteStore(house.store.path)
        second.open(asyncio.get_running_loop())
        try:
            again = House(second, tmp_path, {"CART": cart.address})
            async with again.telling():
                await again.until({SENT: 1})
        finally:
            second.close()
    assert cart.journal[0].committed == ["2.25.1"]


async def test_a_report_waits_until_the_association_of_its_request_has_had_time_to_end(make: MakeHouse) -> None:
    with listening(Cart()) as cart:
        house = make({"CART": cart.address}, delay=600)
        await house.ask((RESTING, "2.25.1"), transaction="2.25.1")
        async with house.telling():
            await house.ask((RESTING, "2.25.1"), transaction="2.25.2")
            house.clock.jump(599)
            found = await house.store.read(lambda conn: commitments.next_due(conn, "CART", at=house.clock.now()))
            assert found is None
            assert cart.journal == []
            house.clock.jump(2)
            await house.until({SENT: 2})


async def test_f13_a_peer_that_was_away_is_told_when_it_is_back(make: MakeHouse) -> None:
    with listening(Cart()) as cart:
        pass  # its port is free again
    house = make({"CART": cart.address})
    await house.keep("2.25.1")
    await house.ask((RESTING, "2.25.1"))
    async with house.telling():
        for attempt in range(1, 13):
            assert await house.attempted(attempt) == "ConnectionRefusedError"
            house.clock.jump(901)  # the longest wait, and a little
        with listening(cart, port=int(cart.address.rpartition(":")[2])):
            house.clock.jump(901)
            await house.until({SENT: 1})
    assert [(h.transaction_uid, h.committed) for h in cart.journal] == [("2.25.9", ["2.25.1"])]


async def test_f44_a_report_whose_answer_was_lost_is_told_again_under_the_same_transaction_uid(make: MakeHouse) -> None:
    async def loses_the_answer(line: Line) -> None:
        relayed = await asyncio.open_connection(*cart.address.split(":"))
        other = Line(*relayed)
        try:
            with contextlib.suppress(EOFError, OSError):
                head, body = await _raw(line)
                await other.say(head + body)
                head, body = await _raw(other)
                await line.say(head + body)
                last = 0
                while last < 2:
                    head, body = await _raw(line)
                    await other.say(head + body)
                    last += body[5] >> 1
                await _raw(other)  # the answer, which goes nowhere
        finally:
            other.writer.close()
            await other.writer.wait_closed()

    with listening(Cart()) as cart:
        async with scripted(loses_the_answer) as (address, _):
            house = make({"CART": address})
            await house.ask((RESTING, "2.25.1"))
            async with house.telling():
                await house.attempted(1)
                house.clock.jump(901)
                await cart.until(2)
    assert {h.transaction_uid for h in cart.journal} == {"2.25.9"}


async def _raw(line: Line) -> tuple[bytes, bytes]:
    head = await line.reader.readexactly(6)
    return head, await line.reader.readexactly(int.from_bytes(head[2:], "big"))


async def test_f44_a_report_that_its_peer_refuses_is_held_and_those_behind_it_go_on(make: MakeHouse) -> None:
    with listening(Cart(lambda nth: 0x0000 if nth == 2 else 0x0110)) as cart:
        house = make({"CART": cart.address}, refusals=3)
        await house.ask((RESTING, "2.25.1"), transaction="2.25.1")
        await house.ask((RESTING, "2.25.1"), transaction="2.25.2")
        async with house.telling():
            for _ in range(2):
                await house.until({WAITING: 1, SENT: 1})
                house.clock.jump(901)
            await house.until({HELD: 1, SENT: 1})
            assert [h.transaction_uid[-1] for h in cart.journal] == ["1", "2", "1", "1"]
            cart.answering = lambda _: 0x0000
            assert (await house.ask((RESTING, "2.25.1"), transaction="2.25.1"))[0] == 0x0000
            await house.until({SENT: 2})


async def test_a_peer_that_cannot_be_reached_for_too_long_is_given_up_and_counted(make: MakeHouse) -> None:
    house = make({"CART": "127.0.0.1:1"}, give_up_after=1000)
    await house.ask((RESTING, "2.25.1"))
    async with house.telling():
        await house.attempted(1)
        assert await house.counts() == {WAITING: 1}
        house.clock.jump(1001)
        await house.until({HELD: 1})


async def test_the_same_request_again_is_absorbed_until_it_is_told_and_then_told_again(make: MakeHouse) -> None:
    with listening(Cart()) as cart:
        house = make({"CART": cart.address})
        for _ in range(3):
            assert (await house.ask((RESTING, "2.25.1")))[0] == 0x0000
        async with house.telling():
            await house.until({SENT: 1})
            assert len(cart.journal) == 1
            await house.keep("2.25.1")
            await house.ask((RESTING, "2.25.1"))
            await cart.until(2)
            await house.until({SENT: 1})  # the row was set to wait before it was heard
    assert [h.committed for h in cart.journal] == [[], ["2.25.1"]]  # what is true when it is told


async def test_a_peer_gets_one_report_at_a_time_and_no_peer_waits_for_another(make: MakeHouse) -> None:
    connections: list[Line] = []

    async def silent(line: Line) -> None:
        connections.append(line)
        await line.reader.read()

    async with scripted(silent) as (address, ended):
        with listening(Cart()) as cart:
            house = make({"CART": cart.address, "SILENT": address}, timeout=300)
            for n in range(5):
                await house.ask((RESTING, "2.25.1"), transaction=f"2.25.{n}", calling="SILENT")
                await house.ask((RESTING, "2.25.1"), transaction=f"2.25.{n}")
            async with house.telling():
                await house.until({SENT: 5, WAITING: 5})
                assert (len(connections), ended) == (1, [])
    assert [h.transaction_uid for h in cart.journal] == [f"2.25.{n}" for n in range(5)]


async def test_a_peer_that_the_settings_no_longer_name_is_waited_for(make: MakeHouse, tmp_path: Path) -> None:
    house = make({"CART": "127.0.0.1:1"})
    await house.ask((RESTING, "2.25.1"))
    house.commitment = Commitment(
        house.store, house.payloads, _settings(tmp_path, {"OTHER": "127.0.0.1:1"}, {}), house.clock
    )
    async with house.telling():
        assert await house.attempted(1) == "no_address"
    assert await house.counts() == {WAITING: 1}


async def test_what_nobody_foresaw_becomes_a_stored_failure(make: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> int:
        raise RuntimeError("on purpose")

    house = make({"CART": "127.0.0.1:1"}, refusals=2)
    monkeypatch.setattr(commitment_module, "send", fails)
    await house.ask((RESTING, "2.25.1"))
    async with house.telling():
        assert await house.attempted(1) == "RuntimeError"
        house.clock.jump(901)
        await house.until({HELD: 1})


async def test_certificates_that_cannot_be_used_are_said_at_the_start(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "tls.toml").write_text(
        f'[dicom.peers.CART]\naddress = "127.0.0.1:1"\ntls = {{ ca = "{tmp_path}/none.pem" }}\n'
    )
    with pytest.raises(SettingsError, match=r"dicom\.peers: tls"):
        Commitment(store, Payloads(tmp_path, min_free=0), load(tmp_path / "tls.toml", {}), VirtualClock())
