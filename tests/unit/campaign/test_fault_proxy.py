"""The proxy of the campaigns: what it breaks is broken, and it counts what the bridge cannot know the outcome of."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.campaign.fault_proxy import Fault, FaultProxy, Plan

ASKED = b"POST /v3/orgs/hospital/tasks HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
TOLD = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\n[42]"
Opened = Callable[[Plan], FaultProxy]


@pytest.fixture
def proxy() -> Iterator[Opened]:
    """A proxy in front of an API that answers each connection once."""
    server = socket.create_server(("127.0.0.1", 0))
    proxies: list[FaultProxy] = []

    def answer() -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(10)
                try:
                    heard = b""
                    while len(heard) < len(ASKED) and (part := sock.recv(65536)):
                        heard += part
                    if len(heard) == len(ASKED):
                        sock.sendall(TOLD)
                except OSError:
                    pass

    api = threading.Thread(target=answer, daemon=True)
    api.start()

    def opened(plan: Plan) -> FaultProxy:
        made = FaultProxy(server.getsockname(), lambda: plan)
        proxies.append(made)
        made.start()
        return made

    yield opened
    for one in proxies:
        one.end()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    api.join(10)


def call(proxy: FaultProxy, asked: bytes = ASKED, seconds: float = 10) -> bytes:
    """What comes back; what was cut by an RST comes back as `reset`."""
    told = b""
    with socket.create_connection(proxy.address, timeout=seconds) as sock:
        try:
            sock.sendall(asked)
            while part := sock.recv(65536):
                told += part
        except TimeoutError:
            return told
        except ConnectionError:
            return b"reset"
    return told


def lost(proxy: FaultProxy) -> int:
    """Counted once every connection has come to its end."""
    proxy.end()
    return proxy.lost


@pytest.mark.parametrize("crumbs", [1, 7, 65536])
def test_what_is_not_to_be_broken_goes_through_whole(proxy: Opened, crumbs: int) -> None:
    through = proxy(Plan(crumbs=crumbs))
    assert call(through) == TOLD
    assert (through.connections, through.struck, lost(through)) == (1, 0, 0)


@pytest.mark.parametrize("after", [0, 1, 25, len(TOLD) - 1])
def test_an_answer_that_is_cut_is_lost(proxy: Opened, after: int) -> None:
    through = proxy(Plan(Fault.CLOSE, after=after))
    assert call(through) == TOLD[:after]
    assert (through.struck, lost(through)) == (1, 1)


def test_an_answer_that_came_through_before_the_cut_is_not_lost(proxy: Opened) -> None:
    through = proxy(Plan(Fault.RESET, after=len(TOLD)))
    assert call(through) == TOLD
    assert (through.struck, lost(through)) == (0, 0)


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET])
@pytest.mark.parametrize("after", [0, 40])
def test_a_request_that_is_cut_is_lost(proxy: Opened, fault: Fault, after: int) -> None:
    through = proxy(Plan(fault, upwards=True, after=after))
    assert call(through) in {b"", b"reset"}
    assert lost(through) == 1


def test_other_calls_are_no_tasks(proxy: Opened) -> None:
    through = proxy(Plan(Fault.CLOSE, upwards=True))
    call(through, b"POST /v3/uploads HTTP/1.1\r\n".ljust(len(ASKED)))
    assert (through.struck, lost(through)) == (1, 0)


@pytest.mark.parametrize("upwards", [True, False])
def test_a_stall_that_the_client_waits_out_loses_nothing(proxy: Opened, upwards: bool) -> None:
    through = proxy(Plan(Fault.STALL, upwards=upwards, after=10, seconds=0.05))
    assert call(through) == TOLD
    assert (through.struck, lost(through)) == (1, 0)


@pytest.mark.parametrize("upwards", [True, False])
def test_a_stall_that_the_client_leaves_loses_the_answer(proxy: Opened, upwards: bool) -> None:
    through = proxy(Plan(Fault.STALL, upwards=upwards, after=1, seconds=3600))
    assert call(through, seconds=0.2) in {b"", TOLD[:1]}
    assert lost(through) == 1
