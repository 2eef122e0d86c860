"""Alarms from end to end: what is wrong begins, is told, is shown, and is over."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.dispatch.alarms import looking
from bridge.dispatch.alarms.looking import Looking
from bridge.sandbox.cardio_api import Sandbox
from bridge.serving import open_socket, serving
from bridge.settings import host_port
from bridge.store import alarms, audit
from bridge.store.alarms import Alarm
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.acceptance.test_f29_same_uid import with_one_sample_changed
from tests.acceptance.virtual_clock import VirtualClock
from tests.authority import Authority
from tests.protocol.hook import hook, mail_server

QUICK = {"BRIDGE_HL7__REPLY_BUDGET": "0.1", "BRIDGE_CARDIO__PROCESSED_WITHIN": "0", "BRIDGE_ALARMS__DISK_ROOM": "0 B"}


class Looks:
    """How often the bridge has looked."""

    done = 0


@pytest.fixture(autouse=True)
def _looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are counted, and come after 15 s however slow the machine is."""
    real = Looking.look

    async def look(self: Looking) -> None:
        try:
            await real(self)
        finally:
            Looks.done += 1

    monkeypatch.setattr(Looking, "look", look)
    monkeypatch.setattr(looking, "_SHARE", 0)


async def one_look(clock: VirtualClock) -> None:
    """Fifteen seconds pass, and the bridge has looked."""
    before = Looks.done
    clock.jump(15)
    async with asyncio.timeout(30):
        while Looks.done == before:  # noqa: ASYNC110  the look is no event of the test's
            await asyncio.sleep(0.01)


async def passing(clock: VirtualClock, there: Any, *, most: float = 3600) -> None:
    """Let time go on until it is so, a look at a time."""
    end = clock.monotonic() + most
    while not await there():
        assert clock.monotonic() < end, "it never came to it"
        await one_look(clock)


async def on_now(it: House) -> list[Alarm]:
    return await it.up.store.read(alarms.on_now)


def is_on(it: House, rule: str, *, wanted: bool = True) -> Any:
    async def there() -> bool:
        return any(one.rule == rule for one in await on_now(it)) is wanted

    return there


async def page(it: House, path: str, method: str = "GET") -> tuple[str, str]:
    """Head and body of a page of the console's."""
    address = it.up.addresses["console"]
    reader, writer = await asyncio.open_connection(*host_port(address))
    more = f"Origin: http://{address}\r\nContent-Length: 0\r\n" if method == "POST" else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\n{more}Connection: close\r\n\r\n"
    writer.write(head.encode())
    answer, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return answer, body


