"""The states of a message and of each task that it asks for, and the moves that are allowed between them."""

from enum import StrEnum


class State(StrEnum):
    """Where a message stands. The words are the ones that operators read."""

    RECEIVED = "RECEIVED"  # kept, not yet understood
    READY = "READY"  # understood; a task is due
    UPLOADING = "UPLOADING"  # the recording's file is on its way
    INTENT = "INTENT"  # the task POST may have begun; committed before its first byte
    CREATED = "CREATED"  # the API named the task
    DONE = "DONE"  # understood, no task is due
    FILTERED = "FILTERED"  # not ours, on purpose
    HELD = "HELD"  # a person must look
    RETRY = "RETRY"  # nothing was applied; a time is set
    REJECTED = "REJECTED"  # the API, or the answer to the sender, said no
    IN_DOUBT = "IN_DOUBT"  # a task may exist
    CANCELLED = "CANCELLED"


S = State
MOVES: dict[State, frozenset[State]] = {
    S.RECEIVED: frozenset({S.READY, S.DONE, S.FILTERED, S.HELD, S.REJECTED, S.CREATED, S.CANCELLED}),
    S.READY: frozenset(
        {S.UPLOADING, S.INTENT, S.CREATED, S.DONE, S.HELD, S.RETRY, S.REJECTED, S.IN_DOUBT, S.CANCELLED}
    ),
    S.UPLOADING: frozenset({S.READY, S.INTENT, S.HELD, S.RETRY, S.REJECTED, S.CANCELLED}),
    S.INTENT: frozenset({S.READY, S.CREATED, S.RETRY, S.REJECTED, S.IN_DOUBT, S.HELD}),
    S.RETRY: frozenset({S.RETRY, S.READY, S.UPLOADING, S.INTENT, S.CREATED, S.HELD, S.REJECTED, S.CANCELLED}),
    S.HELD: frozenset({S.READY, S.RECEIVED, S.DONE, S.CANCELLED}),
    S.REJECTED: frozenset({S.READY, S.RECEIVED, S.CANCELLED}),
    S.IN_DOUBT: frozenset({S.CREATED, S.READY, S.REJECTED, S.CANCELLED}),
    S.CREATED: frozenset(),
    S.DONE: frozenset(),
    S.FILTERED: frozenset(),
    S.CANCELLED: frozenset(),
}
"""The table of allowed moves.

INTENT leads back to READY where a message has a further order, or its recording a further group, to send; READY leads
to IN_DOUBT where an earlier one of the same message is in doubt and the last one needed no POST. HELD, REJECTED and
IN_DOUBT are left by a person alone: to RECEIVED where the message is to be understood anew, from IN_DOUBT to REJECTED
where that is the worst that remains once the doubt is settled."""

UNDER_WAY = frozenset({S.READY, S.UPLOADING, S.INTENT, S.RETRY})
"""Work of ours that is open: later messages of the same patient wait for it."""

SETTLED = frozenset(S) - UNDER_WAY - {S.RECEIVED}
"""The bridge does nothing more by itself: a held answer can go out."""


def allowed(before: State, after: State) -> bool:
    """Whether the table of moves has this one."""
    return after in MOVES[before]
