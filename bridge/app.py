"""Composition root: every part built from Settings, run, and drained on SIGTERM."""

import asyncio
import contextlib
import functools
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import structlog

from bridge import logs, notifying
from bridge.clock import Clock, SystemClock
from bridge.console.application import application, health_alone
from bridge.console.connections import BoundedSocket, TimelyProtocol
from bridge.console.control import controlled
from bridge.console.desk import Desk
from bridge.console.metrics import Metrics
from bridge.dispatch.acts.acting import Acting
from bridge.dispatch.alarms.announcing import Announcing, Channel
from bridge.dispatch.alarms.channels import channels_for
from bridge.dispatch.alarms.looking import Looking
from bridge.dispatch.answers import Answers
from bridge.dispatch.at_once import AtOnce
from bridge.dispatch.deciding import Deciding
from bridge.dispatch.delivering import Delivering
from bridge.dispatch.destinations import Destinations
from bridge.dispatch.objects import Objects
from bridge.dispatch.reading import Reading
from bridge.dispatch.routing import check_routes
from bridge.dispatch.telling import Telling
from bridge.dispatch.watching import Watching
from bridge.errors import CannotListen, SettingsError
from bridge.mapping.in_force import rules_in_force
from bridge.mapping.rules import Rules
from bridge.opening import Kept, open_store
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
from bridge.store import destinations, earlier, quarantine, workers
from bridge.store.ballast import Ballast
from bridge.store.engines import AnyStore
from bridge.store.port import Notice, Transaction

log = structlog.get_logger()

SWITCH = 0.0005
"""Seconds that one thread may compute while another waits. An object passes a dozen system calls on its way to its
answer, and Python's own 5 ms would be waited for behind each of them while something else is being understood.
"""
ROOM = 5.0
"""Seconds between two looks whether there is room for the ballast again."""
DRAIN = 65.0
"""Seconds for POSTs in flight: their own deadline, and a little (F43)."""
ROLES = frozenset(workers.ROLES)
"""The whole of it."""
Loop = Callable[[], Coroutine[Any, Any, None]]


def require_roles(settings: Settings, roles: Collection[str]) -> None:
    """Raises SettingsError where a part alone cannot work."""
    if settings.store.is_sqlite and set(roles) != ROLES:
        raise SettingsError(
            "--role: a store on SQLite is one process's, which is every part. Parts of their own need store.url on "
            "PostgreSQL"
        )


@dataclass(slots=True)
class Running:
    """A bridge that is up: the addresses it took, and the store it works on.

    `quarantine` says why nothing is sent: the store may be an older copy of itself (F41). `to_do` says what a person
    has to do before anybody can sign in at the console.
    """

    store: AnyStore
    quarantine: str = ""
    to_do: str = ""
    addresses: dict[str, str] = field(default_factory=dict)
    failed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Behind:
    """What works behind the doors, and what the doors reach of it."""

    goals: Destinations
    delivering: Delivering
    way_out: Delivering
    reading: Reading
    telling: Telling
    watching: Watching
    looking: Looking
    announcing: Announcing
    commitment: Commitment | None

    def loops(
        self, kept: Kept, settings: Settings, clock: Clock, roles: Collection[str], *, sends: bool
    ) -> dict[str, Loop]:
        """What runs in this process, in the order of the starts."""
        store = kept.store
        loops: dict[str, Loop] = {"ballast": lambda: _keep_ballast(kept.ballast, settings.store.min_free, clock)}
        if store.crew is not None:
            loops["crew"] = store.crew.run
        duties: dict[str, Loop] = {}
        if "dispatch" in roles:
            duties = {
                "alarms": self.looking.run,
                "announcing": self.announcing.run,
                "earlier": lambda: earlier.catch_up(store, clock),
            }
        if sends:
            duties |= {"watching": self.watching.run, "telling": self.telling.run}
        if "receive" in roles and self.commitment is not None:
            duties["commitment"] = self.commitment.run
        if "dispatch" in roles:
            duties["reading"] = self.reading.run
        loops |= {name: functools.partial(_on_duty, store, name, run) for name, run in duties.items()}
        if sends:
            loops["delivering"] = self.delivering.run
        return loops


