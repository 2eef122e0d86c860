"""The JSON API: its own document holds for whatever is sent, and a patient is shown to nobody who did not ask."""

import asyncio
import contextlib
import itertools
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, openapi

from tests.acceptance.acting_house import trail
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_actions_release import held_beside_its_order

EXAMPLES, FEW = 25, 3
"""Requests for each operation; fewer for one that takes a process of its own."""
SLOW = {"/api/map", "/api/check"}


def held_to_its_word(base: str) -> list[str]:
    """Every operation, with what its document allows and with what it does not; which ones were tried."""
    schema = openapi.from_url(f"{base}/api/openapi.json")
    tried = []
    for found, mode in itertools.product(schema.get_all_operations(), GenerationMode):
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=FEW if operation.path in SLOW else EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case: Case) -> None:
            case.call_and_validate(base_url=base, headers={"Origin": base})

        with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
            one()
        tried.append(f"{operation.method.upper()} {operation.path}")
    return tried


async def test_the_api_keeps_the_word_of_its_document(house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        await held_beside_its_order(it, tmp_path)
        tried = await asyncio.to_thread(held_to_its_word, f"http://{it.up.addresses['console']}")
        assert {
            "GET /api/messages",
            "GET /api/overview",
            "POST /api/map",
            "GET /api/settings",
            "GET /api/patients/{patient_id}",
            "POST /api/messages/{target}/{verb}",
        } <= set(tried)


async def test_a_message_is_masked_until_it_is_revealed_and_that_is_noted(house: OpenHouse) -> None:
    async with house() as it:
        await it.hl7(order())
        (row,) = await it.settled(1)
        async with httpx.AsyncClient(base_url=f"http://{it.up.addresses['console']}") as site:
            masked = await site.get(f"/api/messages/{row.id}")
            assert masked.json()["task_ids"] == row.task_ids
            assert [v for v in ("Muster", "Max", "19700131", "1970-01-31") if v in masked.text] == []
            assert await trail(it) == []
            shown = await site.get(f"/api/messages/{row.id}", params={"reveal": "true"})
            assert "Muster" in shown.json()["raw"]
            assert [(a.actor, a.action, a.message_id) for a in await trail(it)] == [("local", "reveal", int(row.id))]


@pytest.mark.parametrize("asked", ["4711", "PL-2", "ACCPL-2", "C2"])
async def test_what_people_know_of_a_message_finds_it_page_by_page(house: OpenHouse, asked: str) -> None:
    async with house() as it:
        for number in range(5):
            await it.hl7(order(f"C{number}", f"PL-{number}"))
        await it.settled(5)
        async with httpx.AsyncClient(base_url=f"http://{it.up.addresses['console']}") as site:
            ids, before = [], {}
            while True:
                page = (await site.get("/api/messages", params={"q": asked, "limit": 2, **before})).json()
                ids += [m["id"] for m in page["messages"]]
                if page["next"] is None:
                    break
                before = {"before": page["next"]}
            everything = [r.id for r in reversed(await it.messages())]
            assert ids == (everything if asked == "4711" else [everything[2]])
