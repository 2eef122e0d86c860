"""Carts that cost next to nothing: C-STORE by PDUs that were made before the clock starts."""

import socket
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.protocol.dicom_peer import EXPLICIT, RELEASE_RQ, TWELVE_LEAD, data_set_of, p_data, request, store_command

PDU = 131_072
"""Bytes of the PDUs that are sent, to every receiver alike."""


@dataclass(frozen=True)
class Load:
    """What was measured: objects/s, and seconds an object that the slowest percent took longer than."""

    rate: float
    p99: float


class Cart:
    """One connection. Raises ValueError for any answer but success."""

    def __init__(self, address: tuple[str, int], called: str, sop_class: str = TWELVE_LEAD) -> None:
        self._socket = socket.create_connection(address, timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request(called=called, contexts={sop_class: (EXPLICIT,)}, most=PDU))
        if self._pdu()[0] != 2:
            raise ValueError(f"{called} takes no association")

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self._socket.recv(count - len(found))
            if not part:
                raise ValueError("the receiver has gone")
            found += part
        return found

    def _pdu(self) -> bytes:
        head = self._exactly(6)
        return head + self._exactly(int.from_bytes(head[2:]))

    def store(self, pdus: Iterable[bytes]) -> None:
        """One object."""
        for pdu in pdus:
            self._socket.sendall(pdu)
        if struct.pack("<HHLH", 0, 0x0900, 2, 0) not in self._pdu():
            raise ValueError("an object was not taken")

    def release(self) -> None:
        self._socket.sendall(RELEASE_RQ)
        self._pdu()
        self._socket.close()


def wire(path: Path) -> bytes:
    """A whole C-STORE of a file, ready to be sent."""
    uid, data_set = data_set_of(path)
    room = PDU - 6
    cut = [data_set[n : n + room] for n in range(0, len(data_set), room)]
    pieces = [p_data(part, last=n == len(cut)) for n, part in enumerate(cut, 1)]
    return b"".join((p_data(store_command(uid), command=True), *pieces))


def send(address: tuple[str, int], called: str, objects: list[bytes], carts: int, *, each: bool) -> Load:
    """All of them, from so many carts at once; `each`: an association an object, as carts do."""
    took: list[float] = []

    def share(mine: list[bytes]) -> None:
        cart = None if each else Cart(address, called)
        for one in mine:
            began = time.perf_counter()
            now = cart or Cart(address, called)
            now.store((one,))
            if cart is None:
                now.release()
            took.append(time.perf_counter() - began)
        if cart is not None:
            cart.release()

    shares = [objects[n::carts] for n in range(carts)]
    began = time.perf_counter()
    with ThreadPoolExecutor(carts) as pool:
        list(pool.map(share, shares))
    rate = len(objects) / (time.perf_counter() - began)
    return Load(rate, sorted(took)[int(len(took) * 0.99)])


@dataclass(frozen=True)
class Holter:
    """An ambulatory ECG whose samples are made as they are sent: 12 channels, 1000 Hz, 16 bits."""

    uid: str
    head: bytes
    size: int  # of WaveformData
    block: bytes
    tail: bytes

    def pdus(self) -> Iterable[bytes]:
        yield p_data(store_command(self.uid, sop_class=AMBULATORY), command=True)
        yield p_data(self.head, last=False)
        left = self.size
        while left:
            piece = self.block[: min(left, len(self.block))]
            left -= len(piece)
            yield p_data(piece, last=False)
        yield p_data(self.tail)


AMBULATORY = "1.2.840.10008.5.1.4.1.1.9.1.3"


def send_holter(address: tuple[str, int], called: str, holter: Holter, watch: Callable[[], object]) -> float:
    """Seconds for the whole of it. `watch` is called now and then."""
    cart = Cart(address, called, AMBULATORY)

    def watched() -> Iterable[bytes]:
        for number, pdu in enumerate(holter.pdus()):
            if number % 256 == 0:
                watch()
            yield pdu

    began = time.perf_counter()
    cart.store(watched())
    seconds = time.perf_counter() - began
    cart.release()
    return seconds
