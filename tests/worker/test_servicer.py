"""Submit, attach and deliver, over real gRPC with a fake gateway."""

from __future__ import annotations

import asyncio

import pytest

from services.core.delivery import Attached
from services.core.errors import Overloaded
from services.core.request import FinishReason, SubmissionOutcome
from services.wire.worker import submit_request_to_pb
from tests.worker.conditions import until
from tests.worker.fake_gateway import FakeGateway, gone
from tests.worker.fake_stepper import FakeStepper
from tests.worker.rig import RigOptions, make_request, rig
from worker.engine.fake_engine import FakeEngine, FakeModel, fake_token
from worker.servicer import WorkerServicer

ACCEPTED = SubmissionOutcome.ACCEPTED


async def test_an_accepted_request_is_delivered_whole_and_in_order() -> None:
    async with FakeGateway() as gateway, rig(FakeEngine()) as worker:
        request = make_request("req-1", gateway.address)
        [result] = await worker.submit(request)
        assert result.outcome is ACCEPTED
        await until(lambda: gateway.finish_reason("req-1") is not None)
        prompt = request.prompt_token_ids
        expected = [fake_token(FakeModel(), prompt, None, position) for position in range(8)]
        assert gateway.token_ids("req-1") == expected
        assert gateway.finish_reason("req-1") is FinishReason.LENGTH
        assert [hello.worker_id for hello in gateway.hellos] == ["worker-1"]
        await until(lambda: len(worker.table) == 0)


async def test_results_come_in_the_order_of_the_batch_with_the_load_after_it() -> None:
    async with FakeGateway() as gateway, rig(FakeStepper()) as worker:
        gateway.answer = lambda attach: (
            gone(attach) if attach.request_id == "req-1" else Attached(attach.handle)
        )
        batch = [make_request(f"req-{i}", gateway.address) for i in range(3)]
        results, load = await worker.submit_for_load(*batch)
        assert [result.request_id for result in results] == ["req-0", "req-1", "req-2"]
        assert [result.outcome for result in results] == [
            ACCEPTED,
            SubmissionOutcome.GONE,
            ACCEPTED,
        ]
        assert load.num_running + load.num_waiting == 2


async def test_all_requests_of_a_gateway_share_one_stream_and_one_frame_per_step() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        await worker.submit(*(make_request(f"req-{i}", gateway.address) for i in range(4)))
        engine.step(7)
        await until(lambda: len(gateway.frames) == 1)
        engine.step(8)
        await until(lambda: len(gateway.frames) == 2)
        assert [len(frame.deltas) + len(frame.nexts) for frame in gateway.frames] == [4, 4]
        assert gateway.frames[0].step_idx < gateway.frames[1].step_idx
        assert len(gateway.hellos) == 1


async def test_two_gateways_get_separate_frames() -> None:
    engine = FakeStepper()
    async with FakeGateway() as one, FakeGateway() as two, rig(engine) as worker:
        await worker.submit(make_request("req-1", one.address), make_request("req-2", two.address))
        engine.step(7)
        await until(lambda: bool(one.frames) and bool(two.frames))
        assert one.token_ids("req-1") == [7]
        assert two.token_ids("req-2") == [7]
        assert not one.deltas("req-2")


async def test_prefill_starts_before_the_owner_answers_and_its_tokens_are_held_back() -> None:
    engine = FakeStepper()
    async with FakeGateway(answer=lambda _: None) as gateway, rig(engine) as worker:
        submitting = asyncio.create_task(worker.submit(make_request("req-1", gateway.address)))
        await until(lambda: bool(engine.specs) and bool(gateway.attaches))
        engine.step(7)
        engine.step(8, finish=FinishReason.LENGTH)
        assert not gateway.frames
        gateway.say(Attached(gateway.handle_of("req-1")))
        [result] = await submitting
        assert result.outcome is ACCEPTED
        await until(lambda: gateway.finish_reason("req-1") is FinishReason.LENGTH)
        assert gateway.token_ids("req-1") == [7, 8]
        assert len(gateway.frames) == 1
        await until(lambda: len(worker.table) == 0)


async def test_a_gone_owner_stops_the_sequence() -> None:
    engine = FakeStepper()
    async with FakeGateway(answer=gone) as gateway, rig(engine) as worker:
        [result] = await worker.submit(make_request("req-1", gateway.address))
        assert (result.outcome, result.reason) == (SubmissionOutcome.GONE, "nobody waits")
        await until(lambda: len(worker.table) == 0)
        assert not engine.specs


