"""What befalls a cluster: processes killed, frozen, ended in good order, armed to stand still at a place, and the
database restarted; each process is started again, as a unit would.
"""

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from tests.campaign import cluster_arms
from tests.campaign.cluster_stage import LEASE, ClusterStage, Member
from tests.campaign.judge import Verdict

FROZEN = (0.3, 2.8)
"""Leases that a process stands still: some less than one, some so long that the server ends its session."""
ARMED = 0.4
"""The share of starts of a process that will act at some place by itself."""
DOWN = 0.3
"""The share of kills behind which a process stays away until somebody else was struck."""


class Strikes:
    """Draws one after the other. `restart` restarts the database, in a mode of pg_ctl's; `counts` is what was done."""

    def __init__(self, stage: ClusterStage, dice: random.Random, restart: Callable[[str], None] | None) -> None:
        self._stage = stage
        self._dice = dice
        self._restart = restart
        self.counts: Counter[str] = Counter()
        self.unexplained: list[str] = []

    def one(self) -> None:
        """The next of them, at somebody who is up."""
        self.tend()
        whom = [member for member in self._stage.members if member.stands_until is None]
        strike = self._dice.choices((self._kill, self._freeze, self._end, self._database), (8, 5, 4, 4))[0]
        if whom:
            self.counts["struck"] += 1
            strike(self._dice.choice(whom))

    def tend(self) -> None:
        """Whoever stood still for long enough goes on, whoever ended is started again."""
        for member in self._stage.members:
            if member.stands_until is not None and time.monotonic() > member.stands_until:
                member.thaw()
            if member.process is not None and member.up.ended():
                self._gone(member)
                self.start(member)

    def start(self, member: Member) -> None:
        """Start it, armed or not."""
        armed = {}
        if self._dice.random() < ARMED:
            armed = cluster_arms.draw(self._dice, self._seconds(), sends=member.sends)
        self._stage.start(member, armed)

    def over(self) -> None:
        """No more: everybody is up, and nobody will act by itself."""
        for member in self._stage.members:
            if member.stands_until is not None:
                member.thaw()
            if member.process is not None and member.up.armed:
                self._stage.note(member, "kill")
                member.up.end(signal.SIGKILL)
                self._stage.start(member)
        self.tend()

    def judged(self, verdict: Verdict) -> None:
        """What was done, and ends that nothing explains."""
        self.counts.update(f"at_{what.split()[0]}" for acts in self._stage.acts().values() for what in acts)
        verdict.counts.update(self.counts)
        for what in self.unexplained:
            verdict.against("broken", what)

    def _seconds(self) -> float:
        return self._dice.uniform(*FROZEN) * LEASE

    def _gone(self, member: Member) -> None:
        """It ended by itself: what befell it before must explain that."""
        befell = {**self._stage.struck, **self._stage.acts()}.get(member.up.pid)
        self.counts["ended_by_themselves"] += 1
        if not befell:
            self.unexplained.append(f"{member.name} ended with {member.up.status}, and nothing had befallen it")

    def _kill(self, member: Member) -> None:
        self._stage.note(member, "kill")
        member.up.end(signal.SIGKILL)
        self.counts["kills"] += 1
        if self._dice.random() > DOWN:  # else at the next strike
            self.start(member)

    def _freeze(self, member: Member) -> None:
        self._stage.note(member, "freeze")
        with contextlib.suppress(ProcessLookupError):
            member.freeze()
        member.stands_until = time.monotonic() + self._seconds()
        self.counts["freezes"] += 1

    def _end(self, member: Member) -> None:
        status = member.up.end()
        self.counts["ends"] += 1
        if status != 0 and member.up.pid not in {**self._stage.struck, **self._stage.acts()}:
            self.unexplained.append(f"{member.name} said {status} at SIGTERM, and nothing had befallen it")
        self.start(member)

    def _database(self, _: Member) -> None:
        if self._restart is not None:
            mode = self._dice.choice(("immediate", "fast"))
            self._restart(mode)
            self.counts["restarts"] += 1