@contextlib.asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, roles: Collection[str] = ROLES
) -> AsyncIterator[Running]:
    """The service, or the parts of it that `roles` name, for as long as the context is open.

    Raises SettingsError, StoreRefused or CannotListen, each naming the setting, before anything is taken in.
    """
    clock = clock or SystemClock()
    loop = asyncio.get_running_loop()
    require_roles(settings, roles)
    rules = rules_in_force(settings)
    check_routes(settings, rules)
    if set(roles) != {"receive"}:
        for one in settings.cardio.all().values():
            one.require_ready()
    channels = channels_for(settings, clock)
    feeds: dict[str, MllpServer] = {}
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, logs.SINK.drain)
        kept = await open_store(stack, settings, clock, roles)
        store = kept.store
        up = Running(store, store.quarantine)
        sends = "dispatch" in roles and not store.quarantine  # in quarantine nothing is sent (F41)
        answers = Answers(settings.hl7, clock)
        door = DicomIntake(store, kept.payloads, clock, settings.dicom)
        behind = _behind_the_doors(kept, settings, rules, clock, answers, door, channels, feeds, sends=sends)
        stack.push_async_callback(behind.goals.aclose)
        replies = Replies()
        store.subscribe(replies.hear)  # before it is noted how the destinations are
        if "dispatch" in roles:
            await store.write(functools.partial(_note_destinations, settings=settings, clock=clock, shut=up.quarantine))
        store.subscribe(_waker(behind.reading, behind.delivering, behind.telling))
        store.subscribe(behind.announcing.hear)
        store.on_fatal = kept.payloads.on_fatal = lambda: loop.call_soon_threadsafe(up.failed.set)
        await _start_work(stack, behind.loops(kept, settings, clock, roles, sends=sends), behind.delivering, up)
        status_of = behind.goals.client
        acting = Acting(store, answers, rules, settings, clock, lambda name, task: status_of(name).task_status(task))
        metrics = Metrics(store, kept.payloads, clock)
        desk = Desk(store, kept.payloads, settings, rules, answers, acting, metrics, clock, kept.key, up.addresses)
        store.subscribe(desk.changes.hear)
        await stack.enter_async_context(controlled(desk))
        await _open_console(stack, desk, up, whole="console" in roles)
        if "receive" in roles:
            entrance = AtOnce(rules, settings, clock, answers, behind.way_out, kept.last_read)
            await _open_doors(stack, settings, replies, entrance, door, behind.commitment, up, desk, feeds)
        yield up


def _behind_the_doors(
    kept: Kept,
    settings: Settings,
    rules: Mapping[str, Rules],
    clock: Clock,
    answers: Answers,
    door: DicomIntake,
    channels: Mapping[str, Channel],
    feeds: Mapping[str, MllpServer],
    *,
    sends: bool,
) -> _Behind:
    store, payloads = kept.store, kept.payloads
    goals = Destinations(settings.cardio, store, clock)
    objects = Objects(payloads)
    deciding = Deciding(settings, kept.key, clock)
    delivering = Delivering(store, payloads, objects, goals, deciding, settings, clock, answers)
    way_out = delivering if sends else cast("Delivering", _Shut())
    return _Behind(
        goals=goals,
        delivering=delivering,
        way_out=way_out,
        reading=Reading(store, payloads, objects, rules, settings, clock, answers, way_out, door.busy),
        telling=Telling(store, settings.hl7, clock),
        watching=Watching(store, goals, clock),
        looking=Looking(
            store, payloads, settings, clock, lambda: {name: one.last_message_at for name, one in feeds.items()}
        ),
        announcing=Announcing(store, settings, clock, kept.key, channels),
        commitment=Commitment(store, payloads, settings, clock) if settings.dicom.commitment.enabled else None,
    )


async def _on_duty(store: AnyStore, name: str, run: Loop) -> None:
    """What one process of a store does at a time."""
    await store.on_duty(name)
    await run()


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
    loops: Mapping[str, Loop],
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


async def _open_console(stack: contextlib.AsyncExitStack, desk: Desk, up: Running, *, whole: bool) -> None:
    """The console, or no more of it than what watches a process. It closes last."""
    settings = desk.settings.console
    tls = Certificates(settings.tls, "console.tls").context if settings.tls else None
    pages = application(desk) if whole else health_alone(desk)
    if whole:
        up.to_do = await pages.state.reception.prepare()
    sock = open_socket(*host_port(settings.listen), setting="console.listen", kind=BoundedSocket)
    up.addresses["console"] = await stack.enter_async_context(serving(pages, sock, TimelyProtocol, tls))
    stack.callback(desk.changes.end)


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
    """The doors in come last, and close first, so that nothing comes in while we drain."""
    console = up.addresses.pop("console")
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


async def serve(settings: Settings, say: Callable[[str], None], roles: Collection[str] = ROLES) -> None:
    """Run until SIGTERM or SIGINT; `say` gets one line an address, then `ready`.

    Raises CannotListen where the store failed underway: a start goes through the integrity check (A4).
    """
    sys.setswitchinterval(SWITCH)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with notifying.alive(), running(settings, roles=roles) as up:
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
