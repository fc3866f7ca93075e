import random
from collections.abc import Sequence

import pytest

from benchmarks.load_client import Reply
from benchmarks.serve import Failure, LoadPlan
from benchmarks.simulator.check import CheckFailed, CheckPlan, check
from benchmarks.simulator.cluster import Cluster, ClusterShape
from benchmarks.simulator.trace import TraceRequest
from benchmarks.simulator.worker import WorkerShape
from services.core.step_time import StepTimeModel

MODEL = StepTimeModel(0.02, 1e-3, 0.0, 1e-3, 0.0, max_batched_tokens=256)
HOP_S = 0.004


def shape(model: StepTimeModel = MODEL, hop_s: float = HOP_S) -> ClusterShape:
    worker = WorkerShape(model, num_blocks=400, block_size=16, max_num_seqs=8, max_requests=12)
    return ClusterShape((worker,), policy="least-loaded", hop_s=hop_s)


class FakeCluster:
    """Answers as the simulator would: what is compared with it must agree with itself."""

    def __init__(self, real: ClusterShape) -> None:
        self._real = real
        self._chance = random.Random(1)

    async def load(self, plan: LoadPlan) -> tuple[Sequence[Reply | Failure], float]:
        gap_s = 1.0 / plan.rate_per_s if plan.rate_per_s else 100.0
        trace = [
            TraceRequest(idx * gap_s, self._chance.randint(20, 300), plan.max_tokens, ())
            for idx in range(plan.num_requests)
        ]
        outcome = Cluster(self._real, trace).run()
        replies = [
            Reply(
                began=50.0 + answer.request.arrival_s,
                event_s=[answer.ttft_s, answer.latency_s],
                ended_s=answer.latency_s,
                prompt_tokens=answer.request.num_prompt,
                output_tokens=answer.request.num_output,
            )
            for answer in outcome.answered
        ]
        return replies, outcome.ended_s


async def test_a_cluster_that_is_as_simulated_shows_no_error():
    result = await check(FakeCluster(shape()).load, shape(hop_s=0.0), CheckPlan())
    assert set(result["loads"]) == {"0.5", "0.8", "2"}
    assert result["worst_error"] < 0.02
    assert result["hop_ms"] == pytest.approx(1000 * HOP_S, rel=0.05)


async def test_a_cluster_that_is_half_as_fast_shows_a_large_one():
    slow = StepTimeModel(0.04, 2e-3, 0.0, 2e-3, 0.0, max_batched_tokens=256)
    result = await check(FakeCluster(shape(slow)).load, shape(), CheckPlan())
    assert result["worst_error"] > 0.3


async def test_an_unanswered_request_leaves_nothing_to_compare():
    async def load(plan: LoadPlan) -> tuple[Sequence[Reply | Failure], float]:
        return [Failure("http 503")] * plan.num_requests, 1.0

    with pytest.raises(CheckFailed, match="http 503"):
        await check(load, shape(), CheckPlan())
