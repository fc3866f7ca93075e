from __future__ import annotations

from services.core.delivery import Attach, NextTokens, RequestDelta, StepFrame, WorkerHello
from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason
from worker.delivery.outbox import Outbox


def test_hello_and_attaches_go_before_frames() -> None:
    outbox = Outbox(max_tokens=10)
    outbox.add(WorkerHello("worker-1"))
    outbox.add_news([RequestDelta(1, 0, (7,))], step_idx=3)
    outbox.add(Attach(2, "req-2", 1))
    assert outbox.take() == [
        WorkerHello("worker-1"),
        Attach(2, "req-2", 1),
        StepFrame(3, [RequestDelta(1, 0, (7,))]),
    ]
    assert outbox.is_empty


def test_frames_that_wait_become_one_with_an_entry_per_request() -> None:
    outbox = Outbox(max_tokens=10)
    outbox.add_news([RequestDelta(1, 0, (7,), cached_tokens=32), RequestDelta(2, 5, (1,))])
    outbox.add_news([RequestDelta(1, 1, (8,))], step_idx=2)
    outbox.add_news([RequestDelta(1, 2, (), FinishReason.STOP)], step_idx=3)
    assert outbox.take() == [
        StepFrame(
            3,
            [
                RequestDelta(1, 0, [7, 8], FinishReason.STOP, cached_tokens=32),
                RequestDelta(2, 5, (1,)),
            ],
        )
    ]


def test_single_next_tokens_stay_together_until_another_step_joins_them() -> None:
    outbox = Outbox(max_tokens=3)
    nexts = NextTokens([1, 2], [4, 9], [70, 80])
    outbox.add_news([], nexts, step_idx=1)
    assert outbox.take() == [StepFrame(1, [], nexts)]
    outbox.add_news([RequestDelta(3, 0, (5,))], nexts, step_idx=2)
    outbox.add_news([], NextTokens([2], [10], [81]), step_idx=3)
    assert outbox.is_over
    assert outbox.take() == [
        StepFrame(
            3, [RequestDelta(3, 0, (5,)), RequestDelta(1, 4, (70,)), RequestDelta(2, 9, [80, 81])]
        )
    ]


def test_merged_news_keep_their_logprobs() -> None:
    outbox = Outbox(max_tokens=10)
    first, second, prompt = TokenLogprobs(-1.0), TokenLogprobs(-2.0), TokenLogprobs(-3.0)
    outbox.add_news([RequestDelta(1, 0, (7,), logprobs=[first], prompt_logprobs=[prompt])])
    outbox.add_news([RequestDelta(1, 1, (8,), logprobs=[second])])
    assert outbox.take() == [
        StepFrame(
            0,
            [RequestDelta(1, 0, [7, 8], logprobs=(first, second), prompt_logprobs=[prompt])],
        )
    ]


def test_step_numbers_never_fall() -> None:
    outbox = Outbox(max_tokens=10)
    outbox.add_news([RequestDelta(1, 0, (7,))], step_idx=4)
    outbox.take()
    outbox.add_news([RequestDelta(2, 0, (7,))])
    [frame] = outbox.take()
    assert isinstance(frame, StepFrame)
    assert frame.step_idx == 4


def test_too_many_waiting_tokens_are_said() -> None:
    outbox = Outbox(max_tokens=3)
    outbox.add_news([RequestDelta(1, 0, (1, 2, 3))])
    assert not outbox.is_over
    outbox.add_news([RequestDelta(1, 3, (4,))])
    assert outbox.is_over
