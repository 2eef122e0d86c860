"""Orders that wait in line are claimed together, each with its first intention in that same transaction."""

import asyncio
import threading
from typing import Any

import pytest

from bridge.dispatch.claiming import Claiming
from bridge.dispatch.deciding import Deciding
from bridge.dispatch.delivering import Delivering
from bridge.errors import StoreError
from bridge.store import line
from tests.acceptance.scene import House, OpenHouse, order

WAITING = 3


@pytest.fixture
async def in_line(house: OpenHouse) -> None:
    """Orders of three patients stand in line, of a service that takes none in hand."""

    async def never(_: Delivering) -> None:
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Delivering, "run", never)
        patch.setattr(Delivering, "reserve", lambda *_: False)
        async with house(BRIDGE_HL7__REPLY_BUDGET="0.1") as it:
            for number in range(1, WAITING + 1):
                await it.hl7(order(f"C{number}", f"PL-{number}", patient=f"471{number}"))
            assert [row.state for row in await it.messages()] == ["READY"] * WAITING


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each claim found."""
    found: list[int] = []
    real = line.claim

    def claim(*args: Any, **values: Any) -> list[line.Claimed]:
        claimed = real(*args, **values)
        found.append(len(claimed))
        return claimed

    monkeypatch.setattr(line, "claim", claim)
    return found


def standings(found: list[Any]) -> list[tuple[str, str]]:
    return [(row.state, row.reason) for row in found]


async def histories(it: House, found: list[Any]) -> list[list[str]]:
    return [[event["state"] for event in (await it.show(row.id))["history"]] for row in found]


@pytest.mark.usefixtures("in_line")
async def test_what_waits_is_begun_in_the_transaction_that_claims_it(house: OpenHouse, claims: list[int]) -> None:
    async with house() as it:
        found = await it.settled(WAITING)
        assert standings(found) == [("CREATED", "")] * WAITING
        assert await histories(it, found) == [["RECEIVED", "READY", "INTENT", "CREATED"]] * WAITING
        assert claims[0] == WAITING


@pytest.mark.usefixtures("in_line")
@pytest.mark.parametrize(
    ("error", "standing"),
    [
        (ValueError("it cannot be decided"), ("HELD", "poison")),
        (StoreError("what it needs cannot be read"), ("RETRY", "interrupted")),
    ],
)
async def test_f28_one_that_cannot_be_begun_holds_up_none_that_is_claimed_with_it(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, error: Exception, standing: tuple[str, str]
) -> None:
    """It is held; or, where it was the store that failed, it stays in line and is tried again."""
    real = Deciding.draft

    def draft(self: Deciding, tx: Any, message_id: int, asked: Any) -> Any:
        if message_id == 2:
            raise error
        return real(self, tx, message_id, asked)

    monkeypatch.setattr(Deciding, "draft", draft)
    async with house() as it:
        await it.until(lambda rows: standings(rows) == [("CREATED", ""), standing, ("CREATED", "")])


@pytest.mark.usefixtures("in_line")
async def test_f43_a_service_that_ends_while_it_claims_sends_what_it_claimed(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an intention would stand behind which nothing was sent: a doubt that a person must settle."""
    claiming, ends = threading.Event(), threading.Event()
    real = Claiming._claim

    def claim(self: Claiming, *args: Any, **values: Any) -> Any:
        taken = real(self, *args, **values)
        claiming.set()
        ends.wait(10)
        return taken

    monkeypatch.setattr(Claiming, "_claim", claim)
    async with house():
        await asyncio.to_thread(claiming.wait, 10)
        asyncio.get_running_loop().call_later(0.2, ends.set)  # the loop that claims is cancelled by then
    monkeypatch.undo()
    async with house() as again:
        assert standings(await again.settled(WAITING)) == [("CREATED", "")] * WAITING


@pytest.mark.usefixtures("in_line")
async def test_f43_a_service_that_ends_while_it_looks_into_the_line_claims_nothing(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, claims: list[int]
) -> None:
    """Beside other processes the line is read first; what is claimed behind that would begin as the service ends."""
    looking, ends = asyncio.Event(), asyncio.Event()
    real, real_drain = Delivering.run, Delivering.drain

    async def among_others(self: Delivering) -> None:
        self._store.alone = self._claiming.astray = False
        await real(self)

    async def look(*_: Any) -> bool:
        looking.set()
        await ends.wait()
        return True

    async def drain(self: Delivering, seconds: float) -> None:
        asyncio.get_running_loop().call_soon(ends.set)
        await real_drain(self, seconds)

    monkeypatch.setattr(Delivering, "run", among_others)
    monkeypatch.setattr(Delivering, "drain", drain)
    monkeypatch.setattr(Claiming, "_is_claimable", look)
    async with house():
        await asyncio.wait_for(looking.wait(), 20)
    assert ends.is_set()
    assert claims == []


async def test_a_store_that_does_not_answer_as_the_service_starts_is_asked_again(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a database does that is restarted in that very moment; the process ended, and was started anew."""
    real, refused = line.astray, list[Any]()

    def astray(*args: Any, **values: Any) -> Any:
        if not refused:
            refused.append(args)
            raise StoreError("it is away")
        return real(*args, **values)

    monkeypatch.setattr(line, "astray", astray)
    async with house() as it:
        await it.hl7(order())
        assert standings(await it.settled(1)) == [("CREATED", "")]
        assert not it.up.failed.is_set()
    assert refused
