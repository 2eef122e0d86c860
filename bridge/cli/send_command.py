"""`bridge send`: plays a HIS (MLLP) or a cart (C-STORE), and prints what it was told."""

import asyncio
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

import click

from bridge.errors import BadInput, BridgeError

if TYPE_CHECKING:
    from bridge.sandbox import dicom_sender, peer

EXISTING = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one sending of one file came to. `full` is the whole answer, for `--answer`."""

    path: Path
    taken: bool
    answer: str
    milliseconds: float
    full: str = ""


class _Player(Protocol):
    """One connection of a pretended system, opened when it is first needed and again after a failure."""

    async def deliver(self, path: Path) -> tuple[bool, str, str]:
        """Whether it was taken, the answer in short, the answer in full. Raises BridgeError where none came."""

    async def leave(self) -> None:
        """End the connection."""


class _Hospital:
    """A HIS: HL7 over MLLP."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, timeout: float) -> None:
        from bridge.sandbox import mllp_sender

        self._wire, self._to, self._tls, self._timeout = mllp_sender, (host, port), tls, timeout
        self._open: mllp_sender.Connection | None = None

    async def deliver(self, path: Path) -> tuple[bool, str, str]:
        from bridge.formats.hl7.charset import readable

        if self._open is None:
            self._open = await self._wire.Connection.open(*self._to, tls=self._tls, timeout=self._timeout)
        body = await asyncio.to_thread(path.read_bytes)
        try:
            answer = await self._open.send(body)
        except BridgeError:
            self._open = None
            raise
        told = self._wire.answers(answer)
        short = "; ".join(f"{one.code}  {one.text}".strip() for one in told)
        return all(one.taken for one in told), short, readable(answer).replace("\r", "\n").rstrip()

    async def leave(self) -> None:
        if self._open is not None:
            await self._open.close()


class _Cart:
    """A cart: C-STORE. pynetdicom waits in threads, so each step goes to one."""

    def __init__(self, associate: Callable[[], "dicom_sender.CartAssociation"]) -> None:
        self._associate = associate
        self._open: dicom_sender.CartAssociation | None = None

    async def deliver(self, path: Path) -> tuple[bool, str, str]:
        if self._open is None:
            self._open = await asyncio.to_thread(self._associate)
        try:
            told = await asyncio.to_thread(self._open.store, path)
        except BridgeError:
            await self.leave()
            raise
        short = f"{told.status:04X}  {told.comment}".strip()
        return told.taken, short, short

    async def leave(self) -> None:
        if self._open is not None:
            await asyncio.to_thread(self._open.close)
            self._open = None


def _is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM file (PS3.10 §7.1) rather than an HL7 message. Raises BadInput if it is neither."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as cause:
        raise BadInput(f"{path}: cannot be read: {cause.strerror}. Name the files themselves.") from cause
    if start[128:] == b"DICM":
        return True
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:3] in {b"MSH", b"FHS", b"BHS"}:
        return False
    raise BadInput(
        f"{path}: neither an HL7 message (it would begin with MSH, FHS or BHS, without MLLP framing) "
        f"nor a DICOM file (DICM at byte 128)."
    )


async def _play(
    jobs: Iterable[Path], player: Callable[[], _Player], parallel: int, say: Callable[[_Told], None]
) -> None:
    """Send every job, in order where one connection does it; `say` hears each as it ends."""
    waiting = iter(jobs)

    async def one_connection() -> None:
        playing = player()
        try:
            for path in waiting:
                begun = time.perf_counter()
                try:
                    taken, answer, full = await playing.deliver(path)
                except BridgeError as problem:
                    taken, answer, full = False, f"no answer: {problem}", ""
                say(_Told(path, taken, answer, (time.perf_counter() - begun) * 1000, full))
        finally:
            await playing.leave()

    async with asyncio.TaskGroup() as together:
        for _ in range(parallel):
            together.create_task(one_connection())


