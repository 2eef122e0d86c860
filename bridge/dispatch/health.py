"""The health of a destination, as a value: what each decision makes of it, and whether it may be sent to."""

from dataclasses import dataclass, replace

from bridge.dispatch.policy import Decision, PauseDestination, Retry


@dataclass(frozen=True, slots=True)
class Health:
    """Up, or not to be sent to until a moment of the monotonic clock.

    `known_down`: the last call could not reach it, or was refused for its token. One message probes it then, and its
    success brings the rest. A rate limit is no failure: the destination is up, and everybody waits (F14).
    """

    known_down: bool = False
    quiet_until: float = 0.0

    def may_send(self, now: float) -> float:
        """Seconds to wait before the next call; 0 where there is no need to."""
        return max(0.0, self.quiet_until - now)

    def after(self, decision: Decision, now: float) -> "Health":
        """What a decision makes of it. Any answer at all shows that the destination is there."""
        match decision:
            case PauseDestination(probe_after=seconds):
                return Health(known_down=True, quiet_until=now + seconds)
            case Retry(after=seconds, pause_destination=True, reason=reason):
                down = reason.value == "unreachable"
                return Health(known_down=down, quiet_until=max(self.quiet_until, now + seconds))
            case _:
                return replace(self, known_down=False)