async def test_f15_a_destination_that_refuses_the_token_is_told_shown_and_over(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with hook() as told:
        own = {"BRIDGE_ALARMS__WEBHOOK": f'{{url = "{told.address}"}}', "BRIDGE_CONSOLE__SIGN_IN": "false"}
        async with house(clock=clock, **QUICK, **own, BRIDGE_ALARMS__WELL_FOR="60") as it:
            it.sandbox.faults.add("401", on="tasks")
            await it.hl7(order())
            await passing(clock, is_on(it, "destination_down"))
            await told.until(1)
            assert told.told[0] == ("destination_down", "cardio", "on")
            assert told.posts[0].events[0]["counts"]["reason"] == "token_refused"
            head, body = await page(it, "/alarms")
            assert "200 OK" in head
            assert "cardio is not sent to since" in body
            assert "put a valid token into" in body
            assert "webhook on: sent" in body
            _, part = await page(it, "/alarms/now")
            assert "A destination is down" in part
            assert "<html" not in part
            it.sandbox.faults.clear()
            await passing(clock, is_on(it, "destination_down", wanted=False))
            over = ("destination_down", "cardio", "over")
            async with asyncio.timeout(20):
                while over not in told.told:  # noqa: ASYNC110  the hook's list is no event
                    await asyncio.sleep(0.02)
            assert told.told.count(over) == told.told.count(("destination_down", "cardio", "on")) == 1
            assert "Nothing is known to be wrong." in (await page(it, "/alarms/now"))[1]


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(house: OpenHouse) -> None:
    clock = VirtualClock()
    sandbox = Sandbox(token="test-token", organization="test-hospital", first_task_id=4711)
    sock = open_socket("127.0.0.1", 0, setting="sandbox")
    async with serving(sandbox.application(), sock) as api, hook() as told:
        own = {
            **QUICK,
            "BRIDGE_ALARMS__WEBHOOK": f'{{url = "{told.address}"}}',
            "BRIDGE_ALARMS__WELL_FOR": "60",
        }
        async with house(sandbox, f"http://{api}", clock, **own) as it:
            sandbox.faults.add("lost_answer", on="tasks", times=1)
            await it.hl7(order())
            await it.settled(1)
            await passing(clock, is_on(it, "in_doubt"))
            await told.until(1)
        began = told.told.count(("in_doubt", "1", "on"))
        async with house(sandbox, f"http://{api}", clock, **own) as it:
            for _ in range(20):
                await one_look(clock)
            (one,) = [a for a in await on_now(it) if a.rule == "in_doubt"]
            assert one.subject == "1"
            assert told.told.count(("in_doubt", "1", "on")) == began == 1


async def test_a_feed_that_falls_silent_is_heard_again_and_a_start_is_no_sign_of_it(house: OpenHouse) -> None:
    clock = VirtualClock()
    own = {
        **QUICK,
        "BRIDGE_HL7__SILENCE_ALARM": "600",
        "BRIDGE_ALARMS__SILENCE": '{"HIS|TEST" = 900, "HIS|NEVER" = 60}',
        "BRIDGE_ALARMS__WELL_FOR": "30",
    }

    async def silent(it: House) -> list[str]:
        return [one.subject for one in await on_now(it) if one.rule == "feed_silent"]

    async with house(clock=clock, **own) as it:
        await it.hl7(order())

        async def both() -> bool:
            return sorted(await silent(it)) == ["HIS|TEST", "hl7"]

        await passing(clock, both)
    async with house(clock=clock, **own) as it:
        for _ in range(10):
            await one_look(clock)
        assert await both()
        await it.hl7(order("C2", "PL-2"))

        async def none() -> bool:
            return await silent(it) == []

        await passing(clock, none, most=500)


async def test_a_resend_is_a_sign_of_life_too(house: OpenHouse) -> None:
    """It makes no row, since it finds its own."""
    clock = VirtualClock()
    async with house(clock=clock, **QUICK, BRIDGE_HL7__SILENCE_ALARM="600") as it:
        await it.hl7(order())
        for _ in range(8):
            clock.jump(185)
            await it.hl7(order())
            await one_look(clock)
        assert not await is_on(it, "feed_silent")()


async def test_f17_f31_what_the_api_refuses_and_a_number_used_twice_are_alarms(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **QUICK) as it:
        it.sandbox.faults.add("400", on="tasks", times=1)
        await it.hl7(order("C1", "PL-1"))
        await it.hl7(order("C1", "PL-2", patient="4712"))
        await it.settled(2)
        await passing(clock, is_on(it, "rejected"))
        await passing(clock, is_on(it, "control_id_reuse"))
        found = {one.rule: one for one in await on_now(it)}
        assert found["rejected"].subject == "api_refused"
        assert (found["control_id_reuse"].subject, found["control_id_reuse"].detail["number"]) == ("hl7", 1)
        await passing(clock, is_on(it, "rejected", wanted=False), most=5000)


async def test_f29_what_is_held_for_a_conflict_is_an_alarm_at_once(house: OpenHouse, tmp_path: Path) -> None:
    clock = VirtualClock()
    async with house(clock=clock, **QUICK) as it:
        path = recording(tmp_path)
        await it.store(path)
        await it.settled(1)
        with_one_sample_changed(path)
        await it.store(path)
        await it.settled(2)
        await passing(clock, is_on(it, "held"), most=60)
        assert [(one.rule, one.subject) for one in await on_now(it)] == [("held", "uid_conflict")]


async def test_a_channel_that_refuses_is_told_by_the_other_and_shown(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with hook(lambda _: "404 Not Found") as broken, mail_server() as mails:
        own = {
            "BRIDGE_ALARMS__WEBHOOK": f'{{url = "{broken.address}"}}',
            "BRIDGE_ALARMS__MAIL": (
                f'{{host = "127.0.0.1", port = {mails.port}, security = "none", sender = "b@klinik.example", '
                'to = ["a@klinik.example"]}'
            ),
            "BRIDGE_CONSOLE__SIGN_IN": "false",
        }
        async with house(clock=clock, **QUICK, **own) as it:
            it.sandbox.faults.add("401", on="tasks")
            await it.hl7(order())
            await passing(clock, is_on(it, "not_told"))
            await mails.until(2)
            subjects = [mail["Subject"] for mail in mails.mails]
            assert "[Cardio bridge] A destination is down (cardio)" in subjects
            assert any("Alarms do not reach anybody (webhook)" in one or "begun" in one for one in subjects)
            assert "not_told" not in {rule for rule, _, _ in broken.told}
            body = (await page(it, "/alarms"))[1]
            assert "webhook on: dropped" in body
            assert "http_404" in body


async def test_the_button_sends_a_test_to_each_channel_and_is_audited(house: OpenHouse) -> None:
    async with hook() as told:
        own = {"BRIDGE_ALARMS__WEBHOOK": f'{{url = "{told.address}"}}', "BRIDGE_CONSOLE__SIGN_IN": "false"}
        async with house(**QUICK, **own) as it:
            head, _ = await page(it, "/alarms/test", "POST")
            assert head.startswith("HTTP/1.1 303")
            await told.until(1)
            assert [(rule, edge) for rule, _, edge in told.told] == [("test", "on")]
            assert await on_now(it) == []
            (act,) = await it.up.store.read(lambda conn: list(audit.acts(conn)))
            assert (act.action, act.detail) == ("test_alarm", {"channels": ["webhook"]})


async def test_a_muted_rule_is_shown_and_told_to_nobody(house: OpenHouse) -> None:
    clock = VirtualClock()
    async with hook() as told:
        own = {"BRIDGE_ALARMS__WEBHOOK": f'{{url = "{told.address}"}}', "BRIDGE_ALARMS__MUTE": '["destination_down"]'}
        async with house(clock=clock, **QUICK, **own) as it:
            it.sandbox.faults.add("401", on="tasks")
            await it.hl7(order())
            await passing(clock, is_on(it, "destination_down"))
            await passing(clock, is_on(it, "queue_old"))
            await told.until(1)
            assert {rule for rule, _, _ in told.told} == {"queue_old"}


async def test_a_certificate_near_its_end_is_an_alarm_and_a_new_one_ends_it(house: OpenHouse, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)  # what it signs is good for two days
    certificate, key = authority.sign("bridge")
    clock = VirtualClock()
    own = {
        **QUICK,
        "BRIDGE_HL7__TLS": f'{{certificate = "{certificate}", key = "{key}"}}',
        "BRIDGE_ALARMS__CERTIFICATE_DAYS": "[3, 1]",
        "BRIDGE_ALARMS__WELL_FOR": "30",
    }
    async with house(clock=clock, **own) as it:
        await passing(clock, is_on(it, "certificate"))
        assert [one.subject for one in await on_now(it)] == ["hl7.tls, 3 days"]
        clock.jump(timedelta(days=1.1).total_seconds())

        async def second() -> bool:
            return {one.subject for one in await on_now(it)} == {"hl7.tls, 3 days", "hl7.tls, 1 day"}

        await passing(clock, second)
        certificate.write_text("no certificate")

        async def unreadable() -> bool:
            return "hl7.tls, not readable" in {one.subject for one in await on_now(it)}

        await passing(clock, unreadable)


async def test_no_patient_is_in_what_is_told_shown_or_logged(house: OpenHouse) -> None:
    clock = VirtualClock()
    with structlog.testing.capture_logs() as logs:
        async with hook() as told, mail_server() as mails:
            own = {
                "BRIDGE_ALARMS__WEBHOOK": f'{{url = "{told.address}"}}',
                "BRIDGE_ALARMS__MAIL": (
                    f'{{host = "127.0.0.1", port = {mails.port}, security = "none", sender = "b@klinik.example", '
                    'to = ["a@klinik.example"]}'
                ),
                "BRIDGE_ALARMS__REJECTED_NUMBER": "1",
                "BRIDGE_ALARMS__HELD_NUMBER": "1",
                "BRIDGE_CONSOLE__SIGN_IN": "false",
            }
            async with house(clock=clock, **QUICK, **own) as it:
                for number, fault in enumerate(("400", "lost_answer", "401")):
                    it.sandbox.faults.add(fault, on="tasks", times=None if fault == "401" else 1)
                    canary = {"patient": f"CANARY{number}", "name": f"Canary^Can{number}"}
                    text = order("CANARY-C1", f"CANARY-PL{number}", **canary)
                    await it.hl7(text.replace("|HIS|TEST|", "|CANARYAPP|CANARYFAC|"))
                await it.hl7("MSH|^~\\&|CANARYAPP|CANARYFAC|||20260301||ORM^O01|CANARY-C9|P|2.5\rPID|1||CANARY\r")
                for rule in ("rejected", "in_doubt", "destination_down", "queue_old", "control_id_reuse"):
                    await passing(clock, is_on(it, rule))
                await until(lambda: _all_told(it), clock)
                shown = (await page(it, "/alarms"))[1] + (await page(it, "/alarms/now"))[1]
                stored = str(await it.up.store.read(alarms.history))
    sent = str([json.loads(post.body) for post in told.posts]) + str([post.head for post in told.posts])
    said = sent + str([mail.as_string() for mail in mails.mails]) + shown + stored + repr(logs)
    assert len(told.posts) > 0
    assert len(mails.mails) > 0
    assert "canary" not in said.lower()


async def until(there: Any, clock: VirtualClock) -> None:
    """Time goes on until it is so, whether the bridge looks or not."""
    async with asyncio.timeout(60):
        while not await there():
            clock.jump(5)
            await asyncio.sleep(0.05)


async def _all_told(it: House) -> bool:
    found = await it.up.store.read(alarms.history)
    told = await it.up.store.read(lambda conn: alarms.told(conn, [one.id for one in found]))
    return all(notice.state == "SENT" for notices in told.values() for notice in notices)
