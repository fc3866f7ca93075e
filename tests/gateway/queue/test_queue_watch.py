"""What gateways make of the schedulers' words."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.queue.dead_letter_watch import DeadLetterWatch
from gateway.queue.queue_watch import QueueWatch
from gateway.queue.refusal_watch import RefusalWatch
from gateway.requests.live_request import LiveRequest
from gateway.requests.live_requests import LiveRequests
from services.core.dead_letter import DeadLetter, DeathReason
from services.core.errors import Overloaded
from services.core.queue_status import BandStatus, QueueStatus
from services.core.request import TraceContext
from services.wire.dead_letter import encode_dead_letter
from services.wire.queue import encode_refusal
from services.wire.queue_status import encode_queue_status
from tests.services.scheduler.requests import LANE, MODEL, queued


def message(payload: bytes) -> Any:
    return cast(Any, SimpleNamespace(data=payload))


async def watch_of(depth: int, *, per_s: float) -> QueueWatch:
    watch = QueueWatch()
    status = QueueStatus(MODEL, "s", {"interactive": BandStatus(per_s, 0)}, {LANE: depth})
    await watch.on_message(message(encode_queue_status(status)))
    return watch


async def test_schedulers_that_speak_are_known_by_name():
    assert QueueWatch().schedulers() == []
    assert (await watch_of(depth=0, per_s=1.0)).schedulers() == ["s"]


async def test_a_request_that_cannot_begin_in_time_is_refused_with_the_time_to_wait():
    watch = await watch_of(depth=99, per_s=5.0)
    soon = queued("a", deadline_unix_ms=int(time.time() * 1000) + 5_000)
    with pytest.raises(Overloaded, match="19\\.8 s") as refused:
        watch.check_deadline(soon)
    assert refused.value.retry_after_s == 20
    watch.check_deadline(queued("b", deadline_unix_ms=int(time.time() * 1000) + 30_000))


async def test_nothing_is_refused_while_nothing_is_known():
    QueueWatch().check_deadline(queued("a", deadline_unix_ms=int(time.time() * 1000) + 1))
    assert QueueWatch().retry_after_s(queued("a")) is None


async def test_strange_words_are_ignored():
    watch = QueueWatch()
    await watch.on_message(message(b"\xff\xff"))
    assert watch.wait_s(queued("a")) is None


@pytest.mark.parametrize("request_id", ["a", "another"])
async def test_a_dead_letter_ends_its_request_only(request_id: str):
    live = LiveRequest(queued("a"), TraceContext())
    owned = LiveRequests(max_requests=1, max_untaken_tokens=1)
    owned.add(live)
    letter = DeadLetter(
        MODEL, request_id, None, "t", DeathReason.FAILED_SUBMISSIONS, 1, "", died_unix_ms=1
    )
    await DeadLetterWatch(owned).on_message(message(encode_dead_letter(letter)))
    assert (live.error is not None) == (request_id == "a")


@pytest.mark.parametrize("request_id", ["a", "another"])
async def test_a_refusal_ends_its_request_only(request_id: str):
    live = LiveRequest(queued("a"), TraceContext())
    owned = LiveRequests(max_requests=1, max_untaken_tokens=1)
    owned.add(live)
    watch = RefusalWatch(owned, await watch_of(depth=200, per_s=10.0))
    await watch.on_message(message(b"\xff\xff"))
    assert live.error is None
    await watch.on_message(message(encode_refusal(request_id)))
    if request_id == "another":
        assert live.error is None
    else:
        assert isinstance(live.error, Overloaded)
        assert live.error.retry_after_s == 20
