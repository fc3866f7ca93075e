import asyncio

import pytest

from gateway.requests.live_request import LiveRequest, Verdict
from services.core.delivery import Attached, GatewayMessage, Gone, RequestDelta
from services.core.errors import DeadlineExceeded, DependencyLost, TokenmillError
from services.core.logprobs import TokenLogprobs
from services.core.request import (
    MAX_ATTEMPTS,
    FinishReason,
    QueuedRequest,
    RequestClass,
    TraceContext,
)
from services.core.sampling import SamplingParams


class FakeLink:
    worker_id = "w"

    def send(self, message: GatewayMessage) -> None:
        raise AssertionError("the state machine sends nothing by itself")


LINK = FakeLink()


def live_request(max_tokens: int = 8, *, logprobs: int | None = None) -> LiveRequest:
    request = QueuedRequest(
        request_id="r",
        attempt=1,
        model="m",
        prompt_token_ids=(1, 2),
        sampling=SamplingParams(max_tokens=max_tokens, seed=0, logprobs=logprobs),
        tenant="t",
        session_id="",
        deadline_unix_ms=0,
        reply_to="",
        request_class=RequestClass.INTERACTIVE,
        accepted_unix_ms=0,
    )
    return LiveRequest(request, TraceContext())


def delta(position: int, *token_ids: int, finish: FinishReason | None = None) -> RequestDelta:
    return RequestDelta(1, position, token_ids, finish)


def attached(live: LiveRequest, attempt: int = 1):
    assert isinstance(live.attach(attempt, LINK, 1), Attached)
    assert live.attachment is not None
    return live.attachment


def test_first_attempt_attaches_with_nothing_delivered():
    assert live_request().attach(1, LINK, 7) == Attached(7, ())


def test_a_second_worker_for_the_same_attempt_is_gone():
    live = live_request()
    attached(live)
    assert isinstance(live.attach(1, LINK, 2), Gone)


@pytest.mark.parametrize("attempt", [0, 2, 99])
def test_an_attempt_that_is_not_the_live_one_is_gone(attempt: int):
    assert isinstance(live_request().attach(attempt, LINK, 1), Gone)


def test_an_ended_request_is_gone():
    live = live_request()
    live.fail(DeadlineExceeded("late"))
    assert isinstance(live.attach(1, LINK, 1), Gone)


async def test_tokens_in_order_reach_the_client_once():
    live = live_request()
    worker = attached(live)
    assert live.accept(worker, delta(0, 5)) is Verdict.TAKEN
    assert await live.next_token_ids() == (5,)
    assert live.accept(worker, delta(1, 6, 7)) is Verdict.TAKEN
    assert live.accept(worker, delta(3, 8, finish=FinishReason.STOP)) is Verdict.OVER
    assert await live.next_token_ids() == (6, 7, 8)
    assert await live.next_token_ids() == ()
    assert live.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_gap_or_a_repeat_loses_the_attempt(position: int):
    live = live_request()
    worker = attached(live)
    live.accept(worker, delta(0, 5, 6))
    assert live.accept(worker, delta(position, 9)) is Verdict.LOST
    assert live.token_ids == [5, 6]


def test_more_than_max_tokens_loses_the_attempt():
    live = live_request(max_tokens=2)
    assert live.accept(attached(live), delta(0, 1, 2, 3)) is Verdict.LOST


def test_a_lost_attempt_is_followed_by_one_that_goes_on_after_the_delivered_tokens():
    live = live_request()
    worker = attached(live)
    live.accept(worker, delta(0, 5, 6))
    following = live.lose(worker)
    assert following is not None
    assert following.attempt == 2
    assert live.attach(2, LINK, 9) == Attached(9, (5, 6))


def test_frames_of_a_lost_worker_are_ignored():
    live = live_request()
    first = attached(live)
    live.accept(first, delta(0, 5))
    live.lose(first)
    second = attached(live, attempt=2)
    assert live.accept(first, delta(1, 6)) is Verdict.IGNORED
    assert live.lose(first) is None
    assert live.accept(second, delta(1, 7)) is Verdict.TAKEN
    assert live.token_ids == [5, 7]


def test_only_the_word_of_the_end_was_lost():
    live = live_request(max_tokens=2)
    worker = attached(live)
    live.accept(worker, delta(0, 1, 2))
    assert live.lose(worker) is None
    assert live.finish_reason is FinishReason.LENGTH


def test_too_many_lost_workers_end_the_request():
    live = live_request()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        live.lose(attached(live, attempt))
    assert isinstance(live.error, DependencyLost)


