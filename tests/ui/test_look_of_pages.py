"""Every page, in both widths and both schemes."""

from tests.acceptance.scene import OpenHouse
from tests.ui.conftest import OpenPage
from tests.ui.looking import seen


async def test_the_overview_before_anything_came(house: OpenHouse, look: OpenPage) -> None:
    async with house() as it:
        page = await look(f"http://{it.up.addresses['console']}")
        assert await seen(page, "overview-empty") == []
