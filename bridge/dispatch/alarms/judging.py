"""From what is found to what begins and ends: each edge once, and no flapping."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bridge.dispatch.alarms.rules import Finding
from bridge.store.alarms import Alarm


@dataclass(slots=True)
class Edges:
    """What a look changes: what begins, what is over, and what is another figure of the same."""

    begun: list[Finding] = field(default_factory=list)
    over: list[Alarm] = field(default_factory=list)
    changed: list[tuple[Alarm, Finding]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.begun or self.over or self.changed)


class Judge:
    """Remembers since when each alarm that is on would be over. A start forgets it, which only makes them last."""

    def __init__(self, well_for: float) -> None:
        self._well_for = well_for
        self._well_since: dict[int, float] = {}

    def edges(self, found: Iterable[Finding], on: Iterable[Alarm], now: float) -> Edges:
        """What begins and ends, where `on` is what was on before and `now` a monotonic moment."""
        wrong = {one.key: one for one in found}
        edges = Edges()
        well: dict[int, float] = {}
        for alarm in on:
            finding = wrong.pop((alarm.rule, alarm.subject), None)
            if finding is None:
                since = well[alarm.id] = self._well_since.get(alarm.id, now)
                if now - since >= self._well_for:
                    edges.over.append(alarm)
            elif finding.sure and dict(alarm.detail) != dict(finding.detail):
                edges.changed.append((alarm, finding))
        self._well_since = well
        edges.begun = [one for one in wrong.values() if one.sure]
        return edges
