"""`tokenmill bench batching`."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.batching import BatchingFailed, BatchingPlan, Machine, measure_batching
from benchmarks.children import Child, ChildFailed
from benchmarks.give_way import giving_way
from benchmarks.load_client import Reply, Server, ServerRefused
from benchmarks.prose import load_prose
from benchmarks.quiet import alone
from benchmarks.serve import Failure, LoadPlan, load_server
from benchmarks.weights import count_weights
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.cluster.state import ClusterState
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster

OP_PER_WEIGHT = 2
"""A multiplication and an addition for each weight and token."""


def batching(
    plan: BatchingPlan, *, model: str | None, quantization: str | None, prompt_words: int
) -> dict[str, Any]:
    """Measures a cluster of its own, of one worker.

    Args:
        plan: how much.
        model: as `--model` takes it; None: the default model.
        quantization: of the weights.
        prompt_words: each prompt is cut to so many.

    Raises:
        CommandFailed: the cluster cannot be started, or a request had no answer.
    """
    prompts = [" ".join(prose.text.split()[:prompt_words]) for prose in load_prose()]
    with own_cluster(model=model, quantization=quantization) as state:
        machine = _machine(state, "int8" if quantization == "int8" else "bf16")
        server = Server.from_url(state.http_url)

        async def load(requests: LoadPlan) -> tuple[Sequence[Reply | Failure], float]:
            return await load_server(server, state.model_name, prompts, requests)

        # A client that is not on the same machine would not take the worker's time either.
        try:
            with alone(), giving_way(LOW_PRIORITY):
                result = asyncio.run(measure_batching(load, machine, plan))
        except (BatchingFailed, ServerRefused, OSError) as exc:
            raise CommandFailed(f"there is nothing to compare: {exc}") from exc
    return {
        **result,
        "max_tokens": plan.max_tokens,
        "prompt_words": prompt_words,
        "model": state.model_name,
        "quantization": quantization or "none",
        "num_cpus": machine.num_cpus,
    }


def _machine(state: ClusterState, precision: str) -> Machine:
    worker = next(entry for entry in state.processes if entry.role == "worker")
    if worker.pid is None:
        raise CommandFailed("the worker did not start")
    environment = state.engine_environment
    with tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as logs:
        try:
            # The engine is not needed for what the machine can do, only its process.
            with Child(
                "the machine",
                [sys.executable, "-m", "worker.bench.engine"],
                environment={**environment, "TOKENMILL_ENGINE": "fake"},
                log_file=Path(logs) / "machine.log",
            ) as child:
                limits = child.ask({"do": "roofline"})
        except ChildFailed as exc:
            raise CommandFailed(f"the machine cannot be measured: {exc}") from exc
    weights = count_weights(Path(environment["TOKENMILL_MODEL_DIR"]))
    products = limits["gemm_gop_per_s"]
    return Machine(
        worker_pid=worker.pid,
        num_cpus=os.cpu_count() or 1,
        peak_op_per_s=1e9 * products.get(precision, max(products.values())),
        op_per_prompt_token=OP_PER_WEIGHT * weights.num_per_prompt_token,
        op_per_output_token=OP_PER_WEIGHT * weights.num_read_per_step,
    )
