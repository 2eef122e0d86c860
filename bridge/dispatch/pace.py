"""How many tasks a second: a bucket of tokens, over a monotonic clock that its caller reads."""

from collections.abc import Callable

BURST = 0.1
"""Seconds whose tasks may go out at once. One task always may."""


class Pace:
    """At most `rate` tasks a second, and the burst; 0 is no limit. Each of those who share it has an even part.

    Whoever may not wait (a message's second order, whose outcome is being written) takes a token that is not there
    yet: those behind it wait the longer.
    """

    def __init__(self, rate: float, now: float, shared_by: Callable[[], int] = lambda: 1) -> None:
        self._whole = rate
        self._shared_by = shared_by
        self._there = self._most
        self._at = now

    @property
    def _rate(self) -> float:
        return self._whole / self._shared_by()

    @property
    def _most(self) -> float:
        return max(1.0, self._rate * BURST)

    def there(self, now: float) -> int | None:
        """Tasks that may go out now; None: as many as there are."""
        if not self._rate:
            return None
        self._fill(now)
        return max(0, int(self._there + 1e-9))

    def next_in(self, now: float) -> float:
        """Seconds until one may go out."""
        if not self._rate:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._there) / self._rate)

    def take(self, now: float) -> float:
        """One is about to go out; how many seconds it should wait for its turn."""
        if not self._rate:
            return 0.0
        self._fill(now)
        self._there -= 1.0
        return max(0.0, -self._there / self._rate)

    def give_back(self) -> None:
        """One did not go out."""
        self._there = min(self._most, self._there + 1.0)

    def _fill(self, now: float) -> None:
        passed, self._at = max(0.0, now - self._at), now
        self._there = min(self._most, self._there + passed * self._rate)
