"""The `[retention]` table: for how many days what is finished stays readable, until `bridge db prune` empties it."""

from typing import Annotated

from pydantic import Field

from bridge.setting_kinds import Section

Days = Annotated[int, Field(ge=1, le=36_500)]
Weeks = Annotated[int, Field(ge=7, le=36_500)]
"""Days, a week at least: a change, a cancel or a request for commitment may still come for what is younger."""


class RetentionSettings(Section):
    messages: Weeks = 365  # HL7 messages that are finished
    recordings: Weeks = 365  # recordings that are finished, and what was told of their storage commitment
    refused: Weeks | None = None  # what was refused and nobody has looked at; none: it stays for a person
    alarms: Days = 365  # alarms that are over
    sessions: Days = 30  # sessions and tokens that have ended
