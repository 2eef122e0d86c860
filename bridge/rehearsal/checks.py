"""What the settings lack, before the night does it: what `bridge check` and the console's settings page say."""

import asyncio
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from bridge.clock import SystemClock
from bridge.dispatch import mllp_peer
from bridge.dispatch.alarms.looking import certificates_of, expiry
from bridge.dispatch.alarms.mail import Mail
from bridge.dispatch.alarms.webhook import Webhook
from bridge.dispatch.cardio.client import CardioClient
from bridge.dispatch.routing import check_routes
from bridge.domain.outcome import Answered2xx, BrokenAnswer, NotSent, Outcome, Refused
from bridge.errors import BridgeError, CannotListen, SettingsError, StoreRefused
from bridge.mapping.in_force import rules_in_force
from bridge.receive.certificates import server_context
from bridge.receive.dicom import commitment_sender
from bridge.serving import open_socket
from bridge.settings import (
    ConsoleSettings,
    DestinationSettings,
    DicomSettings,
    Hl7Settings,
    MailSettings,
    Settings,
    WebhookSettings,
    host_port,
    is_loopback,
)
from bridge.store import inspection
from bridge.store.ballast import Ballast
from bridge.store.payloads import Payloads, payloads_for


@dataclass(frozen=True, slots=True)
class Line:
    """One thing checked, with the place to mend where it is not ok."""

    level: Literal["ok", "warning", "error"]
    what: str
    text: str


def checked(settings: Settings, held: Mapping[str, str] | None = None) -> Iterator[Line]:
    """Mapping, store, disk, clock, listeners, certificates, token and API, one after the other.

    `held` are the addresses that the service which asks listens on itself, by name. Blocks: a network is waited for.
    Creates nothing at the API.
    """
    yield Line("ok", "settings", "read, every key is known")
    for check in (_mapping, _store, _bucket, _disk, _clock):
        yield from check(settings)
    yield from _listeners(settings, held or {})
    for one in settings.cardio.all().values():
        yield _token(one)
    for one in settings.cardio.all().values():
        yield from _api(one)
    yield from of_certificates(settings)
    yield from of_alarms(settings)


def _tried(what: str, work: Callable[[], str]) -> Line:
    try:
        return Line("ok", what, work())
    except BridgeError as problem:
        return Line("error", what, str(problem))
    except OSError as problem:
        return Line("error", what, f"{problem.filename or ''}: {problem.strerror}")


def _mapping(settings: Settings) -> Iterator[Line]:
    def work() -> str:
        rules = rules_in_force(settings)
        check_routes(settings, rules)
        return f"{settings.mapping.file or 'the defaults'}, version {rules['hl7'].version}"

    yield _tried("mapping", work)


def _store(settings: Settings) -> Iterator[Line]:
    """Whether the service would take it; what it says of a damaged one is the way out (F27)."""
    warnings: list[str] = []

    def work() -> str:
        where = settings.store.own_folder
        folder = where if where.exists() else where.parent
        probe = folder / ".bridge-check"
        probe.touch()
        probe.unlink()
        if settings.store.is_sqlite and not settings.store.sqlite_path.exists():
            return f"{settings.store.sqlite_path} is not there yet; `bridge run` makes it"
        found = inspection.inspect(settings.store)
        warnings.extend(found.warnings)
        what = settings.store.sqlite_path if settings.store.is_sqlite else "PostgreSQL"
        if found.quarantine:
            raise StoreRefused(
                f"store.url: {what} is, or will be, in quarantine: {found.quarantine}. Nothing is sent until a person "
                "looked at what is held, and `bridge db release` said that it is the right database"
            )
        return f"{what}, schema {found.schema}, {found.checked}"

    yield _tried("store", work)
    for text in warnings:
        yield Line("warning", "store", text)


def _bucket(settings: Settings) -> Iterator[Line]:
    """Whether the bucket of payloads, where there is one, takes a few bytes and gives them back."""

    def work() -> str:
        place = payloads_for(settings.store).place
        place.open()
        return f"{place} takes a few bytes and gives them back"

    if settings.store.bucket is not None:
        yield _tried("payloads", work)


def _disk(settings: Settings) -> Iterator[Line]:
    root = settings.store.payload_folder
    while not root.exists():
        root = root.parent
    beside = settings.store.beside(f"{settings.store.stem}.ballast")
    ballast = Ballast(beside, settings.store.ballast) if beside.parent.exists() else None
    free = Payloads(root, min_free=settings.store.min_free, ballast=ballast).free()
    if free < 0:
        text = f"{-free >> 20} MiB short of store.min_free and store.ballast on {root}: nothing new would be taken"
        yield Line("error", "disk", text)
    else:
        yield Line("ok", "disk", f"{free >> 20} MiB free above store.min_free")


def _clock(settings: Settings) -> Iterator[Line]:
    now = datetime.now(UTC)
    if now.year < 2026:
        yield Line("error", "clock", f"{now:%Y-%m-%d}: this machine's clock is wrong; times in messages would be too")
        return
    local = now.astimezone(ZoneInfo(settings.site.time_zone))
    yield Line("ok", "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC is {local:%H:%M} in {settings.site.time_zone}")


