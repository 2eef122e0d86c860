"""The HL7 answer, built where its outcome is committed, so that both stand in one transaction (failures.md §3.2)."""

import secrets

from bridge.clock import Clock
from bridge.domain.verdict import Verdict
from bridge.formats.hl7 import answer
from bridge.formats.hl7.reader import Message
from bridge.settings import Hl7Settings


class Answers:
    """Builds answers by the listener's rules."""

    def __init__(self, settings: Hl7Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def build(self, message: Message, verdict: Verdict) -> bytes:
        """The bytes to send; MSH-10 is our own and unique (HL7 v2.5.1 §2.9.2.2)."""
        return answer.build(
            message,
            verdict,
            control_id=f"CB{secrets.token_hex(8).upper()}",
            now=self._clock.now(),
            order_response=self._settings.order_response,
        )
