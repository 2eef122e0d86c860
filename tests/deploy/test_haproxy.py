"""The HAProxy example: its own check, and an order and an echo through it."""

import asyncio
import contextlib
import csv
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bridge.formats.hl7.charset import readable
from bridge.sandbox import dicom_sender, mllp_sender
from bridge.sandbox.peer import PeerError
from bridge.settings import host_port, load
from bridge.store import listing
from bridge.store.postgres_engine import reader_engine
from tests.acceptance.process import api, settings
from tests.acceptance.scene import order
from tests.acceptance.test_ecg_to_task import recording
from tests.deploy.containerfile import ROOT
from tests.deploy.processes import RUN, Process
from tests.ports import free_port
from tests.protocol.dicom_peer import until

__all__ = ["api"]
FILE = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
TEXT = FILE.read_text(encoding="utf-8")

Find = Callable[[str], str]


RECEIVERS = ("receive-1", "receive-2")


@pytest.mark.peer
def test_haproxy_takes_the_file(peer: Find, tmp_path: Path) -> None:
    """Names of receivers apart, which nobody knows here: those it asks for again while it runs."""

    def checked(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "haproxy.cfg"
        path.write_text(text)
        words = [peer("haproxy"), "-c", "-f", str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    known = re.sub(r"receive-\d:", "127.0.0.1:", TEXT)
    done = checked(known)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert checked(known.replace("timeout connect", "timeout conect")).returncode != 0
    done = checked(TEXT)
    assert done.returncode == 0
    lines = re.findall(r"WARNING.*", done.stderr)
    assert all("could not resolve address 'receive-" in line for line in lines), lines


def test_it_passes_bytes_on_and_waits_longer_than_the_bridge() -> None:
    plain = re.sub(r"#.*", "", TEXT)
    assert "send-proxy" not in plain
    assert re.findall(r"^\s*mode (\w+)", plain, re.MULTILINE) == ["tcp"]
    idle = load(None, {}).hl7.idle_timeout
    for name in ("client", "server"):
        (minutes,) = re.findall(rf"timeout {name} (\d+)m", plain)
        assert int(minutes) * 60 > idle


def test_every_receiver_has_its_two_lines_at_each_door() -> None:
    found = re.findall(r"^    server (\S+) (receive-\d):(\d+)( backup no-check)?$", TEXT, re.MULTILINE)
    ports = {"2575", "11112"}
    assert {(host, port) for _, host, port, spare in found if not spare} == {(h, p) for h in RECEIVERS for p in ports}
    assert {(host, port) for _, host, port, spare in found if spare} == {(h, p) for h in RECEIVERS for p in ports}


async def sent_when_it_is_up(port: int, text: str = order()) -> str:
    """The answer to an order; until then its sender sends again, as senders do."""
    async with asyncio.timeout(60):
        while True:
            try:
                return readable(await mllp_sender.send("127.0.0.1", port, text.encode()))
            except PeerError:
                await asyncio.sleep(0.1)


def pointed_at(receivers: list[Process], mllp: int, dicom: int) -> str:
    """The file with these receivers, and with ports of the test's own."""
    text = TEXT.replace("bind :2575", f"bind 127.0.0.1:{mllp}").replace("bind :11112", f"bind 127.0.0.1:{dicom}")
    text = text.replace(" resolvers system init-addr", " init-addr")
    for name, one in zip(RECEIVERS, receivers, strict=True):
        text = text.replace(f"{name}:2575", one.addresses["hl7"]).replace(f"{name}:11112", one.addresses["dicom"])
        port = one.addresses["console"].rpartition(":")[2]
        text = re.sub(rf"(    server {name} \S+)", rf"\1 port {port}", text)
    return text


@pytest.fixture
def group(tmp_path: Path, api: tuple[str, Path], database: sa.URL) -> Iterator[Callable[..., Process]]:
    """Makes processes of a bridge on one database."""
    (tmp_path / "site.key").write_text(secrets.token_hex(32))
    common = settings(tmp_path, api[0], BRIDGE_STORE__URL=database.render_as_string())
    common["BRIDGE_SITE__KEY_FILE"] = str(tmp_path / "site.key")
    made: list[Process] = []

    def start(name: str, *roles: str, **more: str) -> Process:
        words = [*RUN, "run", *(word for role in roles for word in ("--role", role))]
        own = {**common, "BRIDGE_STORE__FOLDER": str(tmp_path / name), **more}
        made.append(Process(words, own, tmp_path / f"{name}.log"))
        return made[-1]

    yield start
    for one in made:
        one.end(signal.SIGKILL)


@contextlib.asynccontextmanager
async def proxied(program: str, text: str, tmp_path: Path) -> AsyncIterator[None]:
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(program, "-db", "-f", path, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def rows(database: sa.URL) -> list[tuple[str, str]]:
    """Kind and state of every message."""
    engine = reader_engine(database)
    try:
        with engine.connect() as conn:
            return [(row.kind, row.state) for row in listing.rows(conn, limit=100)]
    finally:
        engine.dispose()


@pytest.mark.peer
@pytest.mark.timeout(400)
async def test_two_receivers_are_one_address_and_a_resend_is_absorbed_by_the_other(
    peer: Find, group: Callable[..., Process], database: sa.URL, tmp_path: Path
) -> None:
    """A receiver that ends is out of the way; what it took, and answered, is not taken twice by the other."""
    group("dispatch", "dispatch")
    receivers = [group(name, "receive") for name in RECEIVERS]
    mllp, dicom = free_port(), free_port()
    async with proxied(peer("haproxy"), pointed_at(receivers, mllp, dicom), tmp_path):
        first = await sent_when_it_is_up(mllp)
        assert "MSA|AA|" in first
        assert "task=" in first
        assert await asyncio.to_thread(dicom_sender.store, "127.0.0.1", dicom, [recording(tmp_path)]) == [0]
        for one in receivers:
            host, port = host_port(one.addresses["hl7"])
            assert readable(await mllp_sender.send(host, port, order().encode())) == first
        assert await asyncio.to_thread(receivers[0].end) == 0
        assert await sent_when_it_is_up(mllp) == first
        assert "MSA|AA|" in await sent_when_it_is_up(mllp, order("C2", "PL-2"))
    assert sorted(kind for kind, _ in await asyncio.to_thread(rows, database)) == ["dicom", "hl7", "hl7"]


def judged(door: int) -> dict[str, str]:
    """What HAProxy holds of each receiver of messages (its management guide, `show stat`)."""
    try:
        with socket.create_connection(("127.0.0.1", door), timeout=10) as sock, sock.makefile("rw") as file:
            file.write("show stat\n")
            file.flush()
            lines = csv.DictReader(file.read().removeprefix("# ").splitlines())
    except OSError:
        return {}
    found = {f"{line['pxname']}/{line['svname']}": line["status"] for line in lines}
    return {name: status for name, status in found.items() if name.startswith("mllp/receive-")}


@pytest.mark.peer
@pytest.mark.timeout(400)
async def test_where_none_is_ready_a_sender_is_told_so(
    peer: Find, group: Callable[..., Process], tmp_path: Path
) -> None:
    """Promise 5: an honest no rather than a closed socket."""
    receivers = [group(name, "receive", BRIDGE_STORE__MIN_FREE="1000000 GiB") for name in RECEIVERS]
    assert [one.asked("/readyz")[0] for one in receivers] == [503, 503]
    mllp, door = free_port(), free_port()
    asked = f"\nglobal\n    stats socket ipv4@127.0.0.1:{door}\n"
    text = pointed_at(receivers, mllp, free_port()).replace("\nglobal\n", asked)
    async with proxied(peer("haproxy"), text, tmp_path):
        down = {f"mllp/{name}": "DOWN" for name in RECEIVERS}
        await asyncio.to_thread(until, lambda: judged(door) == down, 60)
        assert "MSA|AR|" in await sent_when_it_is_up(mllp)
