"""Composition root: every part built from Settings, run, and drained on SIGTERM."""

import asyncio
import contextlib
import functools
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog

from bridge import logs, notifying
from bridge.clock import Clock, SystemClock
from bridge.console.application import application
from bridge.console.connections import BoundedSocket, TimelyProtocol
from bridge.console.control import controlled
from bridge.console.desk import Desk
from bridge.console.metrics import Metrics
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.alarms.announcing import Announcing
from bridge.dispatch.alarms.channels import channels_for
from bridge.dispatch.alarms.looking import Looking
from bridge.dispatch.answers import Answers
from bridge.dispatch.at_once import AtOnce
from bridge.dispatch.deciding import Deciding
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.last_read import LastRead
from bridge.dispatch.objects import Objects
from bridge.dispatch.policy import Reason
from bridge.dispatch.reading import Reading
from bridge.dispatch.routing import check_routes
from bridge.dispatch.telling import Telling
from bridge.dispatch.watching import Watching
from bridge.errors import CannotListen, SettingsError
from bridge.mapping.in_force import rules_in_force
from bridge.receive.certificates import Certificates
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
from bridge.store import destinations, earlier, inbox, line, marks, quarantine
from bridge.store.ballast import Ballast
from bridge.store.durable import make_folder, write_whole
from bridge.store.payloads import Payloads
from bridge.store.port import Notice, Transaction
from bridge.store.sqlite import SqliteStore

log = structlog.get_logger()

SWITCH = 0.0005
"""Seconds that one thread may compute while another waits. An object passes a dozen system calls on its way to its
answer, and Python's own 5 ms would be waited for behind each of them while something else is being understood.
"""
ROOM = 5.0
"""Seconds between two looks whether there is room for the ballast again."""
DRAIN = 65.0
"""Seconds for POSTs in flight: their own deadline, and a little (F43)."""


@dataclass(slots=True)
class Running:
    """A bridge that is up: the addresses it took, and the store it works on.

    `quarantine` says why nothing is sent: the store may be an older copy of itself (F41). `to_do` says what a person
    has to do before anybody can sign in at the console.
    """

    store: SqliteStore
    quarantine: str = ""
    to_do: str = ""
    addresses: dict[str, str] = field(default_factory=dict)
    failed: asyncio.Event = field(default_factory=asyncio.Event)


