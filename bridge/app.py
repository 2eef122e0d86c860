"""Composition root: every part built from Settings, run, and drained on SIGTERM."""

import asyncio
import contextlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from bridge.clock import Clock, SystemClock
from bridge.console.pages import application
from bridge.dispatch.answers import Answers
from bridge.dispatch.at_once import AtOnce
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.deciding import Deciding
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.last_read import LastRead
from bridge.dispatch.objects import Objects
from bridge.dispatch.policy import Reason
from bridge.dispatch.reading import Reading
from bridge.dispatch.telling import Telling
from bridge.errors import CannotListen, SettingsError
from bridge.mapping.in_force import rules_in_force
from bridge.receive.dicom.acceptor import DicomAcceptor
from bridge.receive.dicom.commitment import Commitment
from bridge.receive.dicom.intake import DicomIntake
from bridge.receive.dicom.operations import Services
from bridge.receive.dicom.worklist import Worklist
from bridge.receive.intake import Hl7Intake
from bridge.receive.mllp_server import MllpServer
from bridge.receive.replies import Replies
from bridge.serving import open_socket, serving
from bridge.settings import Settings, host_port
from bridge.store import destinations, inbox, line
from bridge.store.payloads import Payloads
from bridge.store.port import Notice
from bridge.store.sqlite import SqliteStore

log = structlog.get_logger()

SWITCH = 0.0005
"""Seconds that one thread may compute while another waits. An object passes a dozen system calls on its way to its
answer, and Python's own 5 ms would be waited for behind each of them while something else is being understood.
"""
DRAIN = 65.0
"""Seconds for POSTs in flight: their own deadline, and a little (F43)."""


@dataclass(slots=True)
class Running:
    """A bridge that is up: the addresses it took, and the store it works on."""

    store: SqliteStore
    addresses: dict[str, str] = field(default_factory=dict)
    failed: asyncio.Event = field(default_factory=asyncio.Event)


def site_key(settings: Settings) -> bytes:
    """The secret behind the keys in searching_tags; made on first start, beside the store.

    Raises SettingsError where it cannot be read or made.
    """
    path = Path(settings.site.key_file) if settings.site.key_file else settings.store.sqlite_path.with_name("site.key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32), encoding="ascii")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as cause:
        raise SettingsError(f"site.key_file: {path} cannot be used: {cause}") from cause
    if len(key) < 16:
        raise SettingsError(f"site.key_file: {path} holds no key; remove the empty file and start again")
    return key


@contextlib.asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Running]:
    """The whole service for as long as the context is open.

    Raises SettingsError, StoreRefused or CannotListen, each naming the setting, before anything is taken in.
    """
    clock = clock or SystemClock()
    loop = asyncio.get_running_loop()
    rules = rules_in_force(settings)
    settings.cardio.read_token()
    if not settings.cardio.organization_path:
        raise SettingsError("cardio.organization_path: the organization's unique path is needed")
    payloads = Payloads(settings.store.payloads, min_free=settings.store.min_free)
    store = SqliteStore(settings.store.sqlite_path)
    store.open(loop)
    async with contextlib.AsyncExitStack() as stack:
        last_read = LastRead(settings.store.sqlite_path.with_name("last-read"))
        stack.callback(last_read.close)  # behind the store: what is entered last is noted as well
        stack.callback(store.close)
        swept = payloads.open()
        key = site_key(settings)
        found = await store.write(lambda tx: line.recover(tx, at=clock.now(), keep_waiting=(Reason.RATE_LIMITED,)))
        swept += await store.read(lambda conn: payloads.sweep(lambda name: inbox.refers_to(conn, name)))
        log.info("store.opened", swept=swept, **found)
        answers = Answers(settings.hl7, clock)
        client = CardioClient(
            base_url=settings.cardio.base_url,
            organization_path=settings.cardio.organization_path,
            token=settings.cardio.read_token,
            chunk_size=settings.cardio.chunk_size,
            timeout=settings.cardio.timeout,
            ca_file=settings.cardio.ca_file,
            proxy=settings.cardio.proxy,
        )
        stack.push_async_callback(client.aclose)
        objects = Objects(payloads)
        door = DicomIntake(store, payloads, clock, settings.dicom)
        delivering = Delivering(
            store, payloads, objects, client, Deciding(settings, key, clock), settings, clock, answers
        )
        reading = Reading(store, payloads, objects, rules, settings, clock, answers, delivering, door.busy)
        replies = Replies()
        await store.write(lambda tx: destinations.note(tx, "cardio", down=False, at=clock.now()))
        store.subscribe(replies.hear)
        telling = Telling(store, settings.hl7, clock)
        store.subscribe(_waker(reading, delivering, telling))
        up = Running(store)
        store.on_fatal = payloads.on_fatal = lambda: loop.call_soon_threadsafe(up.failed.set)
        commitment = Commitment(store, settings, clock) if settings.dicom.commitment.enabled else None
        await _start_work(stack, reading, delivering, telling, commitment, up)
        entrance = AtOnce(rules, settings, clock, answers, delivering, last_read)
        await _open_doors(stack, settings, store, payloads, replies, clock, key, entrance, door, commitment, up)
        yield up


