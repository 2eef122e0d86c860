"""What a message waits for, and what a person can do with it, for whoever shows one. Reads only."""

from typing import Any

from bridge.dispatch.acts.audited import look
from bridge.dispatch.acts.resolving import Doubt, doubts_of
from bridge.dispatch.acts.sides import sides
from bridge.dispatch.acts.ways import Way, commands
from bridge.dispatch.answers import Answers
from bridge.domain.states import State
from bridge.settings import Settings
from bridge.store.port import Connection
from bridge.store.schema import moment


def outlook(conn: Connection, message_id: int, settings: Settings, answers: Answers) -> dict[str, Any]:
    """As JSON values: `held` (why, in words), `sides` of a recording that waits for a word, `doubts`, and `commands`.

    Raises ActionRefused where there is no such message.
    """
    row, case = look(conn, answers, message_id)
    said: dict[str, Any] = {"held": None, "sides": None, "doubts": [], "commands": [list(c) for c in commands(case)]}
    if case.state is State.HELD:
        held = case.held()
        said["held"] = held.words
        if held.way is Way.CHOOSE:
            both = sides(conn, row.understood, site_authority=settings.site.assigning_authority)
            said["sides"] = both.as_json() if both is not None else None
    if case.state is State.IN_DOUBT:
        doubts = doubts_of(conn, row, settings)
        several = len(doubts) > 1
        for doubt in doubts:
            said["doubts"].append(_as_json(doubt))
            said["commands"] += _ways_out(message_id, doubt, several=several, resend=not case.told_no)
    return said


def _as_json(doubt: Doubt) -> dict[str, Any]:
    window = doubt.window()
    return {
        "tag": doubt.tag,
        "position": doubt.position,
        "destination": doubt.destination,
        "created_between": list(window),
        "patient": doubt.masked,
        "quiet_until": moment(doubt.quiet_until).isoformat(),
    }


def _ways_out(message_id: int, doubt: Doubt, *, several: bool, resend: bool) -> list[list[str]]:
    begin = f"bridge messages resolve {message_id}"
    which = f" --tag {doubt.tag}" if several else ""
    made = [[f"{begin} --task TASK_ID{which}", "a task with this tag is there, and this is its id"]]
    not_there = f"--reason TEXT --confirm {doubt.tag}"
    if resend:
        made.append([f"{begin} --resend {not_there}", "no task has this tag: it is sent again"])
    made.append([f"{begin} --give-up {not_there}", "no task has this tag, and none is wanted any more"])
    return made
