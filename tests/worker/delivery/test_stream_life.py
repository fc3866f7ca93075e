"""What ends a sequence on a worker: its owner, its stream, its deadline."""

from __future__ import annotations

import asyncio
import time

from services.core.delivery import Attached
from services.core.request import FinishReason, SubmissionOutcome
from services.core.sampling import SamplingParams
from tests.worker.conditions import until
from tests.worker.fake_gateway import FakeGateway
from tests.worker.fake_stepper import FakeStepper
from tests.worker.rig import RigOptions, make_request, rig
from worker.engine.fake_engine import FakeEngine, FakeModel, fake_token
from worker.engine.settings import EngineSettings

ACCEPTED = SubmissionOutcome.ACCEPTED


async def test_the_owners_cancel_frees_the_sequence_and_sends_nothing_more() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        await worker.submit(make_request("req-1", gateway.address))
        await until(lambda: bool(engine.specs))
        gateway.cancel("req-1")
        await until(lambda: len(worker.table) == 0)
        assert len(engine.cancelled) == 1
        assert not gateway.frames


async def test_a_lost_stream_stops_its_sequences_and_the_next_attempt_opens_another() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, FakeGateway() as other, rig(engine) as worker:
        await worker.submit(
            make_request("req-1", gateway.address), make_request("req-2", other.address)
        )
        gateway.hang_up()
        await until(lambda: len(worker.table) == 1)
        assert len(engine.cancelled) == 1
        engine.step(7)
        await until(lambda: bool(other.frames))
        [result] = await worker.submit(make_request("req-1", gateway.address, attempt=2))
        assert result.outcome is ACCEPTED
        assert len(gateway.hellos) == 2


async def test_a_gateway_that_does_not_read_loses_its_stream() -> None:
    engine = FakeStepper()
    options = RigOptions(max_queued_tokens=400_000)
    async with FakeGateway() as gateway, rig(engine, options) as worker:
        await worker.submit(make_request("req-1", gateway.address))
        await until(lambda: bool(engine.specs))
        gateway.reads.clear()
        # More than the transport takes on its own.
        for _ in range(8):
            engine.step(*range(200_000))
        await until(lambda: len(worker.table) == 0)
        assert len(engine.cancelled) == 1


async def test_a_deadline_stops_a_running_sequence() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        soon_ms = int(time.time() * 1000) + 200
        [result] = await worker.submit(
            make_request("req-1", gateway.address, deadline_unix_ms=soon_ms)
        )
        assert result.outcome is ACCEPTED
        await until(lambda: len(worker.table) == 0)
        assert len(engine.cancelled) == 1


async def test_a_submit_that_is_cancelled_leaves_attached_requests_running() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        gateway.answer = lambda attach: (
            Attached(attach.handle) if attach.request_id == "req-1" else None
        )
        batch = [make_request(f"req-{i}", gateway.address) for i in (1, 2)]
        submitting = asyncio.create_task(worker.submit(*batch))
        await until(lambda: len(gateway.attaches) == 2 and len(engine.specs) == 2)
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        engine.step(7)
        await until(lambda: bool(gateway.frames))
        assert gateway.token_ids("req-1") == [7]


async def test_an_impossible_request_ends_with_an_error_at_its_owner() -> None:
    async with FakeGateway() as gateway, rig(FakeEngine()) as worker:
        [result] = await worker.submit(
            make_request("req-1", gateway.address, prompt_token_ids=(10**6,))
        )
        assert result.outcome is ACCEPTED
        await until(lambda: gateway.finish_reason("req-1") is FinishReason.ERROR)
        assert "1000000" in gateway.deltas("req-1")[-1].error_message


async def test_many_requests_at_once_all_arrive_whole() -> None:
    engine = FakeEngine(settings=EngineSettings(max_num_seqs=8))
    async with FakeGateway() as gateway, rig(engine, RigOptions(max_requests=40)) as worker:
        sampling = SamplingParams(max_tokens=20, temperature=0.0, seed=1)
        requests = [
            make_request(
                f"req-{i}", gateway.address, prompt_token_ids=tuple(range(5, 8 + i)),
                sampling=sampling,
            )
            for i in range(32)
        ]  # fmt: skip
        results = await worker.submit(*requests)
        assert {result.outcome for result in results} == {ACCEPTED}
        await until(lambda: all(gateway.finish_reason(f"req-{i}") for i in range(32)))
        for request in requests:
            expected = [
                fake_token(FakeModel(), request.prompt_token_ids, None, position)
                for position in range(20)
            ]
            assert gateway.token_ids(request.request_id) == expected


async def test_an_idle_stream_is_closed_and_opened_again_when_needed() -> None:
    options = RigOptions(idle_s=0.1)
    async with FakeGateway() as gateway, rig(FakeEngine(), options) as worker:
        await worker.submit(make_request("req-1", gateway.address))
        await until(lambda: gateway.finish_reason("req-1") is not None)
        await until(lambda: gateway.num_open == 0)
        [result] = await worker.submit(make_request("req-2", gateway.address))
        assert result.outcome is ACCEPTED
        await until(lambda: gateway.finish_reason("req-2") is not None)
