"""The HAProxy example: its own check, and an order and an echo through it."""

import asyncio
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.formats.hl7.charset import readable
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.sandbox.peer import PeerError
from bridge.settings import load
from tests.acceptance.scene import OpenHouse, order
from tests.acceptance.test_ecg_to_task import recording
from tests.deploy.containerfile import ROOT
from tests.ports import free_port

FILE = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
TEXT = FILE.read_text(encoding="utf-8")

Find = Callable[[str], str]


@pytest.mark.peer
def test_haproxy_takes_the_file(peer: Find, tmp_path: Path) -> None:
    def checked(path: Path) -> subprocess.CompletedProcess[str]:
        words = [peer("haproxy"), "-c", "-f", str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    done = checked(FILE)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    wrong = tmp_path / "haproxy.cfg"
    wrong.write_text(TEXT.replace("timeout connect", "timeout conect"))
    assert checked(wrong).returncode != 0


def test_it_passes_bytes_on_and_waits_longer_than_the_bridge() -> None:
    plain = re.sub(r"#.*", "", TEXT)
    assert "send-proxy" not in plain
    assert re.findall(r"^\s*mode (\w+)", plain, re.MULTILINE) == ["tcp"]
    idle = load(None, {}).hl7.idle_timeout
    for name in ("client", "server"):
        (minutes,) = re.findall(rf"timeout {name} (\d+)m", plain)
        assert int(minutes) * 60 > idle


async def sent_when_it_is_up(port: int) -> str:
    """The answer to an order; until then its sender sends again, as senders do."""
    async with asyncio.timeout(60):
        while True:
            try:
                return readable(await mllp_sender.send("127.0.0.1", port, order().encode()))
            except PeerError:
                await asyncio.sleep(0.1)


@pytest.mark.peer
async def test_an_order_and_an_ecg_come_through_it(peer: Find, house: OpenHouse, tmp_path: Path) -> None:
    async with house() as it:
        mllp, dicom = free_port(), free_port()
        text = TEXT
        for ours, the_tests in (
            ("127.0.0.1:12575", it.up.addresses["hl7"]),
            ("127.0.0.1:21112", it.up.addresses["dicom"]),
            ("bind :2575", f"bind 127.0.0.1:{mllp}"),
            ("bind :11112", f"bind 127.0.0.1:{dicom}"),
        ):
            assert text.count(ours) == 1
            text = text.replace(ours, the_tests)
        path = tmp_path / "haproxy.cfg"
        path.write_text(text)
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(peer("haproxy"), "-db", "-f", path, stdout=quiet, stderr=quiet)
        try:
            assert "MSA|AA|" in await sent_when_it_is_up(mllp)
            assert await asyncio.to_thread(dicom_sender.store, "127.0.0.1", dicom, [recording(tmp_path)]) == [0]
            await it.settled(2)
        finally:
            process.terminate()
            await process.wait()
