"""What a person decides on when he acts, as a digest that his form brings back: where it stands, and both sides of it.

Without it a page that was left open, or a form that a browser sends once more, would be his word on what he never saw:
on an order that has become another patient's since, or on a hold for another reason.
"""

import hashlib
import hmac
import json
from typing import Any

from bridge.console.desk import Desk
from bridge.dispatch.acts.audited import Still, look
from bridge.dispatch.acts.sides import sides
from bridge.dispatch.acts.ways import Case, Way
from bridge.domain.states import State
from bridge.errors import ActionRefused
from bridge.store import beside
from bridge.store.port import Connection


def standing(conn: Connection, desk: Desk, row: Any, case: Case) -> str:
    """With the site's key: whose the sides are could else be tried out by whoever sees the digest."""
    said: list[Any] = [case.message_id, case.state, case.reason, beside.newest_event(conn, case.message_id)]
    if case.state is State.HELD and case.held().way is Way.CHOOSE:
        both = sides(conn, row.understood, site_authority=desk.settings.site.assigning_authority)
        said.append(both.as_json() if both is not None else None)
    text = json.dumps(said, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hmac.new(desk.key, b"standing" + text, hashlib.sha256).hexdigest()[:24]


def still(desk: Desk, message_id: int, seen: str) -> Still | None:
    """Whether a message stands as it was `seen`; none where the form does not say."""
    if not seen:
        return None

    def is_so(conn: Connection) -> bool:
        try:
            row, case = look(conn, desk.answers, message_id)
        except ActionRefused:
            return False
        return hmac.compare_digest(seen.encode(), standing(conn, desk, row, case).encode())

    return is_so
