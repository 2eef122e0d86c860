"""What each alarm means and what to do: one table for the page, the messages and the runbook."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from bridge.alarm_settings import Rule


@dataclass(frozen=True, slots=True)
class Meaning:
    """`said` is filled with the alarm's subject and detail. `where` is the console's page to act on."""

    title: str
    said: str
    means: str
    act: str
    where: str


MEANINGS: dict[Rule, Meaning] = {
    Rule.FEED_SILENT: Meaning(
        "A feed is silent",
        "nothing came from {subject} since {last_at}",
        "A sender that is expected to speak has not for longer than the settings say. What it holds back is not lost, "
        "and is not here.",
        "See on the overview whether it is connected. Ask its side for the state of its queue and its last error, and "
        "try the port from there with bridge send.",
        "/",
    ),
    Rule.QUEUE_OLD: Meaning(
        "Messages wait for long",
        "{number} for {subject} wait, the oldest since {oldest_at}",
        "Work that is ready does not go out. Everything is kept, and goes out in order as soon as it can.",
        "See whether its destination is down, or slow, on the overview. Where it is up, look at the oldest message: "
        "its history says what it waits for.",
        "/messages?state=READY&state=RETRY&state=UPLOADING&state=INTENT&state=RECEIVED",
    ),
    Rule.QUEUE_LONG: Meaning(
        "A queue is long",
        "{number} messages for {subject} wait",
        "More comes in than goes out, or the destination is down. Nothing is dropped, and the queue has no end but the "
        "disk's.",
        "Mend the destination. Where it is up, compare its rate with what comes in; cardio.in_flight and cardio.rate "
        "bound what goes out.",
        "/",
    ),
    Rule.DESTINATION_DOWN: Meaning(
        "A destination is down",
        "{subject} is not sent to since {down_at}: {reason}",
        "The API cannot be reached, refuses the token or the organization, or loses its answers. Custody is taken as "
        "ever; one message probes it now and then.",
        "token_refused, not_allowed: put a valid token into cardio.token_file, which is read at once. wrong_address: "
        "correct cardio.base_url or organization_path and start again. Else: network, proxy, or the vendor. bridge "
        "check tries it.",
        "/",
    ),
    Rule.IN_DOUBT: Meaning(
        "A task is in doubt",
        "whether the task of message {subject} exists is not known since {doubted_at}",
        "The POST went out and its answer was lost. It is never sent again by itself, since that could make a second "
        "task.",
        "Open the message and look for its tag in Cardio.AI. Found: give its task id. Not there after the quiet time: "
        "send it again as a new generation.",
        "/messages/{subject}",
    ),
    Rule.HELD: Meaning(
        "Messages wait for a person",
        "{number} held for {reason}, the oldest received at {oldest_at}",
        "The bridge will not decide this by itself: no match, a contradiction, a conflict, or what it could not read. "
        "They become no task until somebody acts.",
        "Open the work page, compare both sides, and release, attach or discard each.",
        "/work",
    ),
    Rule.REJECTED: Meaning(
        "Messages are refused",
        "{number} refused within an hour for {reason}, the last at {last_at}",
        "api_refused: the API said no to a task, and its sender may have been told yes. Everything else was answered "
        "AE, AR or by a DICOM failure, and its sender knows.",
        "Read what was said on the message. api_refused: mend the mapping, then replay. Else: its sender's vendor "
        "gets the message and the answer; bridge lint says what it violates.",
        "/work",
    ),
    Rule.CONTROL_ID_REUSE: Meaning(
        "A message number was used twice",
        "{number} messages at {subject} came under a number (MSH-10) that their sender had used for others, the last "
        "at {last_at}",
        "Its sender began to count anew, such as after a restart. They were taken as the new messages that they are.",
        "Tell its vendor: MSH-10 must not repeat. An answer may reach the wrong message on its side.",
        "/messages",
    ),
    Rule.ANOMALY: Meaning(
        "Tasks need a person",
        "{number} for {reason}, the oldest noted at {oldest_at}",
        "Something changed after a task was made, such as a cancel, a merge or an identity, and the API cannot change "
        "a task.",
        "Open the work page. Put it right in Cardio.AI, then settle it there.",
        "/work",
    ),
    Rule.NOT_PROCESSED: Meaning(
        "Tasks are not processed",
        "{number} for {reason}, the oldest noted at {oldest_at}",
        "not_processed: a task was made and is not processed within cardio.processed_within. task_gone: the API does "
        "not know it any more. The API says neither by itself.",
        "Look at the tasks in Cardio.AI; ask the vendor where several wait. Then settle them on the work page.",
        "/work",
    ),
    Rule.OUTBOUND_HELD: Meaning(
        "A receiver does not take what it is told",
        "{number} for {subject} refused or not taken, the oldest since {oldest_at}",
        "Task ids for the HIS, or storage commitment reports for a peer, could not be told. Tasks are not affected.",
        "See whether the receiver's port is open and what it answers. What it refused is held on the work page: let it "
        "go out again, or drop it.",
        "/work",
    ),
    Rule.DISK: Meaning(
        "The disk runs full",
        "{subject}: about {mib} MiB free above store.min_free",
        "full: nothing new is taken, senders are told to try again. room: that is near. ballast: the file that is "
        "given up on a full disk is away, so that states can still be written.",
        "Make room where store.payloads and the database are, or give them a larger disk. The service goes on by "
        "itself.",
        "/",
    ),
    Rule.CERTIFICATE: Meaning(
        "A certificate expires",
        "{subject}: good until {expires_at}",
        "From then on peers will refuse the connection, or be refused. Not readable: the file is missing or holds no "
        "certificate; what was read before stays in force until the next start.",
        "Put the new certificate and key in the place of the old ones. They are taken without a restart.",
        "/",
    ),
    Rule.QUARANTINE: Meaning(
        "In quarantine: nothing is sent",
        "the database may be an older copy of itself: {reason}",
        "What it holds may have been sent since the copy was made. Custody is taken; nothing goes out.",
        "See whether it is the right database. Look at what is held, then bridge db release.",
        "/work",
    ),
    Rule.NOT_TOLD: Meaning(
        "Alarms do not reach anybody",
        "{subject} does not take what it is told; {number} dropped within an hour",
        "A webhook or a mail server refuses what it is told, or cannot be reached. The other channel says so.",
        "The alarms page has the reason of each notice. Mend [alarms] in the settings, or the receiver, and send a "
        "test from the alarms page.",
        "/alarms",
    ),
    Rule.TEST: Meaning(
        "This is a test",
        "{subject} asked for it",
        "Somebody pressed the button on the alarms page. Nothing is wrong.",
        "Nothing.",
        "/alarms",
    ),
}
_UNKNOWN = Meaning("An alarm of another version", "{subject}", "This version does not know its rule.", "", "/alarms")


def meaning(rule: str) -> Meaning:
    """The line of a rule; a stored one that this version does not know has one as well."""
    return MEANINGS[Rule(rule)] if rule in set(Rule) else _UNKNOWN


def said(rule: str, subject: str, detail: Mapping[str, Any], zone: tzinfo) -> str:
    """What is wrong, in one line, with times of the site."""
    return meaning(rule).said.format_map(_Words(subject, detail, zone))


def place(rule: str, subject: str) -> str:
    """The console's page to act on, as a path."""
    return meaning(rule).where.format(subject=subject)


class _Words(dict[str, str]):
    """What a text is filled with. What is not known is an ellipsis, so that a text never fails."""

    def __init__(self, subject: str, detail: Mapping[str, Any], zone: tzinfo) -> None:
        super().__init__(subject=subject or "no destination yet")
        self.update({name: _word(name, value, zone) for name, value in detail.items()})

    def __missing__(self, _: str) -> str:
        return "…"


def _word(name: str, value: Any, zone: tzinfo) -> str:
    if name.endswith("_at"):
        with contextlib.suppress(TypeError, ValueError):
            return datetime.fromisoformat(value).astimezone(zone).strftime("%Y-%m-%d %H:%M")
    return str(value)
