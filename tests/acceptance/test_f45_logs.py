"""F45: whatever becomes of the log's sink, whoever logs goes on; what is lost is counted and told."""

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.formats.hl7.charset import readable
from bridge.logs import Sink
from bridge.sandbox import mllp_sender
from tests.acceptance.process import api, settings
from tests.acceptance.scene import order
from tests.acceptance.test_f24_small_disk import fill, small
from tests.ports import free_port

__all__ = ["api", "small"]
PAGE = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """One that holds a page."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PAGE)
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # the test closed it
            os.close(end)


def lines_of(text: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line]


def line(number: int) -> str:
    return json.dumps({"event": "test.line", "number": number}) + "\n"


def test_f45_a_pipe_that_nobody_reads_blocks_nobody_and_the_loss_is_told(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = Sink(writing, most=100)
    count = 0
    while sink.drain(0.5) or sink.dropped < 1000:  # until the pipe is full, and then for the queue
        for _ in range(50):
            sink.write(line(count))
            count += 1
    got = bytearray()
    reader = threading.Thread(target=lambda: got.extend(_all(reading)))
    reader.start()
    assert sink.drain(30)
    sink.write(line(-1))
    assert sink.drain(30)
    os.close(writing)
    reader.join(30)
    found = lines_of(bytes(got))
    told = [entry for entry in found if entry["event"] == "log.dropped"]
    assert sum(int(str(entry["number"])) for entry in told) == sink.dropped
    assert len(found) - len(told) + sink.dropped == count + 1
    assert found[0]["number"] == 0
    assert found[-1]["number"] == -1


def _all(reading: int) -> bytes:
    parts = []
    while part := os.read(reading, 65536):
        parts.append(part)
    return b"".join(parts)


def test_f45_a_pipe_whose_reader_is_gone_is_counted(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    sink = Sink(writing)
    for number in range(50):
        sink.write(line(number))
    assert sink.drain(30)
    assert sink.dropped == 50


def test_f45_a_sink_that_is_closed_is_counted(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.close(fd)
    sink = Sink(fd)
    sink.write(line(1))
    assert sink.drain(30)
    assert sink.dropped == 1


def test_f45_a_file_without_room_is_counted_and_goes_on_when_there_is_room_again(small: Path) -> None:
    with (small / "log").open("wb") as log:
        filled = fill(small, leave=0)
        sink = Sink(log.fileno())
        for number in range(500):
            sink.write(line(number))
        assert sink.drain(30)
        assert sink.dropped >= 400
        filled.unlink()
        sink.write(line(-1))
        assert sink.drain(30)
    found = [entry for entry in (small / "log").read_bytes().splitlines() if entry.endswith(b"}")]
    told = json.loads(found[-2])
    assert (told["event"], told["number"]) == ("log.dropped", sink.dropped)
    assert json.loads(found[-1])["number"] == -1


def test_f45_a_child_of_a_fork_has_a_sink_of_its_own(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    command = (
        "import os, sys; from bridge.logs import Sink; sink = Sink(int(sys.argv[1]));"
        "sink.write('parent\\n'); sink.drain(30);"
        "pid = os.fork();\n"
        "if pid == 0:\n    sink.write('child\\n'); os._exit(0 if sink.drain(30) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command, str(writing)], pass_fds=[writing], timeout=60, check=False
    )
    assert ended.returncode == 0
    os.close(writing)
    assert _all(reading) == b"parent\nchild\n"


async def told(port: int, body: str) -> str:
    return readable(await mllp_sender.send("127.0.0.1", port, body.encode(), timeout=30))


@pytest.mark.parametrize("sink", ["nobody-reads", "reader-gone", "full"])
async def test_f45_intake_goes_on_whatever_becomes_of_the_log(
    tmp_path: Path, api: tuple[str, Path], sink: str, small: Path, pipe: tuple[int, int]
) -> None:
    """More is logged than the pipe holds, and every order gets its task."""
    reading, writing = pipe
    port = free_port()
    err = writing
    if sink == "reader-gone":
        os.close(reading)
    elif sink == "full":
        err = os.open(small / "log", os.O_WRONLY | os.O_CREAT)
        fill(small, leave=0)
    own = settings(tmp_path, api[0], BRIDGE_HL7__LISTEN=f"127.0.0.1:{port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from bridge.cli import main; main()", "run", "--log-level", "debug",
        env={**os.environ, **own}, stdout=asyncio.subprocess.PIPE, stderr=err,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        while (said := await asyncio.wait_for(process.stdout.readline(), 60)) != b"ready\n":
            assert said
        count = 60
        for number in range(count):
            body = order(f"C{number}", f"PL-{number}", patient=f"P{number}")
            assert "MSA|AA|" in await told(port, body)
            assert "MSA|AR|" in await told(port, body.replace("|P|2.3.1", "|T|2.3.1"))  # which leaves a line of log
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 90) == 0
        if sink == "full":
            os.close(err)
    if sink == "nobody-reads":
        assert len(os.read(reading, 1 << 20)) > PAGE - 500, "no further line went in"
    created = (api[1]).read_text().splitlines()
    assert len(created) == count
