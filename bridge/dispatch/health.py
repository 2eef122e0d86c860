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
_OF_TOKEN = (Reason.TOKEN_REFUSED, Reason.NOT_ALLOWED, Reason.UNREACHABLE)
"""Reasons that a new token may end: refused, not allowed, or not there to be read."""


@dataclass(frozen=True, slots=True)
class Health:
    """Up, or not to be sent to until a moment of the monotonic clock.

    `known_down`: nobody should wait for an answer of it. One message probes it then, and its success brings the rest.
    It is down when a call could not reach it, when it refused the token or the address, and when `doubts` tasks in a
    row ended in doubt: an API that answers 502 for an hour must not cost a doubt for each message of that hour. A rate
    limit is no failure: the destination is up, and everybody waits (F14). `reason` says why it was quiet last.
    """

    known_down: bool = False
    reason: Reason | None = None
    quiet_until: float = 0.0
    limited_until: float = 0.0
    doubts: int = 0

    def may_send(self, now: float) -> float:
        """Seconds to wait before the next call; 0 where there is no need to."""
        return max(0.0, self.quiet_until - now, self.limited_until - now)

    def stopped(self, now: float) -> Retry | None:
        """What becomes of a call that may not be made now; None where it may."""
        seconds = self.may_send(now)
        if seconds <= 0:
            return None
        limited = self.limited_until >= self.quiet_until or self.reason is None
        return Retry(seconds, Reason.RATE_LIMITED if limited or self.reason is None else self.reason)

    def only_limited(self, now: float) -> bool:
        """Whether a rate limit is all that it waits for: what is under way may go on behind it."""
        return not self.known_down and self.quiet_until <= now

    def limited(self, until: float) -> "Health":
        """A rate limit of whoever shares its token; a window is never cut short."""
        return replace(self, limited_until=max(self.limited_until, until))

    def with_new_token(self) -> "Health":
        """Another token may be taken where the last one was not: it is tried at once. A rate limit is waited out."""
        return replace(self, quiet_until=0.0) if self.known_down and self.reason in _OF_TOKEN else self

    def after(self, decision: Decision, now: float) -> "Health":
        """What a decision makes of it. A quiet time is never cut short by a call that was under way before it."""
        match decision:
            case PauseDestination(probe_after=seconds, reason=reason):
                return self._down(now + seconds, reason)
            case Retry(after=seconds, reason=Reason.UNREACHABLE as reason, pause_destination=True):
                return self._down(now + min(seconds, _PROBE_MOST), reason)
            case Retry(after=seconds, pause_destination=True):
                return replace(self.limited(now + seconds), known_down=False)
            case InDoubt(pause_destination=True, reason=reason):
                return replace(self._down(now + _QUIET_MOST, reason), doubts=self.doubts + 1)
            case InDoubt(reason=reason):
                return self._doubted(now, reason)
            case Created() | Reject():
                return replace(self, known_down=False, doubts=0)
            case Proceed() | NewUpload():  # it is there, which does not show that its tasks come out well again
                return replace(self, known_down=self.known_down and self.doubts >= DOUBTS_IN_A_ROW)
            case Retry():  # one call's misfortune, while another may be well
                return self

    def _down(self, until: float, reason: Reason) -> "Health":
        return replace(self, known_down=True, quiet_until=max(self.quiet_until, until), reason=reason)

    def _doubted(self, now: float, reason: Reason) -> "Health":
        doubts = self.doubts + 1
        if doubts < DOUBTS_IN_A_ROW:
            return replace(self, doubts=doubts)
        quiet = min(_QUIET_MOST, _QUIET_FIRST * 2.0 ** min(doubts - DOUBTS_IN_A_ROW, 16))
        return replace(self._down(now + quiet, reason), doubts=doubts)
