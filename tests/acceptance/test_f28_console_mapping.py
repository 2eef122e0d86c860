"""What is made to cost, brought to the page of the dry run: told or refused within limits, and the service goes on."""

import asyncio
import io
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.console import brought
from bridge.rehearsal import apart
from bridge.settings import Settings
from tests.acceptance.scene import House, OpenHouse, order
from tests.acceptance.trying import page_of, told, tried

pytestmark = pytest.mark.timeout(400)  # each dry run starts an interpreter


def deflated() -> bytes:
    """A Part 10 file of a few hundred kilobytes that unpacks to 300 MB (PS3.5 A.5)."""
    syntax = b"1.2.840.10008.1.2.1.99\0"
    meta = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packing.compress(b"\x08\x00\x16\x00UI\x1c\x001.2.840.10008.5.1.4.1.1.9.1.1")
    for _ in range(300):
        body += packing.compress(bytes(10**6))
    return bytes(128) + b"DICM" + head + meta + body + packing.flush()


def nested() -> bytes:
    """Three hundred sequences in each other, none of which says its length."""
    inner = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff"
    return bytes(128) + b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00" + inner[8:] + inner * 3000


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(50 * 10**6))
    return made.getvalue()


async def test_f28_what_is_made_to_cost_is_told_within_the_limits_and_the_service_goes_on(house: OpenHouse) -> None:
    head = order().encode()
    hostile = [
        ("tildes.hl7", head + b"NTE|1||" + b"~" * 9_900_000 + b"\r"),
        ("segments.hl7", head + b"ZZZ\r" * 100_000),
        ("long.hl7", head + b"NTE|1||" + b"x" * 10_000_000 + b"\r"),
        ("deflated.dcm", deflated()),
        ("nested.dcm", nested()),
        ("zip.dcm", zipped()),
        ("zeros.dcm", bytes(1_000_000)),
        ("text.hl7", b"hello"),
    ]
    async with house() as it:
        shown = told(await tried(it, hostile))
        assert {one["file"]: one["state"] for one in shown} == dict.fromkeys((name for name, _ in hostile), "REJECTED")
        assert "MSA|AA|BEHIND|task=" in await it.hl7(order("BEHIND", "PL-BEHIND"))


async def test_f28_what_takes_more_than_its_limits_is_stopped_and_the_page_says_so(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with house() as it:
        with monkeypatch.context() as patch:
            patch.setattr(apart, "SECONDS", 0)
            answer = await tried(it, [], message=order(name="ZZCANARY^Max"))
            assert answer.status_code == 422
            assert "seconds of processor time" in answer.text
            assert "ZZCANARY" in answer.text  # it stands in the field again
        with monkeypatch.context() as patch:
            patch.setattr(apart, "LONGEST", 100)
            assert "`bridge map` shows it" in (await tried(it, [], message=order())).text
        hanging = tmp_path / "python"
        for program, words in (
            ("sleep 300", "came to no end"),
            ("false", "own rules failed"),
            ("sh -c 'exit 3'", "memory"),
        ):
            hanging.write_text(f"#!/bin/sh\nexec {program}\n")
            hanging.chmod(0o700)
            with monkeypatch.context() as patch:
                patch.setattr(apart, "PATIENCE", 1 if program.startswith("sleep") else 60)
                patch.setattr(apart.sys, "executable", str(hanging))
                answer = await tried(it, [], message=order())
                assert (answer.status_code, words in answer.text) == (422, True), program
        assert told(await tried(it, [], message=order()))[0]["state"] == "CREATED"


async def test_f28_memory_without_bounds_ends_the_trial_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large.hl7"
    large.write_bytes(order().encode() + b"NTE|1||" + b"x" * 9_000_000 + b"\r")
    with large.open("rb") as file:
        given = [apart.Given(file.fileno())]
        shown = await apart.rehearse(given, Settings(), listener="hl7", calling="")
        assert shown[0]["state"] == "CREATED"
        monkeypatch.setattr(apart, "MEMORY", 1 << 20)
        with pytest.raises(apart.Stopped, match="held for a person as poison"):
            await apart.rehearse(given, Settings(), listener="hl7", calling="")


async def endless(most: int, sent: list[int]) -> AsyncIterator[bytes]:
    """A form whose file does not end before `most` bytes."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.dcm"\r\n\r\n'
    for at in range(0, most, 2**20):
        sent.append(at)
        yield bytes(2**20)
    yield b"\r\n--b--\r\n"


async def test_more_than_a_page_takes_is_refused_by_a_page(house: OpenHouse) -> None:
    async with house() as it:
        answer = await tried(it, [("a.dcm", bytes(40 * 2**20)), ("b.dcm", bytes(25 * 2**20))])
        assert (answer.status_code, "more than 64 MiB" in answer.text) == (413, True)
        assert answer.headers["content-type"].startswith("text/html")
        answer = await tried(it, [], message="x" * (brought.TEXT + 1))
        assert (answer.status_code, "choose it as a file" in answer.text) == (413, True)
        answer = await tried(it, [(f"{n}.hl7", b"MSH|^~\\&|") for n in range(brought.MANY + 1)])
        assert answer.status_code == 400
        sent: list[int] = []
        boundary = {"content-type": "multipart/form-data; boundary=b"}
        async with page_of(it) as browser:
            answer = await browser.post("/mapping/try", content=endless(65 * 2**20, sent), headers=boundary)
            assert (answer.status_code, len(sent)) == (413, 65)
            for content, kind, status in (
                (b"message=x", "application/x-www-form-urlencoded", 415),
                (b"x", "multipart/form-data", 400),
                (b"x", "multipart/form-data; boundary=b", 400),
                (b"--b--\r\n", "multipart/form-data; boundary=b", 422),
            ):
                answer = await browser.post("/mapping/try", content=content, headers={"content-type": kind})
                assert answer.status_code == status, (content, kind, answer.text)


async def test_a_form_that_does_not_come_to_its_end_is_given_up(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brought, "PATIENCE", 0.3)
    async with house() as it:
        async with asyncio.timeout(60):
            assert b" 408 " in await first_line(it)
        assert told(await tried(it, [], message=order()))[0]["state"] == "CREATED"


async def first_line(it: House) -> bytes:
    """The status line that a client gets which says its head and no more."""
    host, _, port = it.up.addresses["console"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    at = f"{host}:{port}"
    writer.write(
        f"POST /mapping/try HTTP/1.1\r\nHost: {at}\r\nOrigin: http://{at}\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode()
    )
    line = await reader.readline()
    writer.close()
    return line
