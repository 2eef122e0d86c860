"""What must be true at the end of a seed: three journals, and what is known here alone: who died, what was heard."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from bridge.dispatch.key import tagged
from bridge.dispatch.policy import RETRY_AFTER
from bridge.dispatch.reading import ATTEMPTS
from bridge.domain.outcome import Answered2xx, Refused
from bridge.domain.states import SETTLED, State
from tests.acceptance.model import Ecg, Order, Person
from tests.campaign.sim_api import Call
from tests.campaign.sim_hospital import A2, CARL, IDS, Letter, Told, recording_in
from tests.campaign.sim_world import World

SLACK = 5.0
"""Seconds: what a process knows of a limit when it dies is in its store, or that short while is lost with it."""
OF_RECORDING = frozenset({State.CREATED, State.HELD, State.IN_DOUBT, State.REJECTED, State.DONE})


def amiss(world: World) -> Iterator[str]:
    """Everything that is wrong, each with the figure that it counts for."""
    yield from world.amiss
    messages = _named(world, "message", "id, control_id, sop_instance_uid, state, reason, kind, attempts")
    tasks = _named(world, "task", "id, message_id, key, generation, state, reason, task_ids, purpose")
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in world.api.calls:
        calls[call.key].append(call)
    yield from _kept(world.letters, messages)
    yield from _once(world, calls)
    yield from _whose(world)
    yield from _doubts(world, tasks, calls)
    yield from _said(world)
    yield from _waited(world, tasks)


def _named(world: World, table: str, columns: str) -> list[dict[str, Any]]:
    names = columns.split(", ")
    return [dict(zip(names, row, strict=True)) for row in world.disk.rows(f"SELECT {columns} FROM {table} ORDER BY id")]


def _kept(letters: list[Letter], messages: list[dict[str, Any]]) -> Iterator[str]:
    """What was acknowledged is there, and came to its end; what was refused came to nothing."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in messages:
        found[row["sop_instance_uid"] if row["kind"] == "dicom" else row["control_id"]].append(row)
        if row["reason"] == "poison" and row["attempts"] <= ATTEMPTS:  # else the process died each time it was read
            yield f"uncaught: message {row['id']} is held as poison"
        if State(row["state"]) not in SETTLED:
            yield f"lost: message {row['id']} came to nothing: {row['state']} {row['reason']}"
    for letter in letters:
        rows = found[letter.name]
        if letter.told is Told.NOTHING:
            yield f"broken: {letter.name} was never answered"
        elif letter.told is Told.KEPT and not rows:
            yield f"lost: {letter.name} was acknowledged and is not in the store"
        elif len(rows) > 1:
            yield f"twice: {letter.name} is {len(rows)} rows"
        elif isinstance(letter.event, Ecg) and State(rows[0]["state"]) not in OF_RECORDING:
            yield f"lost: {letter.name} has no task: {rows[0]['state']} {rows[0]['reason']}"


def _once(world: World, calls: dict[str, list[Call]]) -> Iterator[str]:
    """No draft and no recording twice; no call is repeated unless its caller knew that nothing was applied."""
    drafts = Counter(call.body.get("investigation_id") for call in world.api.made() if "upload_id" not in call.body)
    curves = Counter(recording_in(world.api.uploads[call.body["upload_id"]]) for call in _recordings(world))
    for what, count in (*drafts.items(), *curves.items()):
        if count > 1:
            yield f"twice: {count} tasks of {what}"
    for key, mine in calls.items():
        if any(not call.is_definite for call in mine[:-1]):
            yield f"twice: {key} was sent again behind a call that may have been applied"


def _recordings(world: World) -> list[Call]:
    return [call for call in world.api.made() if "upload_id" in call.body]


def _whose(world: World) -> Iterator[str]:
    """Each task is of one person, whose order it is, or whose samples."""
    ordered: dict[str, set[Person]] = defaultdict(set)
    recorded: dict[int, Person] = {}
    for letter in world.letters:
        if isinstance(letter.event, Order) and letter.event.control in {"NW", "XO"}:
            ordered[letter.event.number].add(letter.event.person)
        elif isinstance(letter.event, Ecg):
            recorded[letter.recording] = letter.event.person
    for call in world.api.made():
        said = call.body
        whose = next((p for p in IDS if p.first == said["patient_first_name"].split()[0]), None)
        ids = {one.value for one in (*IDS.get(whose, ()), *([A2] if whose == CARL else []))} if whose else set()
        if whose is None or said["patient_id"] not in ids or said.get("patient_last_name") != whose.last:
            yield f"wrong_patient: task {call.task_id} mixes people: {said['patient_id']}"
        elif said.get("patient_birth_date") != whose.born:
            yield f"wrong_patient: task {call.task_id} has another's birth date"
        elif "upload_id" in said:
            number, _ = recording_in(world.api.uploads[said["upload_id"]])
            if recorded[number] != whose:
                yield f"wrong_patient: task {call.task_id} has another's samples"
        elif whose not in ordered[said["investigation_id"]]:
            yield f"wrong_patient: task {call.task_id} is of somebody whom nobody ordered it for"