def test_a_worker_that_cancels_by_itself_loses_the_attempt():
    live = live_request()
    verdict = live.accept(attached(live), delta(0, finish=FinishReason.CANCELLED))
    assert verdict is Verdict.LOST


def test_an_engine_error_ends_the_request_after_its_tokens():
    live = live_request()
    worker = attached(live)
    failed = RequestDelta(1, 0, (3,), FinishReason.ERROR, "no more memory")
    assert live.accept(worker, failed) is Verdict.OVER
    assert live.token_ids == [3]
    assert isinstance(live.error, TokenmillError)
    assert live.error.message == "no more memory"


def test_the_first_end_counts():
    live = live_request()
    live.finish(FinishReason.STOP)
    live.fail(DeadlineExceeded("late"))
    assert live.error is None


async def test_waiting_client_wakes_when_the_request_fails():
    live = live_request()
    waiting = asyncio.ensure_future(live.next_token_ids())
    await asyncio.sleep(0)
    live.fail(DeadlineExceeded("late"))
    assert await waiting == ()


def test_logprobs_are_kept_beside_their_tokens():
    live = live_request(logprobs=0)
    attachment = attached(live)
    first, second = TokenLogprobs(-1.0), TokenLogprobs(-2.0)
    told = RequestDelta(1, 0, (5,), logprobs=(first,), prompt_logprobs=(second,))
    assert live.accept(attachment, told) is Verdict.TAKEN
    assert live.accept(attachment, RequestDelta(1, 1, (6,), logprobs=(second,))) is Verdict.TAKEN
    assert live.logprobs == [first, second]
    assert live.prompt_logprobs == (second,)


def test_tokens_without_the_logprobs_asked_for_lose_the_attempt():
    live = live_request(logprobs=0)
    assert live.accept(attached(live), RequestDelta(1, 0, (5,))) is Verdict.LOST


def test_a_request_whose_attempts_end_with_their_worker_before_a_token_is_given_up():
    live = live_request()
    assert live.lose(attached(live), is_abrupt=True) is not None
    assert live.lose(attached(live, attempt=2), is_abrupt=True) is None
    assert live.has_killed_workers
    assert live.error is not None
    assert live.error.reason == "KILLED_WORKERS"


def test_attempts_that_brought_tokens_are_no_reason_to_give_up():
    live = live_request()
    for attempt in range(1, MAX_ATTEMPTS):
        worker = attached(live, attempt)
        live.accept(worker, delta(len(live.token_ids), 5))
        assert live.lose(worker, is_abrupt=True) is not None
    assert not live.has_killed_workers


def test_workers_that_said_goodbye_were_not_killed():
    live = live_request()
    for attempt in range(1, MAX_ATTEMPTS):
        assert live.lose(attached(live, attempt)) is not None


async def test_client_that_does_not_read_pauses_its_sequence_until_it_has_read():
    live = live_request(max_tokens=8)
    resumed: list[QueuedRequest] = []
    live.max_untaken, live.on_resume = 2, resumed.append
    attachment = attached(live)
    assert live.accept(attachment, delta(0, 5, 6)) is Verdict.TAKEN
    assert live.accept(attachment, delta(2, 7)) is Verdict.BEHIND
    live.pause(attachment)
    assert live.accept(attachment, delta(3, 8)) is Verdict.IGNORED
    assert await live.next_token_ids() == (5, 6, 7)
    assert resumed == []
    reading = asyncio.ensure_future(live.next_token_ids())
    await asyncio.sleep(0)
    assert [request.attempt for request in resumed] == [2]
    assert live.attach(2, LINK, 2) == Attached(2, (5, 6, 7))
    assert live.attachment is not None
    assert live.accept(live.attachment, delta(3, 8)) is Verdict.TAKEN
    assert await reading == (8,)


def test_pauses_are_no_losses():
    live = live_request(max_tokens=100)
    live.max_untaken = 0
    for position in range(2 * MAX_ATTEMPTS):
        attachment = attached(live, attempt=position + 1)
        assert live.accept(attachment, delta(position, 5)) is Verdict.BEHIND
        live.pause(attachment)
    assert live.lose(attached(live, attempt=2 * MAX_ATTEMPTS + 1)) is not None


def test_last_token_pauses_nothing():
    live = live_request(max_tokens=1)
    live.max_untaken = 0
    assert live.accept(attached(live), delta(0, 5)) is Verdict.TAKEN
