"""Who pressed Reveal on what: in memory, for one session and one thing, until nobody has looked for a while."""

from bridge.console.access.visitor import Role, Visitor


class Reveals:
    """What is revealed. A restart forgets it, and each is asked for and audited anew."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str, str], float] = {}

    def open(self, visitor: Visitor, subject: str, *, at: float, idle: float) -> None:
        """Reveal `subject` (`message:17`) to this visitor. Whoever calls this has noted it in the audit trail."""
        self._seen = {key: seen for key, seen in self._seen.items() if at - seen <= idle}
        self._seen[_key(visitor, subject)] = at

    def is_open(self, visitor: Visitor, subject: str, *, at: float, idle: float, looks: bool = True) -> bool:
        """Whether it still is. `looks`: a person asks, and no refresh of a page that was left open."""
        key = _key(visitor, subject)
        seen = self._seen.get(key)
        if seen is None or not visitor.may(Role.OPERATOR):
            return False
        if at - seen > idle:
            del self._seen[key]
            return False
        if looks:
            self._seen[key] = at
        return True

    def close(self, visitor: Visitor, subject: str) -> None:
        """Masked again."""
        self._seen.pop(_key(visitor, subject), None)


def _key(visitor: Visitor, subject: str) -> tuple[int, str, str]:
    return (visitor.session, visitor.name, subject)