def _waker(reading: Reading, delivering: Delivering, telling: Telling) -> Callable[[Sequence[Notice]], None]:
    def hear(notices: Sequence[Notice]) -> None:
        topics = {n.topic for n in notices}
        reading.hear(notices)
        if "ready" in topics:
            delivering.wake.set()
        if "outbound" in topics:
            telling.wake.set()

    return hear


async def _start_work(
    stack: contextlib.AsyncExitStack,
    reading: Reading,
    delivering: Delivering,
    telling: Telling,
    commitment: Commitment | None,
    up: Running,
) -> None:
    """The loops behind the doors. One that ends by itself is a fault: the service stops, and a start recovers."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("service.failed", part=task.get_name(), error=type(task.exception()).__name__)
            up.failed.set()

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    tell = asyncio.create_task(telling.run(), name="telling")
    tell.add_done_callback(ended)
    stack.push_async_callback(end, tell)
    if commitment is not None:
        commit = asyncio.create_task(commitment.run(), name="commitment")
        commit.add_done_callback(ended)
        stack.push_async_callback(end, commit)
    read = asyncio.create_task(reading.run(), name="reading")
    read.add_done_callback(ended)
    stack.push_async_callback(end, read)
    stack.push_async_callback(delivering.drain, DRAIN)
    deliver = asyncio.create_task(delivering.run(), name="delivering")
    deliver.add_done_callback(ended)
    stack.push_async_callback(end, deliver)


async def _open_doors(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    store: SqliteStore,
    payloads: Payloads,
    replies: Replies,
    clock: Clock,
    key: bytes,
    entrance: AtOnce,
    door: DicomIntake,
    commitment: Commitment | None,
    up: Running,
) -> None:
    """The console first, the doors in last; closed in the other order, so that nothing comes in while we drain."""
    sock = open_socket(*host_port(settings.console.listen), setting="console.listen")
    console = await stack.enter_async_context(serving(application(store, payloads), sock))
    wanted = settings.dicom.worklist.enabled
    worklist = Worklist(store, settings, clock, site_key=key) if wanted else None
    dicom = DicomAcceptor(Services(settings.dicom, door, worklist, commitment), settings.dicom, store.on_fatal)
    up.addresses["dicom"] = dicom.start()
    stack.push_async_callback(asyncio.to_thread, dicom.stop)
    for name, listener in settings.hl7.all().items():
        intake = Hl7Intake(store, payloads, replies, clock, listener, entrance)
        mllp = MllpServer(intake, listener, name=name, clock=clock)
        up.addresses[name] = await mllp.start()
        stack.push_async_callback(mllp.stop)
    up.addresses = {"hl7": up.addresses.pop("hl7"), **up.addresses, "console": console}


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT; `say` gets one line an address, then `ready`.

    Raises CannotListen where the store failed underway: a start goes through the integrity check (A4).
    """
    sys.setswitchinterval(SWITCH)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as up:
        for name, address in up.addresses.items():
            say(f"{name} {address}")
        say("ready")
        waiting = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(up.failed.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        if up.failed.is_set():
            raise CannotListen("the service stopped because a part of it failed; see the log, then start it again")
        log.info("service.draining")