def site_key(settings: Settings) -> bytes:
    """The secret behind the keys in searching_tags; made on first start, beside the store.

    Raises SettingsError where it cannot be read or made.
    """
    path = Path(settings.site.key_file) if settings.site.key_file else settings.store.sqlite_path.with_name("site.key")
    try:
        make_folder(path.parent)
        if not path.exists():
            write_whole(path, secrets.token_hex(32).encode("ascii"))
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as cause:
        raise SettingsError(f"site.key_file: {path} cannot be used: {cause}") from cause
    if len(key) < 16:
        raise SettingsError(f"site.key_file: {path} holds no key; remove the empty file and start again")
    return key


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is on the disk: the database, recordings, and the files beside them."""

    store: SqliteStore
    payloads: Payloads
    ballast: Ballast
    last_read: LastRead
    key: bytes


async def _open_store(stack: contextlib.AsyncExitStack, settings: Settings, clock: Clock) -> _Kept:
    """What an earlier run left is settled. Raises StoreRefused where it cannot be trusted to be ours and whole."""
    database = settings.store.sqlite_path
    ballast = Ballast(database.with_suffix(".ballast"), settings.store.ballast)
    payloads = Payloads(settings.store.payloads, min_free=settings.store.min_free, ballast=ballast)
    store = SqliteStore(database, settings.store.epoch_file)
    store.on_full = ballast.give
    store.open(asyncio.get_running_loop())
    stack.callback(store.close)
    last_read = LastRead(database.with_name("last-read"))
    stack.callback(last_read.close)
    stack.callback(store.close)  # before it: what is entered last is noted as well
    if await store.read(marks.is_empty):
        payloads.require_none(database)
    swept = payloads.open()
    key = site_key(settings)
    held = await store.write(lambda tx: quarantine.hold(tx, at=clock.now()))
    found = await store.write(lambda tx: line.recover(tx, at=clock.now(), keep_waiting=(Reason.RATE_LIMITED,)))
    old = bool(store.quarantine)
    swept += await store.read(lambda conn: payloads.sweep(lambda name: inbox.refers_to(conn, name), keep=old))
    log.info("store.opened", swept=swept, **found)
    if old:
        log.critical("store.in_quarantine", reason=store.quarantine, held=held)
    await asyncio.to_thread(ballast.make, settings.store.min_free)
    return _Kept(store, payloads, ballast, last_read, key)


@contextlib.asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Running]:
    """The whole service for as long as the context is open.

    Raises SettingsError, StoreRefused or CannotListen, each naming the setting, before anything is taken in.
    """
    clock = clock or SystemClock()
    loop = asyncio.get_running_loop()
    rules = rules_in_force(settings)
    check_routes(settings, rules)
    for one in settings.cardio.all().values():
        one.require_ready()
    channels = channels_for(settings, clock)
    feeds: dict[str, MllpServer] = {}
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, logs.SINK.drain)
        kept = await _open_store(stack, settings, clock)
        store, payloads, key = kept.store, kept.payloads, kept.key
        up = Running(store, store.quarantine)
        answers = Answers(settings.hl7, clock)
        goals = Destinations(settings.cardio, store, clock)
        stack.push_async_callback(goals.aclose)
        objects = Objects(payloads)
        door = DicomIntake(store, payloads, clock, settings.dicom)
        delivering = Delivering(
            store, payloads, objects, goals, Deciding(settings, key, clock), settings, clock, answers
        )
        way_out = cast("Delivering", _Shut()) if store.quarantine else delivering
        reading = Reading(store, payloads, objects, rules, settings, clock, answers, way_out, door.busy)
        replies = Replies()
        store.subscribe(replies.hear)  # before it is noted how the destinations are
        await store.write(functools.partial(_note_destinations, settings=settings, clock=clock, shut=up.quarantine))
        telling = Telling(store, settings.hl7, clock)
        store.subscribe(_waker(reading, delivering, telling))
        store.on_fatal = payloads.on_fatal = lambda: loop.call_soon_threadsafe(up.failed.set)
        commitment = Commitment(store, settings, clock) if settings.dicom.commitment.enabled else None
        watching = Watching(store, goals, clock)
        looking = Looking(
            store, payloads, settings, clock, lambda: {name: one.last_message_at for name, one in feeds.items()}
        )
        announcing = Announcing(store, settings, clock, key, channels)
        store.subscribe(announcing.hear)
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "ballast": lambda: _keep_ballast(kept.ballast, settings.store.min_free, clock),
            "alarms": looking.run,
            "announcing": announcing.run,
            "earlier": lambda: earlier.catch_up(store, clock),
        }
        if not store.quarantine:
            loops |= {"watching": watching.run, "telling": telling.run}
        if commitment is not None:
            loops["commitment"] = commitment.run
        loops["reading"] = reading.run
        if not store.quarantine:
            loops["delivering"] = delivering.run
        await _start_work(stack, loops, delivering, up)
        acting = Acting(store, answers, rules, settings, clock, lambda name, task: goals.client(name).task_status(task))
        entrance = AtOnce(rules, settings, clock, answers, way_out, kept.last_read)
        metrics = Metrics(store, payloads, clock)
        desk = Desk(store, payloads, settings, rules, answers, acting, metrics, clock, key, up.addresses)
        store.subscribe(desk.changes.hear)
        await stack.enter_async_context(controlled(desk))
        await _open_doors(stack, settings, replies, entrance, door, commitment, up, desk, feeds)
        yield up


def _waker(reading: Reading, delivering: Delivering, telling: Telling) -> Callable[[Sequence[Notice]], None]:
    def hear(notices: Sequence[Notice]) -> None:
        reading.hear(notices)
        delivering.hear(notices)
        if any(n.topic == "outbound" for n in notices):
            telling.wake.set()

    return hear


def _note_destinations(tx: Transaction, settings: Settings, clock: Clock, shut: str) -> None:
    """Taken to be up until a call says otherwise; in quarantine nobody should wait for an answer of theirs."""
    for name in settings.cardio.all():
        why = quarantine.REASON if shut else ""
        destinations.note(tx, name, down=bool(shut), at=clock.now(), reason=why)


class _Shut:
    """The way out in quarantine: there is no place for anything. What is understood waits in line (F41)."""

    @staticmethod
    def reserve(*_: Any, **__: Any) -> bool:
        return False


async def _keep_ballast(ballast: Ballast, min_free: int, clock: Clock) -> None:
    """What was given up on a full disk is made anew when there is room for it again."""
    while True:
        await clock.sleep(ROOM)
        if ballast.missing:
            await asyncio.to_thread(ballast.make, min_free)


async def _start_work(
    stack: contextlib.AsyncExitStack,
    loops: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
    delivering: Delivering,
    up: Running,
) -> None:
    """The loops behind the doors, ended in the other order; what is in flight comes to its outcome before the loops
    that write of it end. One that ends by itself is a fault: the service stops, and a start recovers.
    """

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("service.failed", part=task.get_name(), error=type(task.exception()).__name__)
            up.failed.set()

    async def end(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for name, loop in loops.items():
        if name == "delivering":
            stack.push_async_callback(delivering.drain, DRAIN)
        task = asyncio.create_task(loop(), name=name)
        task.add_done_callback(ended)
        stack.push_async_callback(end, task)


async def _open_doors(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    replies: Replies,
    entrance: AtOnce,
    door: DicomIntake,
    commitment: Commitment | None,
    up: Running,
    desk: Desk,
    feeds: dict[str, MllpServer],
) -> None:
    """The console first, the doors in last; closed in the other order, so that nothing comes in while we drain."""
    tls = Certificates(settings.console.tls, "console.tls").context if settings.console.tls else None
    pages = application(desk)
    up.to_do = await pages.state.reception.prepare()
    sock = open_socket(*host_port(settings.console.listen), setting="console.listen", kind=BoundedSocket)
    console = await stack.enter_async_context(serving(pages, sock, TimelyProtocol, tls))
    stack.callback(desk.changes.end)
    wanted = settings.dicom.worklist.enabled
    worklist = Worklist(up.store, settings, desk.clock, site_key=desk.key) if wanted else None
    dicom = DicomAcceptor(Services(settings.dicom, door, worklist, commitment), settings.dicom, up.store.on_fatal)
    up.addresses["dicom"] = dicom.start()
    stack.push_async_callback(asyncio.to_thread, dicom.stop)
    for name, listener in settings.hl7.all().items():
        intake = Hl7Intake(up.store, desk.payloads, replies, desk.clock, listener, entrance)
        mllp = feeds[name] = MllpServer(intake, listener, name=name, clock=desk.clock)
        up.addresses[name] = await mllp.start()
        stack.push_async_callback(mllp.stop)
    in_order = {"hl7": up.addresses["hl7"], **up.addresses, "console": console}
    up.addresses.clear()
    up.addresses.update(in_order)


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT; `say` gets one line an address, then `ready`.

    Raises CannotListen where the store failed underway: a start goes through the integrity check (A4).
    """
    sys.setswitchinterval(SWITCH)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with notifying.alive(), running(settings) as up:
        for name, address in up.addresses.items():
            say(f"{name} {address}")
        if up.to_do and sys.stderr.isatty():  # where lines of the log are read by a program, it has the same
            print(up.to_do, file=sys.stderr)  # noqa: T201  for whoever starts it by hand
        say("ready")
        await notifying.tell("READY=1", f"STATUS={_standing(up)}")
        waiting = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(up.failed.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        await notifying.tell("STOPPING=1", "STATUS=draining")
        if up.failed.is_set():
            raise CannotListen("the service stopped because a part of it failed; see the log, then start it again")
        log.info("service.draining")


def _standing(up: Running) -> str:
    """A line for who asks the service manager."""
    if up.quarantine:
        return "in quarantine: custody is taken, nothing is sent until `bridge db release`"
    return "ready: " + ", ".join(f"{name} {address}" for name, address in up.addresses.items())
