"""The rules: facts in, what is wrong out. Nothing here reads, waits or remembers.

A count that grows is told anew at ten and a hundred times its threshold: each such step is an alarm of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from bridge.alarm_settings import AlarmSettings, Rule, hours_of
from bridge.dispatch.policy import Reason
from bridge.dispatch.watching import GONE, NOT_PROCESSED
from bridge.store import quarantine
from bridge.store.alarm_facts import REUSED, Down, News, Pile
from bridge.store.alarms import Trouble
from bridge.store.gauges import Doubt

LOOK_BACK = timedelta(hours=1)
"""How long what happened is counted."""
_STEPS = (10, 100)
_HELD_AT_ONCE = ("poison", "uid_conflict", "identity_update")
"""Reasons of a HELD for which one message is enough (F28, F29)."""
_DOWN_AT_ONCE = (Reason.TOKEN_REFUSED, Reason.NOT_ALLOWED, Reason.WRONG_ADDRESS)
"""Reasons that time does not mend (F15, F16)."""
_UNTOLD_FOR = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen at one look."""

    now: datetime
    started: datetime
    zone: tzinfo = UTC
    silence: Mapping[str, float] = field(default_factory=dict)  # seconds, by listener or sender that should be heard
    heard: Mapping[str, datetime] = field(default_factory=dict)  # the last message of each of them
    waiting: Sequence[Pile] = ()  # longer than queue_age
    queued: Mapping[str, int] = field(default_factory=dict)
    down: Sequence[Down] = ()
    doubts: Sequence[Doubt] = ()
    held: Sequence[Pile] = ()
    anomalies: Sequence[Pile] = ()
    untold: Sequence[Pile] = ()  # held, or longer than outbound_age
    news: Sequence[News] = ()  # of the last hour
    quarantine: str = ""
    room: int = 2**63
    ballast_missing: int = 0
    certificates: Mapping[str, datetime | None] = field(default_factory=dict)  # by setting; none: cannot be read
    troubles: Mapping[str, Trouble] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. `sure` false: it cannot be known now, so that an alarm neither begins nor ends.

    `detail` holds JSON values without a patient's; names that end in `_at` are moments.
    """

    rule: Rule
    subject: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    sure: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """One alarm at a time."""
        return self.rule.value, self.subject


def found(facts: Facts, settings: AlarmSettings) -> list[Finding]:
    """All that is wrong, or may be."""
    return [finding for rule in _RULES for finding in rule(facts, settings)]


def is_listener(name: str) -> bool:
    """Whether a feed is one of our listeners, which is expected to be heard from the start on."""
    return name in {"hl7", "dicom"} or name.startswith("hl7.")


def _feed_silent(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    """A start gives every sender its time anew, and is no sign that one of them speaks again."""
    for name, seconds in facts.silence.items():
        last = facts.heard.get(name)
        if last is None and not is_listener(name):
            continue  # it has never spoken
        told = {"last_at": _iso(last or facts.started)}
        since = max(last, facts.started) if last else facts.started
        if awake(since, facts.now, settings.quiet_hours, facts.zone) >= seconds:
            yield Finding(Rule.FEED_SILENT, name, told)
        elif last is None or awake(last, facts.now, settings.quiet_hours, facts.zone) >= seconds:
            yield Finding(Rule.FEED_SILENT, name, told, sure=False)


def awake(begin: datetime, end: datetime, quiet_hours: str, zone: tzinfo) -> float:
    """Seconds between two moments, those in the quiet hours of a day left out."""
    seconds = max((end - begin).total_seconds(), 0.0)
    hours = hours_of(quiet_hours)
    if hours is None or not seconds:
        return seconds
    day = begin.astimezone(zone).date() - timedelta(days=1)
    while day <= end.astimezone(zone).date():
        last = day if hours[0] < hours[1] else day + timedelta(days=1)
        falls = datetime.combine(day, hours[0], zone).astimezone(UTC)
        lifts = datetime.combine(last, hours[1], zone).astimezone(UTC)
        seconds -= max((min(lifts, end) - max(falls, begin)).total_seconds(), 0.0)
        day += timedelta(days=1)
    return max(seconds, 0.0)


def _queue_old(facts: Facts, _: AlarmSettings) -> Iterator[Finding]:
    for pile in facts.waiting:
        number = max(facts.queued.get(pile.name, 0), pile.number)  # of those that wait for long only the first are seen
        yield Finding(Rule.QUEUE_OLD, pile.name, {**_of(pile), "number": number})


def _queue_long(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    for name, number in facts.queued.items():
        for step in _steps(number, settings.queue_length):
            yield Finding(Rule.QUEUE_LONG, _stepped(name, step, settings.queue_length), {"number": number})


def _destination_down(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    for one in facts.down:
        if not settings.destination_down or one.reason == quarantine.REASON:  # which is an alarm of its own
            continue
        long = (facts.now - one.since).total_seconds() >= settings.destination_down
        if long or one.reason in _DOWN_AT_ONCE:
            yield Finding(Rule.DESTINATION_DOWN, one.name, {"reason": one.reason, "down_at": _iso(one.since)})


def _in_doubt(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    for one in facts.doubts:
        age = settings.doubt_age_stat if one.stat else settings.doubt_age
        if age and (facts.now - one.since).total_seconds() >= age:
            told = {"message": str(one.message_id), "doubted_at": _iso(one.since), "urgent": one.stat}
            yield Finding(Rule.IN_DOUBT, str(one.message_id), told)


def _held(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    for pile in facts.held:
        most = 1 if pile.name in _HELD_AT_ONCE else settings.held_number
        steps = _steps(pile.number, most)
        old = settings.held_age and (facts.now - pile.oldest).total_seconds() >= settings.held_age
        for step in steps or ([most] if old else []):
            yield Finding(Rule.HELD, _stepped(pile.name, step, most), {**_of(pile), "reason": pile.name})


def _rejected(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    """What was answered AE or AR is its sender's to mend, so a few are none; what the API refused is ours (F17)."""
    if not settings.rejected_number:
        return
    for reason, numbers in _by(facts, lambda one: one.reason if one.reason != REUSED else None).items():
        most = 1 if reason == Reason.API_REFUSED else settings.rejected_number
        for step in _steps(len(numbers), most):
            told = {"number": len(numbers), "reason": reason, "last_at": _iso(max(numbers))}
            yield Finding(Rule.REJECTED, _stepped(reason, step, most), told)


