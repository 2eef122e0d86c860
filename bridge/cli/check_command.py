"""`bridge check`: what your settings lack, before the night does it."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bridge.cli import options


@dataclass(frozen=True, slots=True)
class Line:
    """One thing checked: ok, warning or error, with the place to mend."""

    level: str
    what: str
    text: str


@click.command("check")
@options.config
def command(config: Path | None) -> None:
    """Settings, mapping, store, clock, free disk, API and token: each line ok, warning or error.

    Exit status 1 on an error. Asks the API for the status of task 0, which creates nothing.
    """
    from bridge.errors import BridgeError
    from bridge.settings import load

    worst = 0
    try:
        settings = load(config)
    except BridgeError as problem:
        lines: Iterator[Line] = iter([Line("error", "settings", str(problem))])
    else:
        lines = _lines(settings)
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for line in lines:
        click.echo(f"{click.style(f'{line.level:<8}', fg=colours[line.level])} {line.what:<9} {line.text}")
        worst = max(worst, line.level == "error")
    sys.exit(worst)


def _lines(settings: Any) -> Iterator[Line]:
    yield Line("ok", "settings", "read, every key is known")
    for check in (_mapping, _store, _disk, _clock, _listeners, _token, _api):
        yield from check(settings)


def _tried(what: str, work: Callable[[], str]) -> Line:
    from bridge.errors import BridgeError

    try:
        return Line("ok", what, work())
    except BridgeError as problem:
        return Line("error", what, str(problem))
    except OSError as problem:
        return Line("error", what, f"{problem.filename or ''}: {problem.strerror}")


def _mapping(settings: Any) -> Iterator[Line]:
    from bridge.dispatch.routing import check_routes
    from bridge.mapping.in_force import rules_in_force

    def work() -> str:
        rules = rules_in_force(settings)
        check_routes(settings, rules)
        return f"{settings.mapping.file or 'the defaults'}, version {rules['hl7'].version}"

    yield _tried("mapping", work)


def _store(settings: Any) -> Iterator[Line]:
    """Whether the service would take it; what it says of a damaged one is the way out (F27)."""
    from bridge.errors import StoreRefused
    from bridge.store import inspection

    def work() -> str:
        path: Path = settings.store.sqlite_path
        folder = path.parent if path.parent.exists() else path.parent.parent
        probe = folder / ".bridge-check"
        probe.touch()
        probe.unlink()
        if not path.exists():
            return f"{path} is not there yet; `bridge run` makes it"
        found = inspection.inspect(path, settings.store.epoch_file)
        if found.quarantine:
            raise StoreRefused(
                f"store.url: {path} is, or will be, in quarantine: {found.quarantine}. Nothing is sent until a person "
                "looked at what is held, and `bridge db release` said that it is the right database"
            )
        return f"{path}, schema {found.schema}, {found.checked}"

    yield _tried("store", work)


def _disk(settings: Any) -> Iterator[Line]:
    from bridge.store.ballast import Ballast
    from bridge.store.payloads import Payloads

    root: Path = settings.store.payloads
    while not root.exists():
        root = root.parent
    database: Path = settings.store.sqlite_path
    ballast = Ballast(database.with_suffix(".ballast"), settings.store.ballast if database.parent.exists() else 0)
    free = Payloads(root, min_free=settings.store.min_free, ballast=ballast).free()
    if free < 0:
        text = f"{-free >> 20} MiB short of store.min_free and store.ballast on {root}: nothing new would be taken"
        yield Line("error", "disk", text)
    else:
        yield Line("ok", "disk", f"{free >> 20} MiB free above store.min_free")


def _clock(settings: Any) -> Iterator[Line]:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    now = datetime.now(UTC)
    if now.year < 2026:
        yield Line("error", "clock", f"{now:%Y-%m-%d}: this machine's clock is wrong; times in messages would be too")
        return
    local = now.astimezone(ZoneInfo(settings.site.time_zone))
    yield Line("ok", "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC is {local:%H:%M} in {settings.site.time_zone}")


def _listeners(settings: Any) -> Iterator[Line]:
    from bridge.errors import CannotListen
    from bridge.serving import open_socket
    from bridge.settings import host_port

    listeners = {name: (one.listen, f"{name}.listen") for name, one in settings.hl7.all().items()}
    for name in ("dicom", "console"):
        listeners[name] = (getattr(settings, name).listen, f"{name}.listen")
    for name, (listen, setting) in listeners.items():
        try:
            open_socket(*host_port(listen), setting=setting).close()
        except CannotListen as problem:
            yield Line("warning", name, f"{problem} (a running bridge of your own holds it rightly)")
        else:
            yield Line("ok", name, f"{listen} is free")
    yield from _hl7(settings)
    yield from _dicom(settings.dicom)


def _dicom(dicom: Any) -> Iterator[Line]:
    """Who may come in, and certificates that can be used: ours, and those that we show to peers."""
    from bridge.errors import CannotListen, SettingsError
    from bridge.receive.certificates import server_context
    from bridge.receive.dicom.commitment_sender import client_context

    try:
        if dicom.tls is not None:
            server_context(dicom.tls, "dicom.tls")
        for peer in dicom.peers.values():
            if peer.tls is not None:
                client_context(peer.tls)
    except (CannotListen, SettingsError) as problem:
        yield Line("error", "dicom", str(problem))
    if not dicom.calling_ae_titles and not dicom.certificates:
        yield Line("warning", "dicom", "dicom.calling_ae_titles is empty: any AE title may store")
    if not dicom.allow and dicom.tls is None and dicom.insecure_plaintext:
        yield Line("warning", "dicom", "dicom.allow is empty: any address may store without encryption")


def _hl7(settings: Any) -> Iterator[Line]:
    """What answers need besides a port: a return address for late ids, certificates that can be used."""
    from bridge.dispatch.mllp_peer import client_context
    from bridge.errors import CannotListen, SettingsError
    from bridge.receive.certificates import server_context

    for name, listener in settings.hl7.all().items():
        try:
            if listener.tls is not None:
                server_context(listener.tls, f"{name}.tls")
            if listener.return_tls is not None:
                client_context(listener.return_tls)
        except (CannotListen, SettingsError) as problem:
            yield Line("error", name, str(problem))
        if listener.allow == () and listener.tls is None and listener.insecure_plaintext:
            yield Line("warning", name, f"{name}.allow is empty: any address may send without encryption")
        if listener.reply_late == "accept" and not listener.return_address:
            text = f"{name}.return_address is empty: ids that come after reply_budget are told at a resend only"
            yield Line("warning", name, text)


def _token(settings: Any) -> Iterator[Line]:
    for one in settings.cardio.all().values():

        def work(one: Any = one) -> str:
            one.require_ready()
            return "an API token is there"

        yield _tried(_of(one, "token"), work)


def _of(destination: Any, what: str) -> str:
    """What a line is about; of a further destination with its name."""
    return what if destination.where == "cardio" else f"{what} of {destination.name}"


def _api(settings: Any) -> Iterator[Line]:
    for one in settings.cardio.all().values():
        yield from _api_of(one)


def _api_of(cardio: Any) -> Iterator[Line]:
    from bridge.dispatch.cardio.client import CardioClient
    from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Outcome, Refused
    from bridge.errors import SettingsError

    what = _of(cardio, "api")

    async def probe() -> Outcome:
        client = CardioClient(
            base_url=cardio.base_url,
            organization_path=cardio.organization_path or "-",
            token=cardio.read_token,
            timeout=10.0,
            ca_file=cardio.ca_file,
            proxy=cardio.proxy,
        )
        try:
            return await client.probe()
        finally:
            await client.aclose()

    try:
        cardio.read_token()
    except SettingsError:
        return
    match asyncio.run(probe()):
        case Answered2xx() | BrokenAnswer() | Refused(status=400 | 404):
            yield Line("ok", what, f"{cardio.base_url} answers and takes the token")
        case Refused(status=401, text=text):
            yield Line("error", what, f"the token is refused (401 {text}); see {cardio.where}.token_file")
        case Refused(status=403, text=text):
            yield Line("error", what, f"the token may not act for {cardio.organization_path} (403 {text})")
        case Refused(status=status, text=text):
            yield Line("warning", what, f"{cardio.base_url} answers {status} {text}")
        case NotSent(detail=detail):
            yield Line("error", what, f"{cardio.base_url} cannot be reached: {detail}; see {cardio.where}.base_url")
        case other:
            yield Line("error", what, f"{cardio.base_url} did not answer: {other.detail}")