def _doubts(world: World, tasks: list[dict[str, Any]], calls: dict[str, list[Call]]) -> Iterator[str]:
    """Every task row says of its last call what its caller could know, one for one."""
    rows = {}
    for row in tasks:
        tag = tagged(row["key"], row["generation"])
        rows[tag] = row
        last = calls[tag][-1] if calls.get(tag) else None
        if wrong := _row_amiss(world, row, last):
            yield f"doubts_amiss: task row {row['id']}: {row['state']} {row['reason']}: {wrong}"
    for call in world.api.made():
        row = rows.get(call.key)
        if row is None:
            yield f"lost: task {call.task_id} is known to nobody"
        elif row["state"] not in {State.CREATED, State.IN_DOUBT} or (
            row["state"] == State.CREATED and row["task_ids"] != str(call.task_id)
        ):
            yield f"lost: task {call.task_id} was made, its row says {row['state']} {row['task_ids']}"


def _row_amiss(world: World, row: dict[str, Any], last: Call | None) -> str:
    heard = last.heard if last is not None else None
    match State(row["state"]):
        case State.CREATED:
            return "" if isinstance(heard, Answered2xx) else "nobody heard of a task"
        case State.IN_DOUBT if row["reason"] == "interrupted":
            return "" if world.deaths else "nobody was interrupted"
        case State.IN_DOUBT:
            known = last is None or isinstance(heard, Answered2xx) or last.is_definite
            return "its caller knew" if known else ""
        case State.REJECTED:
            return "" if isinstance(heard, Refused) and heard.status in {400, 415} else "nobody refused it"
        case State.RETRY:
            return "" if last is None or last.is_definite else "a call that may have been applied is to be repeated"
        case State.CANCELLED:
            return "" if last is None or last.is_definite else "a call that may have been applied is called off"
        case state:
            return f"{state} is no end"


def _said(world: World) -> Iterator[str]:
    """What senders were told is so, each time: the code, the tasks, that an order is cancelled."""
    made = {str(call.task_id): call.body for call in world.api.made()}
    drafted = {body.get("investigation_id") for body in made.values() if "upload_id" not in body}
    for letter in world.letters:
        texts = [answer.decode() for answer in letter.answers]
        codes = {text.partition("\rMSA|")[2][:2] for text in texts}
        if len(codes) > 1:
            yield f"broken: {letter.name} was told {sorted(codes)}"
        for text in texts:
            ids = text.partition("|task=")[2].split("\r")[0].split("|")[0]
            for one in ids.split(",") if ids else ():
                if made.get(one, {}).get("investigation_id") != getattr(letter.event, "number", None):
                    yield f"broken: {letter.name} was told of task {one}, which is not its own"
            if "\rORC|CR|" in text and letter.event.number in drafted:  # type: ignore[union-attr]
                yield f"broken: {letter.name} was told that the order is cancelled, and it has a draft"


def _waited(world: World, tasks: list[dict[str, Any]]) -> Iterator[str]:
    """Where the API asked for time it was given, by every message (F14). A clock that was set makes it another time."""
    unheard = {
        tagged(row["key"], row["generation"])
        for row in tasks
        if row["state"] == State.IN_DOUBT and row["reason"] == "interrupted"
    }
    last = {call.key: call for call in world.api.calls}
    for limited in world.api.calls if not world.jumps else ():
        heard = limited.heard
        if not isinstance(heard, Refused) or heard.status != 429 or heard.retry_after is None:
            continue
        if limited.key in unheard and limited is last[limited.key]:
            continue  # whoever heard it died before it was committed: nobody is left to know
        until = limited.heard_at + min(heard.retry_after, RETRY_AFTER[1]) - SLACK
        for call in world.api.calls:
            if limited.heard_at < call.begun < until:
                yield f"broken: {call.key} was sent {until - call.begun:.1f} s before the API would hear it"
