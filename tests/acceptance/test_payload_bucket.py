"""The whole bridge with its recordings in a bucket: from a cart to a task, and while the service is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.store import payload_bucket
from tests.acceptance.console_browser import browsing
from tests.acceptance.scene import House, OpenHouse
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f29_same_uid import of_somebody_else
from tests.contract.payload_scenes import Between, Scene, between, dropped, refused, service

AWAY = [refused(503, "SlowDown")]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with service() as address:
        yield address


@pytest.fixture
def way(endpoint: str) -> Iterator[Between]:
    with between(endpoint) as made:
        yield made


@pytest.fixture
def bucket(way: Between, tmp_path: Path) -> Scene:
    return Scene("bucket", tmp_path, way.endpoint)


def environment(bucket: Scene) -> dict[str, str]:
    settings = bucket.settings
    return {
        "BRIDGE_STORE__PAYLOADS": str(settings.payloads),
        "BRIDGE_STORE__S3_ENDPOINT": settings.s3_endpoint,
        "BRIDGE_STORE__S3_KEY_FILE": str(settings.s3_key_file),
    }


def spooled(it: House) -> list[Path]:
    return [file for file in (it.folder / "payloads").rglob("*") if file.is_file()]


async def test_a_recording_in_a_bucket_becomes_its_task(house: OpenHouse, bucket: Scene, tmp_path: Path) -> None:
    async with house(**environment(bucket)) as it, browsing(it) as browser:
        assert await it.store(recording(tmp_path)) == 0
        (row,) = await it.settled(1)
        assert row.state == "CREATED"
        assert bucket.names() == [(await it.show(row.id))["payload"]]
        await browser.done("/messages/1/reveal")
        assert "<svg" in await browser.page("/messages/1/ecg")
        assert "PatientID" in await browser.page("/messages/1")
        assert spooled(it) == []
    async with house(**environment(bucket)) as it:
        assert await it.store(tmp_path / "a.dcm") == 0, "a resend"
        assert len(await it.messages()) == 1


async def test_f29_what_has_the_same_uid_is_compared_with_what_is_in_the_bucket(
    house: OpenHouse, bucket: Scene, tmp_path: Path
) -> None:
    again = recording(tmp_path).rename(tmp_path / "b.dcm")
    of_somebody_else(again)
    async with house(**environment(bucket)) as it:
        assert await it.store(recording(tmp_path)) == 0
        await it.settled(1)
        assert await it.store(again) == 0
        rows = await it.settled(2)
        assert [(r.state, r.reason) for r in rows] == [("CREATED", ""), ("HELD", "identity_update")]
        assert len(bucket.names()) == 2


async def test_a7_a_cart_is_told_to_come_again_while_the_service_takes_nothing(
    house: OpenHouse, bucket: Scene, way: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_bucket, "TRIES", 1)
    async with house(**environment(bucket)) as it:
        way.at("PUT", dropped)
        assert await it.store(recording(tmp_path)) == 0xA700
        assert (await it.messages(), bucket.names(), spooled(it)) == ([], [], [])
        assert await it.store(tmp_path / "a.dcm") == 0
        assert [r.state for r in await it.settled(1)] == ["CREATED"]


async def test_a_recording_waits_for_a_service_that_gives_nothing_back(
    house: OpenHouse, bucket: Scene, way: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_bucket, "TRIES", 1)
    async with house(**environment(bucket)) as it:
        way.at("GET", *AWAY * 2)
        assert await it.store(recording(tmp_path)) == 0
        assert [r.state for r in await it.settled(1)] == ["CREATED"]
        assert way.faults == []


async def test_the_console_says_that_the_service_is_away(
    house: OpenHouse, bucket: Scene, way: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_bucket, "TRIES", 1)
    async with house(**environment(bucket)) as it, browsing(it) as browser:
        assert await it.store(recording(tmp_path)) == 0
        await it.settled(1)
        await browser.done("/messages/1/reveal")
        way.at("GET", *AWAY * 20)
        said = "the payload store refused: 503 SlowDown"
        assert said in await browser.page("/messages/1")
        page = await browser.client.get("/messages/1/ecg")
        assert page.status_code == 503
        assert said in page.text
        way.faults.clear()
        assert "<svg" in await browser.page("/messages/1/ecg")