class _Report:
    """Prints a line for a file as soon as all its sendings have ended."""

    def __init__(self, sendings: Counter[Path], *, whole_answers: bool) -> None:
        self._expected, self._whole = sendings, whole_answers
        self._told: dict[Path, list[_Told]] = {}
        self.all_taken = True

    def hear(self, one: _Told) -> None:
        self.all_taken &= one.taken
        told = self._told.setdefault(one.path, [])
        told.append(one)
        if len(told) < self._expected[one.path]:
            return
        click.echo(self._line(told))
        if self._whole:
            for full in dict.fromkeys(each.full for each in told if each.full):
                click.echo(full + "\n")

    @staticmethod
    def _line(told: Sequence[_Told]) -> str:
        """The file, the answers it got and how long they took."""
        counted = Counter(one.answer for one in told)
        heard = " | ".join(what if number == 1 else f"{what} x{number}" for what, number in counted.items())
        times = [one.milliseconds for one in told]
        if len(times) == 1:
            return f"{told[0].path}  {heard}  {times[0]:.0f} ms"
        return f"{told[0].path}  {heard}  median {median(times):.0f} ms, longest {max(times):.0f} ms"


def _cart(
    address: "peer.Address",
    files: Sequence[Path],
    tls: ssl.SSLContext | None,
    timeout: float,
    titles: tuple[str, str],
) -> _Player:
    """A cart that proposes the classes of all these files."""
    from bridge.sandbox.dicom_sender import CartAssociation

    calling, called = titles
    return _Cart(
        partial(
            CartAssociation,
            address.host,
            address.port,
            files,
            calling=calling,
            called=called,
            tls=tls,
            timeout=timeout,
        )
    )


@click.command("send", short_help="play a HIS or a cart")
@click.argument("files", nargs=-1, required=True, type=EXISTING)
@click.option("--to", "to", required=True, metavar="HOST:PORT", help="The listener, such as 127.0.0.1:2575.")
@click.option("--tls", is_flag=True, help="Speak TLS, and verify the listener by the machine's trust store.")
@click.option("--tls-ca", type=EXISTING, help="Verify the listener by these certificates (PEM); means --tls.")
@click.option("--tls-cert", type=EXISTING, help="Show this certificate (PEM); means --tls.")
@click.option("--tls-key", type=EXISTING, help="Its key (PEM), where it is not in the same file.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Send each file N times.")
@click.option("--parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Connections.")
@click.option("--calling", default="TESTCART", show_default=True, help="Our AE title (DICOM).")
@click.option("--called", default="CARDIOBRIDGE", show_default=True, help="The listener's AE title (DICOM).")
@click.option("--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds a step.")
@click.option("--answer", is_flag=True, help="Print whole answers, a segment a line.")
def command(
    files: tuple[Path, ...],
    to: str,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    repeat: int,
    parallel: int,
    calling: str,
    called: str,
    timeout: float,
    answer: bool,
) -> None:
    """Send HL7 messages as a HIS does, or DICOM ECGs as a cart does, byte for byte as they are in the files.

    What a file is, its content tells. A line a file: its name, the answer (MSA-1 and MSA-3, or the DICOM status),
    the time it took. With --repeat the same bytes are sent again, as a sender does that heard no answer.
    Exit status 1 if any was refused, or got no answer.
    """
    from bridge.sandbox.peer import Address, client_tls

    address = Address.parse(to)
    kinds = {_is_dicom(path) for path in files}
    if len(kinds) > 1:
        raise click.UsageError("HL7 messages and DICOM files go to different ports: send them with two commands.")
    context = None
    if tls or tls_ca or tls_cert or tls_key:
        context = client_tls(authority=tls_ca, certificate=tls_cert, key=tls_key)
    player = (
        partial(_cart, address, files, context, timeout, (calling, called))
        if kinds == {True}
        else partial(_Hospital, address.host, address.port, context, timeout)
    )
    jobs = [path for path in files for _ in range(repeat)]
    report = _Report(Counter(jobs), whole_answers=answer)
    asyncio.run(_play(jobs, player, parallel, report.hear))
    if not report.all_taken:
        sys.exit(1)