async def test_a_later_attempt_waits_for_the_delivered_tokens_and_goes_on_after_them() -> None:
    engine = FakeStepper()
    async with FakeGateway(answer=lambda _: None) as gateway, rig(engine) as worker:
        request = make_request("req-1", gateway.address, attempt=2)
        submitting = asyncio.create_task(worker.submit(request))
        await until(lambda: bool(gateway.attaches))
        assert not engine.specs
        gateway.say(Attached(gateway.handle_of("req-1"), (5, 6)))
        await submitting
        await until(lambda: bool(engine.specs))
        [spec] = engine.specs.values()
        assert tuple(spec.delivered_token_ids) == (5, 6)
        engine.step(7)
        await until(lambda: bool(gateway.frames))
        assert gateway.deltas("req-1")[0].first_position == 2


async def test_the_same_attempt_again_is_answered_as_before_and_runs_once() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        request = make_request("req-1", gateway.address)
        first, second = await worker.submit(request, request)
        [third] = await worker.submit(request)
        assert first == second == third
        assert len(gateway.attaches) == 1
        assert len(engine.specs) == 1


async def test_a_full_worker_refuses() -> None:
    options = RigOptions(max_requests=2)
    async with FakeGateway() as gateway, rig(FakeStepper(), options) as worker:
        results = await worker.submit(
            *(make_request(f"req-{i}", gateway.address) for i in range(3))
        )
        assert [result.outcome for result in results] == [
            ACCEPTED,
            ACCEPTED,
            SubmissionOutcome.REFUSED,
        ]
        assert "limit is 2" in results[2].reason


async def test_another_model_is_refused() -> None:
    async with FakeGateway() as gateway, rig(FakeStepper()) as worker:
        [result] = await worker.submit(make_request("req-1", gateway.address, model="other"))
        assert result.outcome is SubmissionOutcome.REFUSED


async def test_a_request_past_its_deadline_is_gone() -> None:
    async with FakeGateway() as gateway, rig(FakeStepper()) as worker:
        [result] = await worker.submit(make_request("req-1", gateway.address, deadline_unix_ms=1))
        assert result.outcome is SubmissionOutcome.GONE
        assert not gateway.attaches


async def test_an_unreachable_owner_is_said_and_costs_no_sequence() -> None:
    engine = FakeStepper()
    async with rig(engine) as worker:
        [result] = await worker.submit(make_request("req-1", "127.0.0.1:1"))
        assert result.outcome is SubmissionOutcome.OWNER_UNREACHABLE
        await until(lambda: len(worker.table) == 0)
        assert not engine.specs


async def test_an_attempt_whose_owner_is_late_says_goodbye_and_the_others_go_on() -> None:
    engine = FakeStepper()
    options = RigOptions(attach_timeout_s=0.1)
    async with FakeGateway() as gateway, rig(engine, options) as worker:
        await worker.submit(make_request("req-1", gateway.address))
        gateway.answer = lambda _: None
        [result] = await worker.submit(make_request("req-2", gateway.address))
        assert result.outcome is SubmissionOutcome.OWNER_UNREACHABLE
        await until(lambda: gateway.finish_reason("req-2") is FinishReason.CANCELLED)
        # Too late, and harmless.
        gateway.say(Attached(gateway.handle_of("req-2")))
        engine.step(7, finish=FinishReason.STOP)
        await until(lambda: gateway.finish_reason("req-1") is FinishReason.STOP)
        await until(lambda: len(worker.table) == 0)
        assert gateway.num_open == 1


async def test_draining_refuses_new_requests_and_lets_running_ones_finish() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        await worker.submit(make_request("req-1", gateway.address))
        await until(lambda: bool(engine.specs))
        draining = asyncio.create_task(worker.runner.drain(10))
        await until(lambda: worker.runner.is_draining)
        [result] = await worker.submit(make_request("req-2", gateway.address))
        assert result.outcome is SubmissionOutcome.REFUSED
        engine.step(7, finish=FinishReason.STOP)
        await draining
        await worker.streams.close(flush_timeout_s=2)
        await until(lambda: gateway.finish_reason("req-1") is FinishReason.STOP)
        await until(lambda: gateway.num_open == 0)


async def test_a_drain_that_takes_too_long_stops_the_rest_without_a_last_word() -> None:
    engine = FakeStepper()
    async with FakeGateway() as gateway, rig(engine) as worker:
        await worker.submit(make_request("req-1", gateway.address))
        await until(lambda: bool(engine.specs))
        await worker.runner.drain(0.05)
        await worker.streams.close(flush_timeout_s=2)
        assert len(engine.cancelled) == 1
        await until(lambda: gateway.num_open == 0)
        assert not gateway.frames


async def test_a_worker_that_is_loading_says_so() -> None:
    with pytest.raises(Overloaded, match="loading"):
        await WorkerServicer().Submit(submit_request_to_pb([]), None)
