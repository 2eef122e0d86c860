"""Who waits for an answer gets it, in whatever order the commits of several processes are told."""

import asyncio

import pytest

from bridge.domain.states import State
from bridge.receive.replies import REMEMBERED, Replies
from bridge.store.port import Notice


def expected(message_id: int, ticket: int, state: State = State.RECEIVED) -> Notice:
    return Notice("expected", message_id, (ticket, state, "cardio"))


async def is_told(replies: Replies, ticket: int) -> bool:
    """Whether something came for the ticket, and not the end of its time."""
    try:
        async with asyncio.timeout(0):
            await replies.wait(ticket, 60)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("answer", [b"MSA|AA", None])
async def test_f40_a_message_that_another_process_settled_before_we_heard_of_keeping_it(answer: bytes | None) -> None:
    replies = Replies()
    first, second = replies.ticket(), replies.ticket()
    replies.hear([Notice("settled", 7, answer)])
    replies.hear([expected(7, first), Notice("received", 7)])
    assert await is_told(replies, first)
    assert await replies.wait(first, 0) == answer
    replies.hear([expected(8, second)])
    assert not await is_told(replies, second), "never the answer of another message"


async def test_f40_the_same_message_on_two_connections_of_which_one_is_heard_of_late() -> None:
    replies = Replies()
    first, second = replies.ticket(), replies.ticket()
    replies.hear([expected(7, first)])
    replies.hear([Notice("settled", 7, b"MSA|AA")])
    replies.hear([expected(7, second)])
    assert await replies.wait(first, 0) == await replies.wait(second, 0) == b"MSA|AA"


@pytest.mark.parametrize("topic", ["ready", "received"])
async def test_what_a_person_let_go_on_is_waited_for_anew(topic: str) -> None:
    replies = Replies()
    ticket = replies.ticket()
    replies.hear([Notice("settled", 7, None), Notice(topic, 7)])
    replies.hear([expected(7, ticket, State.READY)])
    assert not await is_told(replies, ticket)


async def test_those_that_settled_last_are_remembered_and_no_more() -> None:
    replies = Replies()
    replies.hear([Notice("settled", 1, b"old")])
    replies.hear([Notice("settled", number, b"%d" % number) for number in range(2, REMEMBERED + 1)])
    replies.hear([Notice("settled", 1, b"1")])  # once more: the newest
    replies.hear([Notice("settled", 0, b"0")])
    tickets = {number: replies.ticket() for number in (0, 1, 2, 3)}
    replies.hear([expected(number, ticket) for number, ticket in tickets.items()])
    assert [await is_told(replies, tickets[number]) for number in (0, 1, 2, 3)] == [True, True, False, True]
    assert await replies.wait(tickets[1], 0) == b"1"
    for ticket in tickets.values():
        replies.forget(ticket)