def _control_id_reuse(facts: Facts, _: AlarmSettings) -> Iterator[Finding]:
    for listener, moments in _by(facts, lambda one: one.listener if one.reason == REUSED else None).items():
        told = {"number": len(moments), "last_at": _iso(max(moments))}
        yield Finding(Rule.CONTROL_ID_REUSE, listener, told)


def _by(facts: Facts, key: Callable[[News], str | None]) -> dict[str, list[datetime]]:
    """When it happened, of the last hour, by that key."""
    found: dict[str, list[datetime]] = {}
    for one in facts.news:
        name = key(one)
        if name is not None and facts.now - one.at <= LOOK_BACK:
            found.setdefault(name, []).append(one.at)
    return found


def _anomaly(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    for pile in facts.anomalies:
        rule = Rule.NOT_PROCESSED if pile.name in {NOT_PROCESSED, GONE} else Rule.ANOMALY
        for step in _steps(pile.number, settings.anomaly_number):
            told = {**_of(pile), "reason": pile.name}
            yield Finding(rule, _stepped(pile.name, step, settings.anomaly_number), told)


def _outbound_held(facts: Facts, _: AlarmSettings) -> Iterator[Finding]:
    for pile in facts.untold:
        yield Finding(Rule.OUTBOUND_HELD, pile.name, _of(pile))


def _disk(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    told = {"mib": facts.room // 2**26 * 64}  # roughly: a figure that is another one at every look is written anew
    if settings.disk_room and facts.room < settings.disk_room:
        yield Finding(Rule.DISK, "room", told)
    if facts.room < 0:
        yield Finding(Rule.DISK, "full", told)
    if facts.ballast_missing:
        yield Finding(Rule.DISK, "ballast", told)


def _certificate(facts: Facts, settings: AlarmSettings) -> Iterator[Finding]:
    for name, until in facts.certificates.items():
        if until is None:
            yield Finding(Rule.CERTIFICATE, f"{name}, not readable")
            continue
        for days in settings.certificate_days:
            if until - facts.now <= timedelta(days=days):
                told = {"expires_at": _iso(until), "days": days}
                yield Finding(Rule.CERTIFICATE, f"{name}, {days} {'day' if days == 1 else 'days'}", told)


def _quarantine(facts: Facts, _: AlarmSettings) -> Iterator[Finding]:
    if facts.quarantine:
        yield Finding(Rule.QUARANTINE, "", {"reason": facts.quarantine})


def _not_told(facts: Facts, _: AlarmSettings) -> Iterator[Finding]:
    for name, trouble in facts.troubles.items():
        late = trouble.oldest is not None and facts.now - trouble.oldest >= _UNTOLD_FOR
        if trouble.dropped or late:
            yield Finding(Rule.NOT_TOLD, name, {"number": trouble.dropped})


_RULES: tuple[Callable[[Facts, AlarmSettings], Iterator[Finding]], ...] = (
    _feed_silent,
    _queue_old,
    _queue_long,
    _destination_down,
    _in_doubt,
    _held,
    _rejected,
    _control_id_reuse,
    _anomaly,
    _outbound_held,
    _disk,
    _certificate,
    _quarantine,
    _not_told,
)


def _steps(number: int, least: int) -> list[int]:
    """The thresholds that a number has reached: the least, and ten and a hundred times it; none where it is 0."""
    return [step for step in (least, *(least * times for times in _STEPS)) if least and number >= step]


def _stepped(name: str, step: int, least: int) -> str:
    return name if step == least else f"{name}, {step} or more"


def _of(pile: Pile) -> dict[str, Any]:
    return {"number": pile.number, "oldest_at": _iso(pile.oldest)}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
