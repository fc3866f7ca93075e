import os
from collections.abc import Sequence

import pytest

from benchmarks.batching import BatchingFailed, BatchingPlan, Machine, as_table, measure_batching
from benchmarks.load_client import Reply
from benchmarks.serve import Failure, LoadPlan

MACHINE = Machine(
    os.getpid(), num_cpus=2, peak_op_per_s=1e12, op_per_prompt_token=1e8, op_per_output_token=2e8
)
PLAN = BatchingPlan(sizes=(1, 8), num_rounds=2, max_tokens=4)


async def ideal(plan: LoadPlan) -> tuple[Sequence[Reply | Failure], float]:
    """A batch takes as long as one."""
    replies = [
        Reply(0.0, [0.1, 0.5], 0.5, prompt_tokens=10, output_tokens=plan.max_tokens)
        for _ in range(plan.num_requests)
    ]
    return replies, 0.5 * plan.num_requests / plan.concurrency


async def test_batches_are_compared_with_one_at_a_time():
    result = await measure_batching(ideal, MACHINE, PLAN)
    assert result["1"]["requests_per_s"] == pytest.approx(2.0)
    assert result["8"]["requests_per_s"] == pytest.approx(16.0)
    assert result["8"]["latency_ms_p50"] == pytest.approx(500.0)
    assert result["gain"]["8"] == {"requests_per_s": 8.0, "latency": 1.0}
    assert "8.00x at 1.00x" in as_table(result)


async def test_use_of_the_machine_counts_prompt_and_output():
    result = await measure_batching(ideal, MACHINE, PLAN)
    op_per_request = 10 * 1e8 + 4 * 2e8
    assert result["8"]["utilisation"] == pytest.approx(16 * op_per_request / 1e12, rel=0.01)


async def test_an_unanswered_request_leaves_nothing_to_compare():
    async def load(plan: LoadPlan) -> tuple[Sequence[Reply | Failure], float]:
        return [Failure("http 503")], 1.0

    with pytest.raises(BatchingFailed, match="http 503"):
        await measure_batching(load, MACHINE, PLAN)
