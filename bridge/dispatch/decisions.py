"""What a person decided of a message, kept with it until it is settled: it speaks before the match, for this one alone.

A choice is of an order as it stood then. Where the order was changed, merged or withdrawn since, a person looks again.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from bridge.domain.order import WITHDRAWN
from bridge.domain.patient import Identifier
from bridge.mapping.patients import demographics
from bridge.store import inbox
from bridge.store.book import BookedOrder
from bridge.store.port import Transaction

CHANGED_SINCE = "order_changed_since"
"""Reason of a HELD recording: the order that a person chose is not what it was then."""


@dataclass(frozen=True, slots=True)
class Word:
    """The person's word. `order` is the row of the chosen order, None: without one; `seen` is what it looked like.

    `as_said`: the order counts as its message says, whatever is known under its identifier by now.
    """

    order: int | None = None
    seen: str = ""
    as_said: bool = False

    def as_text(self) -> str:
        """As the message's row keeps it."""
        return json.dumps(asdict(self))

    def still_fits(self, order: BookedOrder | None, now: Identifier) -> bool:
        """Whether the chosen order is still the one that the person saw."""
        return order is not None and order.standing not in WITHDRAWN and appearance(order, now) == self.seen


def appearance(order: BookedOrder, now: Identifier) -> str:
    """A digest of whose an order is: what it says, and `now`, the identifier that counts."""
    known = demographics(order.mapped).as_json()
    said = [order.patient.value, order.patient.authority, now.value, now.authority, sorted(known.items())]
    return hashlib.sha256(json.dumps(said).encode("ascii")).hexdigest()


def word_of(tx: Transaction, message_id: int) -> Word | None:
    """What a person decided of this message; None where nobody has."""
    text = inbox.decision_of(tx.conn, message_id)
    return Word(**json.loads(text)) if text else None
