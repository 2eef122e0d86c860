"""Every page with the sample messages in it: both widths, both schemes, nothing overlaps, axe-core finds nothing."""

from pathlib import Path

import pytest

from bridge.cli.demo_scene import samples_in, send
from tests.acceptance.scene import OpenHouse
from tests.ui.conftest import OpenPage
from tests.ui.looking import seen

SAMPLES = Path(__file__).parents[2] / "sample_messages"


async def test_the_overview_before_anything_came(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        page = await look(f"http://{it.up.addresses['console']}")
        assert await seen(page, "overview-empty") == []


@pytest.mark.timeout(600)
async def test_every_page_with_the_samples_in_it(house: OpenHouse, look: OpenPage) -> None:
    async with house(BRIDGE_HL7__REPLY_BUDGET="10") as it:
        for sample in samples_in(SAMPLES):
            await send(sample, it.up, it.sandbox)
        rows = await it.messages()
        of_type = {row.type: row.id for row in rows}
        held = next(row.id for row in rows if row.state == "HELD")
        page = await look(f"http://{it.up.addresses['console']}")
        wrong = await seen(page, "overview")
        ecgs = [row.id for row in rows if row.kind == "dicom" and row.state == "CREATED"]
        places = {
            "messages": "/messages",
            "message-order": f"/messages/{of_type['ORM^O01']}",
            "message-adt": f"/messages/{of_type['ADT^A40']}",
            "message-samples-held": f"/messages/{held}",
            "ecg-twelve": f"/messages/{ecgs[0]}/ecg",
            "ecg-other": f"/messages/{ecgs[-1]}/ecg",
            "work-samples": "/work",
            "patients": "/patients",
            "patient": "/patients/1",
            "order": "/orders/1",
            "mapping-rules": "/mapping",
            "alarms": "/alarms",
            "settings": "/settings",
        }
        for name, place in places.items():
            answer = await page.goto(place)
            assert answer is not None
            assert answer.status == 200, place
            wrong += await seen(page, name)
        assert wrong == []
