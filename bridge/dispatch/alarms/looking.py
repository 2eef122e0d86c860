"""The look: facts of the store and the process are read now and then, and what begins or ends is committed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from bridge.clock import Clock
from bridge.dispatch.alarms.judging import Edges, Judge
from bridge.dispatch.alarms.rules import LOOK_BACK, Facts, Finding, found, is_listener
from bridge.formats.x509 import good_until
from bridge.settings import Rule, Settings
from bridge.store import alarm_facts, alarms, gauges, quarantine
from bridge.store.alarm_facts import News
from bridge.store.payloads import Payloads
from bridge.store.port import Connection, Store, Transaction

log = structlog.get_logger()

EVERY = 15.0
"""Seconds between two looks."""
_SHARE = 20
"""A look into a large store takes a twentieth of the time at the most."""

LastHeard = Callable[[], Mapping[str, datetime | None]]
"""When each listener was spoken to last, whatever became of what it heard; None: not since the start."""


class Looking:
    """Looks at everything that may be an alarm."""

    def __init__(
        self, store: Store, payloads: Payloads, settings: Settings, clock: Clock, last_heard: LastHeard = dict
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._settings = settings.alarms
        self._clock = clock
        self._last_heard = last_heard
        self._judge = Judge(settings.alarms.well_for)
        self._certificates = certificates_of(settings)
        self._zone = ZoneInfo(settings.site.time_zone)
        self._silence = silence_of(settings)
        self._heard: dict[str, datetime] = {}
        self._news: list[News] = []
        self._after_event: int | None = None
        self._after_message: int | None = None
        self._started = clock.now()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.look()
            except Exception as problem:  # noqa: BLE001  edge of the loop: a store that is full, or a fault of a rule
                log.error("alarm.not_noted", error=type(problem).__name__)  # its edges are found at the next look
            await self._clock.sleep(max(EVERY, _SHARE * (time.monotonic() - began)))

    async def look(self) -> None:
        """One look. Raises StoreError."""
        facts, on = await self._store.read(self._facts)
        edges = self._judge.edges(found(facts, self._settings), on, self._clock.monotonic())
        if not edges:
            return
        await self._store.write(lambda tx: self._note(tx, edges, facts.now))
        for one in edges.begun:
            log.error("alarm.began", reason=one.rule.value, part=one.subject, **_logged(one))
        for alarm in edges.over:
            seconds = round((facts.now - alarm.since).total_seconds())
            log.info("alarm.over", reason=alarm.rule, part=alarm.subject, seconds=seconds)

    def _facts(self, conn: Connection) -> tuple[Facts, list[alarms.Alarm]]:
        now = self._clock.now()
        settings = self._settings
        self._hear(conn)
        facts = Facts(
            now=now,
            started=self._started,
            zone=self._zone,
            silence=self._silence,
            heard=self._heard,
            queued=alarm_facts.queued(conn),
            down=alarm_facts.down(conn),
            doubts=gauges.doubts(conn),
            held=alarm_facts.held(conn),
            anomalies=alarm_facts.anomalies(conn),
            news=self._what_is_new(conn, now),
            quarantine=quarantine.reason(conn),
            room=self._payloads.free(),
            ballast_missing=self._payloads.ballast_missing(),
            certificates={name: expiry(path) for name, path in self._certificates.items()},
            troubles=alarms.troubles(conn, settings.channels, since=now - LOOK_BACK),
        )
        if settings.queue_age:
            long_ago = now - timedelta(seconds=settings.queue_age)
            facts = replace(facts, waiting=alarm_facts.waiting(conn, since=long_ago))
        if settings.outbound_age:
            long_ago = now - timedelta(seconds=settings.outbound_age)
            facts = replace(facts, untold=alarm_facts.untold(conn, since=long_ago))
        return facts, alarms.on_now(conn)

    def _hear(self, conn: Connection) -> None:
        """Who has spoken since the last look, of those that should."""
        if not self._silence:
            return
        if self._after_message is None:
            self._after_message = alarm_facts.newest(conn)
            listeners = [name for name in self._silence if is_listener(name)]
            senders = [name for name in self._silence if name not in listeners]
            self._heard = alarm_facts.last_heard(conn, listeners, senders)
        self._after_message, heard = alarm_facts.heard(conn, after=self._after_message)
        for one in heard:
            self._note_heard(one.listener, one.at)
            self._note_heard(one.sender, one.at)
        for name, at in self._last_heard().items():
            if at is not None:
                self._note_heard(name, at)

    def _note_heard(self, name: str, at: datetime) -> None:
        if name in self._silence:
            self._heard[name] = max(at, self._heard.get(name, at))

    def _what_is_new(self, conn: Connection, now: datetime) -> list[News]:
        """What was refused within the last hour; a start reads that hour anew."""
        if self._after_event is None:
            self._after_event = alarm_facts.before(conn, now - LOOK_BACK)
        self._after_event, news = alarm_facts.news(conn, after=self._after_event)
        self._news = [one for one in (*self._news, *news) if now - one.at <= LOOK_BACK]
        return self._news

    def _note(self, tx: Transaction, edges: Edges, now: datetime) -> None:
        for one in edges.begun:
            channels = self._channels(one.rule.value, one.subject)
            alarms.begin(tx, one.rule.value, one.subject, at=now, detail=one.detail, channels=channels)
        for alarm, finding in edges.changed:
            alarms.refresh(tx, alarm.id, finding.detail)
        for alarm in edges.over:
            alarms.end(tx, alarm.id, at=now, channels=self._channels(alarm.rule, alarm.subject))

    def _channels(self, rule: str, subject: str) -> list[str]:
        """Who is told: all, but for a rule that is muted; that a channel does not work is told by the others."""
        if rule in self._settings.mute:
            return []
        return [one for one in self._settings.channels if rule != Rule.NOT_TOLD or one != subject]


def _logged(one: Finding) -> dict[str, object]:
    told: dict[str, object] = {"number": one.detail["number"]} if "number" in one.detail else {}
    return told | ({"message": int(one.subject)} if one.rule is Rule.IN_DOUBT else {})


def expiry(path: Path) -> datetime | None:
    """Until when the certificates of a file are good; None where they cannot be read."""
    try:
        return good_until(path.read_bytes())
    except OSError:
        return None


def silence_of(settings: Settings) -> dict[str, float]:
    """After how many seconds of silence each feed is one: listeners by their own setting, and what `silence` names."""
    own = {name: one.silence_alarm for name, one in settings.hl7.all().items() if one.silence_alarm}
    return {**own, **settings.alarms.silence}


def certificates_of(settings: Settings) -> dict[str, Path]:
    """The certificates that we show, by their setting: of the listeners, and of our own connections."""
    shown = {name: one.tls for name, one in settings.hl7.all().items()}
    shown |= {"dicom": settings.dicom.tls, "console": settings.console.tls}
    found = {f"{name}.tls": tls.certificate for name, tls in shown.items() if tls is not None}
    for name, one in settings.hl7.all().items():
        if one.return_tls is not None and one.return_tls.certificate is not None:
            found[f"{name}.return_tls"] = one.return_tls.certificate
    for title, peer in settings.dicom.peers.items():
        if peer.tls is not None and peer.tls.certificate is not None:
            found[f"dicom.peers.{title}.tls"] = peer.tls.certificate
    return found
