"""Word to the service manager, heard at a real datagram socket: a path, and a name of the abstract namespace (F43)."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from bridge import notifying
from tests.acceptance.process import Service, api, settings

__all__ = ["api"]


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(30)
        self.sock.bind(f"\0{name[1:]}" if name.startswith("@") else name)

    def heard(self) -> list[str]:
        """The lines of the next datagram."""
        return self.sock.recv(4096).decode().split("\n")

    def until(self, word: str) -> list[str]:
        """The datagram that holds that line; what comes before it is passed over."""
        while word not in (lines := self.heard()):
            pass
        return lines

    def rest(self) -> list[list[str]]:
        """What is there, without waiting."""
        self.sock.setblocking(False)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.heard())
        return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@bridge-test-{os.getpid()}-{tmp_path.name}"
    made = Manager(name)
    yield made
    made.sock.close()


async def test_what_is_told_comes_as_one_datagram(manager: Manager) -> None:
    await notifying.tell("READY=1", "STATUS=ready", environment={"NOTIFY_SOCKET": manager.name})
    assert manager.heard() == ["READY=1", "STATUS=ready"]


async def test_a_sign_of_life_comes_again_and_again_and_ends(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "30000"}
    async with notifying.alive(environment=environment):
        for _ in range(5):
            assert await asyncio.to_thread(manager.heard) == ["WATCHDOG=1"]
        assert "watchdog" in {task.get_name() for task in asyncio.all_tasks()}
    assert "watchdog" not in {task.get_name() for task in asyncio.all_tasks()}
    assert all(heard == ["WATCHDOG=1"] for heard in manager.rest())


@pytest.mark.parametrize(
    ("environment", "within"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
    ],
)
def test_the_watchdog_counts_where_it_is_meant_for_this_process(environment: dict[str, str], within: float) -> None:
    assert notifying.watchdog(environment) == within


async def test_a_manager_that_is_gone_is_logged_and_nothing_more(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as entries:
        await notifying.tell("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
        await notifying.tell("READY=1", environment={"NOTIFY_SOCKET": "vsock:2:1234"})
        await notifying.tell("READY=1", environment={})
    assert [(e["event"], e["error"]) for e in entries] == [("manager.not_told", "FileNotFoundError")]


async def test_a_manager_whose_queue_is_full_is_waited_for_and_then_left(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "_PATIENCE", 0.05)
    environment = {"NOTIFY_SOCKET": manager.name}
    with structlog.testing.capture_logs() as entries:
        while not entries:  # net.unix.max_dgram_qlen of them find room
            await notifying.tell("WATCHDOG=1", environment=environment)
    assert entries[0]["error"] == "TimeoutError"
    manager.heard()
    await notifying.tell("READY=1", environment=environment)
    assert manager.until("READY=1") == ["READY=1"]


@pytest.mark.timeout(240)
def test_f43_the_service_says_when_it_is_ready_and_when_it_stops(
    manager: Manager, tmp_path: Path, api: tuple[str, Path]
) -> None:
    more = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "3000000"}
    service = Service(settings(tmp_path, api[0], **more), tmp_path / "service.log")
    service.start()
    ready = manager.until("READY=1")
    assert ready[1].startswith("STATUS=ready: hl7 127.0.0.1:")
    assert manager.until("WATCHDOG=1") == ["WATCHDOG=1"]
    service.end(signal.SIGTERM)
    assert manager.until("STOPPING=1") == ["STOPPING=1", "STATUS=draining"]


@pytest.mark.timeout(240)
def test_a_service_that_cannot_start_never_says_that_it_is_ready(
    manager: Manager, tmp_path: Path, api: tuple[str, Path]
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    listen = f"127.0.0.1:{taken.getsockname()[1]}"
    more = {"NOTIFY_SOCKET": manager.name, "BRIDGE_DICOM__LISTEN": listen}
    service = Service(settings(tmp_path, api[0], **more), tmp_path / "service.log")
    with pytest.raises(pytest.fail.Exception, match="did not start"):
        service.start()
    service.end(signal.SIGKILL)
    taken.close()
    assert manager.rest() == []