def _listeners(settings: Settings, held: Mapping[str, str]) -> Iterator[Line]:
    listeners = {name: (one.listen, f"{name}.listen") for name, one in settings.hl7.all().items()}
    listeners["dicom"] = (settings.dicom.listen, "dicom.listen")
    listeners["console"] = (settings.console.listen, "console.listen")
    for name, (listen, setting) in listeners.items():
        if name in held:
            yield Line("ok", name, f"{held[name]} is this service's own")
            continue
        try:
            open_socket(*host_port(listen), setting=setting).close()
        except CannotListen as problem:
            yield Line("warning", name, f"{problem} (a running bridge of your own holds it rightly)")
        else:
            yield Line("ok", name, f"{listen} is free")
    yield from _hl7(settings.hl7)
    yield from of_dicom(settings.dicom)
    yield from of_console(settings.console)


def of_dicom(dicom: DicomSettings) -> Iterator[Line]:
    """Who may come in, and certificates that can be used: ours, and those that we show to peers."""
    try:
        if dicom.tls is not None:
            server_context(dicom.tls, "dicom.tls")
        for peer in dicom.peers.values():
            if peer.tls is not None:
                commitment_sender.client_context(peer.tls)
    except (CannotListen, SettingsError) as problem:
        yield Line("error", "dicom", str(problem))
    if not dicom.calling_ae_titles and not dicom.certificates:
        yield Line("warning", "dicom", "dicom.calling_ae_titles is empty: any AE title may store")
    if not dicom.allow and dicom.tls is None and dicom.insecure_plaintext:
        yield Line("warning", "dicom", "dicom.allow is empty: any address may store without encryption")


def of_console(console: ConsoleSettings) -> Iterator[Line]:
    """Who may look: the sign-in, its provider's secret and authority, and a certificate that can be used."""
    try:
        if console.tls is not None:
            server_context(console.tls, "console.tls")
        if console.oidc is not None:
            console.oidc.read_secret()
            console.oidc.trust()
    except (CannotListen, SettingsError) as problem:
        yield Line("error", "console", str(problem))
    if not console.sign_in:
        yield Line("warning", "console", "console.sign_in is false: whoever works on this machine is admin there")
    if not is_loopback(console.listen):
        if console.tls is None:
            yield Line(
                "warning", "console", "console.insecure_plaintext: passwords and patients can be read on the way"
            )
        if not console.hosts:
            yield Line("warning", "console", "console.hosts is empty: it answers by whatever name it is called")


def _hl7(hl7: Hl7Settings) -> Iterator[Line]:
    """What answers need besides a port: a return address for late ids, certificates that can be used."""
    for name, listener in hl7.all().items():
        try:
            if listener.tls is not None:
                server_context(listener.tls, f"{name}.tls")
            if listener.return_tls is not None:
                mllp_peer.client_context(listener.return_tls)
        except (CannotListen, SettingsError) as problem:
            yield Line("error", name, str(problem))
        if listener.allow == () and listener.tls is None and listener.insecure_plaintext:
            yield Line("warning", name, f"{name}.allow is empty: any address may send without encryption")
        if listener.reply_late == "accept" and not listener.return_address:
            text = f"{name}.return_address is empty: ids that come after reply_budget are told at a resend only"
            yield Line("warning", name, text)


def _of(destination: DestinationSettings, what: str) -> str:
    """What a line is about; of a further destination with its name."""
    return what if destination.where == "cardio" else f"{what} of {destination.name}"


def _token(destination: DestinationSettings) -> Line:
    def work() -> str:
        destination.require_ready()
        return "an API token is there"

    return _tried(_of(destination, "token"), work)


def _api(cardio: DestinationSettings) -> Iterator[Line]:
    """Asks for the status of task 0, which creates nothing."""
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


def of_certificates(settings: Settings) -> Iterator[Line]:
    """Until when our own are good; what cannot be read is said where it is used."""
    first = max(settings.alarms.certificate_days, default=0)
    for name, path in certificates_of(settings).items():
        until = expiry(path)
        if until is not None:
            left = (until - datetime.now(UTC)) / timedelta(days=1)
            text = f"{name}: {path} is good until {until:%Y-%m-%d}, {left:.0f} days"
            yield Line("error" if left < 0 else "warning" if left <= first else "ok", "tls", text)


def of_alarms(settings: Settings) -> Iterator[Line]:
    """Whether alarms could be told. Nothing is sent: the console's page has a button for that."""
    alarms = settings.alarms
    if not alarms.channels:
        text = "nobody is told of alarms; name a webhook or a mail server in [alarms.webhook] or [alarms.mail]"
        yield Line("warning", "alarms", text)
    if alarms.webhook is not None:
        yield _tried("alarms", functools.partial(_webhook, alarms.webhook))
    if alarms.mail is not None:
        yield _tried("alarms", functools.partial(_mail, alarms.mail, settings.site.time_zone))


def _webhook(own: WebhookSettings) -> str:
    signed = "signed" if Webhook(own, SystemClock()).secret() else "not signed"
    return f"webhook to {own.host}, {signed}; no test was sent"


def _mail(own: MailSettings, time_zone: str) -> str:
    Mail(own, time_zone).password()
    return f"mail by {own.host}:{own.port} to {len(own.to)}; no test was sent"
