from __future__ import annotations

from dataclasses import dataclass

from services.core.request import FinishReason
from tests.worker.rig import make_request
from worker.delivery.attempts import Attempt, AttemptPhase, AttemptTable
from worker.engine.port import SequenceOutput


@dataclass
class Entry:
    attempt: Attempt


def make_attempt(handle: int = 1, attempt: int = 1) -> Attempt:
    return Attempt(make_request("req-1", "", attempt=attempt), handle)


def test_output_is_held_back_until_the_owner_takes_it_and_then_merged() -> None:
    attempt = make_attempt()
    assert attempt.take(SequenceOutput("s", 3, (7,), cached_tokens=32)) is None
    assert attempt.take(SequenceOutput("s", 4, (8, 9), FinishReason.STOP)) is None
    delta = attempt.deliver()
    assert delta is not None
    assert (delta.first_position, list(delta.token_ids)) == (3, [7, 8, 9])
    assert (delta.cached_tokens, delta.finish_reason) == (32, FinishReason.STOP)


def test_nothing_held_back_makes_no_delta() -> None:
    assert make_attempt().deliver() is None


def test_a_stopped_attempt_says_nothing() -> None:
    attempt = make_attempt()
    attempt.deliver()
    attempt.stop()
    assert attempt.take(SequenceOutput("s", 0, (7,))) is None
    assert attempt.phase is AttemptPhase.STOPPED


def test_a_stopped_attempt_may_come_again_beside_its_old_sequence() -> None:
    table: AttemptTable[Entry] = AttemptTable()
    old, new = Entry(make_attempt(handle=1)), Entry(make_attempt(handle=2))
    table.add(old)
    table.stop(old)
    assert table.of_key("req-1", 1) is None
    table.add(new)
    table.remove(old)
    assert table.of_key("req-1", 1) is new
    assert table.of_seq(old.attempt.seq_id) is None
    assert len(table) == 1
