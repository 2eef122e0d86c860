"""The health of a destination, as a value: what each decision makes of it, and whether it may be sent to."""

from dataclasses import dataclass, replace

from bridge.dispatch.policy import (
    Created,
    Decision,
    InDoubt,
    NewUpload,
    PauseDestination,
    Proceed,
    Reason,
    Reject,
    Retry,
)

DOUBTS_IN_A_ROW = 3
"""Tasks that may end in doubt one after the other before the rest is kept back."""
_QUIET_FIRST, _QUIET_MOST = 1.0, 60.0
_PROBE_MOST = 30.0
"""Seconds between two tries to reach it: an outage that is over should not last on here."""


@dataclass(frozen=True, slots=True)
class Health:
    """Up, or not to be sent to until a moment of the monotonic clock.

    `known_down`: nobody should wait for an answer of it. One message probes it then, and its success brings the rest.
    It is down when a call could not reach it, when it refused the token or the address, and when `doubts` tasks in a
    row ended in doubt: an API that answers 502 for an hour must not cost a doubt for each message of that hour. A rate
    limit is no failure: the destination is up, and everybody waits (F14).
    """

    known_down: bool = False
    quiet_until: float = 0.0
    doubts: int = 0

    def may_send(self, now: float) -> float:
        """Seconds to wait before the next call; 0 where there is no need to."""
        return max(0.0, self.quiet_until - now)

    def after(self, decision: Decision, now: float) -> "Health":
        """What a decision makes of it. A quiet time is never cut short by a call that was under way before it."""
        match decision:
            case PauseDestination(probe_after=seconds):
                return self._down(now + seconds)
            case Retry(after=seconds, reason=Reason.UNREACHABLE):
                return self._down(now + min(seconds, _PROBE_MOST))
            case Retry(after=seconds, pause_destination=True):
                return replace(self, known_down=False, quiet_until=max(self.quiet_until, now + seconds))
            case InDoubt(pause_destination=True):
                return replace(self._down(now + _QUIET_MOST), doubts=self.doubts + 1)
            case InDoubt():
                return self._doubted(now)
            case Created() | Reject():
                return replace(self, known_down=False, doubts=0)
            case Proceed() | NewUpload():  # it is there, which does not show that its tasks come out well again
                return replace(self, known_down=self.known_down and self.doubts >= DOUBTS_IN_A_ROW)
            case Retry():  # one call's misfortune, while another may be well
                return self

    def _down(self, until: float) -> "Health":
        return replace(self, known_down=True, quiet_until=max(self.quiet_until, until))

    def _doubted(self, now: float) -> "Health":
        doubts = self.doubts + 1
        if doubts < DOUBTS_IN_A_ROW:
            return replace(self, doubts=doubts)
        quiet = min(_QUIET_MOST, _QUIET_FIRST * 2.0 ** min(doubts - DOUBTS_IN_A_ROW, 16))
        return replace(self._down(now + quiet), doubts=doubts)
