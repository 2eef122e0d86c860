"""F28 on PostgreSQL: a value that no index takes stops nobody. SQLite keeps any; an entry there has 2,700 bytes."""

import random
import string

import pytest

from bridge.domain.states import State
from tests.acceptance.scene import order
from tests.acceptance.test_roles import OpenGroup, group

pytestmark = pytest.mark.peer
__all__ = ["group"]

LONG = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=6000))
"""Nothing that could be compressed."""


async def test_f28_an_identifier_of_six_thousand_letters_is_held_and_its_neighbours_flow(group: OpenGroup) -> None:
    async with group() as it, it.process("r", "receive") as receiver, it.process("d", "dispatch"):
        await receiver.hl7(order(patient=LONG))
        assert "MSA|AA|C1|task=" in await receiver.hl7(order(patient="4711"))
        rows = await receiver.settled(2)
        assert sorted((row.state, row.reason) for row in rows) == [(State.CREATED, ""), (State.HELD, "poison")]
    assert len(it.api.tasks) == 1


async def test_f28_a_control_id_of_six_thousand_letters_is_answered(group: OpenGroup) -> None:
    async with group() as it, it.process("r", "receive") as receiver, it.process("d", "dispatch"):
        answer = await receiver.hl7(order().replace("|C1|", f"|{LONG}|"))
        assert answer.partition("MSA|")[2][:2] in {"AE", "AR", "AA"}
        assert "MSA|AA|C1|task=" in await receiver.hl7(order())
