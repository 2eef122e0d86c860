"""The settings page of a bridge that is up: what is in force, its check, and no secret."""

import re
from pathlib import Path

import pytest

from bridge.settings import SiteSettings, StoreSettings
from tests.acceptance.scene import OpenHouse
from tests.acceptance.trying import page_of

pytestmark = pytest.mark.timeout(300)


async def test_the_check_knows_the_service_s_own_ports_and_says_what_is_lacking(house: OpenHouse) -> None:
    async with house() as it, page_of(it) as browser:
        assert (await browser.post("/settings/check")).status_code == 303
        page = (await browser.get("/settings")).text
        said = re.findall(r'class="state (\w+)">[^<]*</span><strong>([^<]*)</strong><span>([^<]*)<', page)
        assert {what for level, what, _ in said if level == "ok"} >= {
            "settings", "mapping", "store", "disk", "clock", "hl7", "dicom", "console", "token", "api"
        }  # fmt: skip
        assert not [line for line in said if line[0] == "error"]
        for name, address in it.up.addresses.items():
            assert ("ok", name, f"{address} is this service&#39;s own") in said
        assert ("warning", "dicom", "dicom.calling_ae_titles is empty: any AE title may store") in said


async def test_a_token_that_is_refused_is_an_error_with_the_place_to_mend(house: OpenHouse) -> None:
    async with house(BRIDGE_CARDIO__TOKEN="ZZCANARY") as it, page_of(it) as browser:
        await browser.post("/settings/check")
        page = (await browser.get("/settings")).text
        assert "the token is refused (401" in page
        assert "cardio.token_file" in page
        assert "ZZCANARY" not in page


async def test_no_secret_stands_on_the_page_wherever_it_was_given(house: OpenHouse, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("ZZCANARY1")
    secret = tmp_path / "hook.secret"
    secret.write_text("ZZCANARY2" * 8)
    hook = f'{{url = "https://127.0.0.1:1/ZZCANARY3", secret_file = "{secret}"}}'
    async with (
        house(
            BRIDGE_CARDIO__TOKEN="",
            BRIDGE_CARDIO__TOKEN_FILE=str(token),
            BRIDGE_CARDIO__PROXY="http://bridge:ZZCANARY4@127.0.0.1:1",
            BRIDGE_ALARMS__WEBHOOK=hook,
        ) as it,
        page_of(it) as browser,
    ):
        await browser.post("/settings/check")
        page = (await browser.get("/settings")).text
        key = (it.folder / "site.key").read_text()
    assert str(token) in page
    assert str(secret) in page
    assert "http://***@127.0.0.1:1" in page
    assert "ZZCANARY" not in page
    assert key not in page


async def test_every_key_says_who_said_it(house: OpenHouse) -> None:
    async with house() as it, page_of(it) as browser:
        page = (await browser.get("/settings")).text
    rows = re.findall(r"<tr><td[^>]*><code>([^<]*)</code></td><td[^>]*>([^<]*)</td><td[^>]*><span[^>]*>([^<]*)<", page)
    told = {key: (value, origin) for key, value, origin in rows}
    assert ("time_zone", "Europe/Berlin", "environment BRIDGE_SITE__TIME_ZONE") in rows
    assert ("upload_format", "wfdb", "default") in rows
    assert {*SiteSettings.model_fields, *StoreSettings.model_fields} <= told.keys()
