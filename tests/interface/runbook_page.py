"""The made parts of `deploy/runbook.md`: what each alarm means and what to do, in the bridge's own words."""

from pathlib import Path

from bridge.alarm_settings import Rule
from bridge.dispatch.alarms.meanings import MEANINGS
from tests.interface.alarm_page import WHEN

PAGE = Path(__file__).parents[2] / "deploy" / "runbook.md"

BESIDES = {
    Rule.DESTINATION_DOWN: "Under the unit the token is a credential, read at the start: put the new one into "
    "`/etc/cardio-bridge/credentials/` and `systemctl restart cardio-bridge`.",
    Rule.DISK: "`bridge_room_bytes` says how much is left. Recordings are most of it, and nothing is deleted by "
    "itself: a larger disk, `bridge db prune` (*Retention*), old copies in `/var/backups` where they are on the same "
    "disk. Never delete a file below `store.payloads` or beside the database: each is somebody's ECG, or an order that "
    "was acknowledged.",
    Rule.QUARANTINE: "*Restore* below goes through it step by step.",
    Rule.CERTIFICATE: "See the section on certificates.",
}
"""What an installation adds."""


def alarms() -> str:
    """A heading, when, what it means and what to do, for each rule."""
    return "\n".join(_alarm(rule) for rule in Rule if rule is not Rule.TEST)


def _alarm(rule: Rule) -> str:
    meaning = MEANINGS[rule]
    besides = f" {BESIDES[rule]}" if rule in BESIDES else ""
    return (
        f"#### {rule}\n\n**{meaning.title}**: {WHEN[rule]}.\n\n{meaning.means}\n\nWhat to do: {meaning.act}{besides}\n"
    )


PARTS = {"alarms": alarms}
