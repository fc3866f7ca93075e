"""Tokens that go past the reader of a live request, as it waits."""

from __future__ import annotations

import asyncio

from gateway.requests.live_request import Attachment, Verdict
from services.core.request import FinishReason
from tests.gateway.requests.test_live_request import attached, delta, live_request


async def test_tokens_are_pushed_only_while_the_reader_waits_and_the_sink_is_ready():
    live = live_request()
    attachment = attached(live)
    pushed: list[tuple[int, ...]] = []
    is_ready = True

    def push() -> bool:
        if is_ready:
            pushed.append(live.take())
        return is_ready

    live.push = push
    live.accept(attachment, delta(0, 5))
    assert await live.next_token_ids() == (5,)
    reading = asyncio.ensure_future(live.next_token_ids())
    await asyncio.sleep(0)
    live.accept(attachment, delta(1, 6))
    assert pushed == [(6,)]
    is_ready = False
    live.accept(attachment, delta(2, 7))
    is_ready = True
    # The reader is awake by now: past it nothing may go.
    live.accept(attachment, delta(3, 8))
    assert await reading == (7, 8)
    assert pushed == [(6,)]


async def test_a_single_token_is_pushed_past_the_reader_in_order_and_else_accepted():
    live = live_request()
    attachment = attached(live)
    pushed: list[int] = []

    def push_next(token_id: int, _arrived_ns: int) -> bool:
        pushed.append(token_id)
        return token_id != 8

    live.push_next = push_next
    assert live.accept_next(attachment, 0, 5, 1) is Verdict.TAKEN
    assert await live.next_token_ids() == (5,)
    reading = asyncio.ensure_future(live.next_token_ids())
    await asyncio.sleep(0)
    assert live.accept_next(attachment, 1, 6, 1) is Verdict.PUSHED
    # One that is not taken wakes the reader, and those after it wait their turn.
    assert live.accept_next(attachment, 2, 8, 1) is Verdict.TAKEN
    assert live.accept_next(attachment, 3, 9, 1) is Verdict.TAKEN
    assert pushed == [6, 8]
    assert await reading == (8, 9)
    assert live.token_ids == [5, 6, 8, 9]


async def test_a_single_token_out_of_order_or_of_another_is_not_pushed():
    live = live_request()
    attachment = attached(live)
    live.push_next = lambda *_: True
    reading = asyncio.ensure_future(live.next_token_ids())
    await asyncio.sleep(0)
    other = Attachment(attachment.link, 9)
    assert live.accept_next(other, 0, 5, 1) is Verdict.IGNORED
    assert live.accept_next(attachment, 1, 5, 1) is Verdict.LOST
    assert live.accept_next(attachment, 0, 5, 1) is Verdict.PUSHED
    live.finish(FinishReason.STOP)
    assert await reading == ()
