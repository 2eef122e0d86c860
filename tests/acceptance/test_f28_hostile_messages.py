"""Messages that are made to cost: each is answered, and the process stays small (F28, failures.md §4)."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.scene import order
from tests.bench.processes import Process, Service, service

MB = 1_000_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`bridge run`, which has done a message already."""
    with service(tmp_path_factory.mktemp("hostile")) as it:
        assert b"MSA|AA|WARM|" in ask(it, order("WARM", "PL-WARM").encode())
        yield it
    for ended in (it.bridge.process, it.api.process):
        assert ended.stdout is not None
        ended.stdout.close()


def ask(it: Service, body: bytes) -> bytes:
    """The answer to one message, on a connection of its own."""
    with socket.create_connection(it.hl7, timeout=60) as line:
        line.sendall(b"\x0b" + body + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r") and (part := line.recv(65536)):
            answer += part
    return answer


def resident(process: Process, key: str) -> float:
    """A figure of the process in MB: VmRSS now, VmHWM since `forget_peak`."""
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


def forget_peak(process: Process) -> None:
    Path(f"/proc/{process.process.pid}/clear_refs").write_text("5", encoding="ascii")  # proc(5)


def adt(number: str, *more: bytes) -> bytes:
    head = f"MSH|^~\\&|HIS|TEST|CARDIO|BRIDGE|20260301||ADT^A08|{number}|P|2.5\rEVN|A08\r"
    return f"{head}PID|1||4711^^^TEST^MR||Muster^Max\r".encode() + b"".join(more)


HOSTILE = {
    "1 MB of ~": (adt("H1", b"NTE|1||", b"~" * MB, b"\r"), b"\rMSA|AR|H1|"),
    "1 MB of ~ in MSH": (adt("H2").replace(b"|P|2.5", b"|P|2.5|||||" + b"~" * MB), b"\rMSA|AR|H2|"),
    "a segment of 10 MB": (adt("H3", b"NTE|1||", b"x" * (10 * MB - 200), b"\r"), b"\rMSA|AA|H3\r"),
    "100,000 empty segments": (adt("H4", b"ZZZ\r" * 100_000), b"\rMSA|AR|H4|"),
    "100,000 blank lines": (adt("H5", b"\r" * 100_000), b"\rMSA|AA|H5\r"),
    "over the limit of a frame": (adt("H6", b"NTE|1||", b"x" * 10 * MB), b"\rMSA|AR||"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_f28_a_hostile_message_is_answered_and_64_mb_are_enough_for_it(running: Service, name: str) -> None:
    body, answer = HOSTILE[name]
    forget_peak(running.bridge)
    before = resident(running.bridge, "VmRSS")
    assert answer in ask(running, body)
    assert resident(running.bridge, "VmHWM") - before < 64
    assert b"\rMSA|AA|BEHIND|task=" in ask(running, order("BEHIND", "PL-BEHIND").encode())
