"""Works that wait for the writer: in the order of their calls, those of threads before those of the loop.

A thread stands still until its work is committed, and somebody at the other end of its connection waits for it; what
the loop writes is mostly about what is kept already. No order is promised between the two.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

J = TypeVar("J")


class Waiting(Generic[J]):
    """Two lanes, for any thread."""

    def __init__(self) -> None:
        self._there = threading.Condition()
        self._urgent: deque[J] = deque()
        self._other: deque[J] = deque()
        self._closed = False

    def put(self, job: J, *, urgent: bool) -> None:
        """One more."""
        with self._there:
            (self._urgent if urgent else self._other).append(job)
            self._there.notify()

    def close(self) -> None:
        """No more will come. What waits is still handed out."""
        with self._there:
            self._closed = True
            self._there.notify()

    def group(self, most: int) -> list[J]:
        """What waits, `most` of it; waits for a first one. Empty: closed, and nothing waits."""
        with self._there:
            self._there.wait_for(lambda: self._urgent or self._other or self._closed)
            return self._taken(most)

    def more(self, most: int) -> list[J]:
        """What has come meanwhile, `most` of it; waits for nothing."""
        with self._there:
            return self._taken(most)

    def _taken(self, most: int) -> list[J]:
        found: list[J] = []
        for lane in (self._urgent, self._other):
            while lane and len(found) < most:
                found.append(lane.popleft())
        return found

    def put_back(self, jobs: Sequence[J], *, urgent: int) -> None:
        """Works of a group that were not begun, the first `urgent` of them of threads: they are the next ones."""
        with self._there:
            self._urgent.extendleft(reversed(jobs[:urgent]))
            self._other.extendleft(reversed(jobs[urgent:]))
