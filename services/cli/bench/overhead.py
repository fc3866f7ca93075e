"""`tokenmill bench overhead`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.overhead import OverheadPlan, load_prompts, measure_overhead
from benchmarks.sides import EngineSide, StackSide
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.cluster.state import ClusterState, read_state
from services.cli.own_cluster import own_cluster
from services.cli.terminal import err


def overhead(
    plan: OverheadPlan,
    *,
    model: str | None,
    engine: str,
    dtype: str | None,
    state_dir: Path,
) -> dict[str, Any]:
    """Measures on the cluster that runs, or on one of its own.

    Raises:
        CommandFailed: there is no cluster and none can be started, or a side fails.
    """
    with _cluster(state_dir, model, engine, dtype) as state, contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenmill-bench-")))
        inside = stack.enter_context(
            EngineSide(state.engine_environment, log_file=logs / "engine.log")
        )
        outside = StackSide(state.http_url, state.model_name, plan.concurrency)
        stack.callback(outside.close)
        # A client that is not on the same machine would not take the worker's time either.
        os.nice(LOW_PRIORITY)
        figures = measure_overhead(outside, inside, plan, prompts=load_prompts())
        return {
            **figures,
            "concurrency": plan.concurrency,
            "max_tokens": plan.max_tokens,
            "model": state.model_name,
            "engine": state.engine_environment["TOKENMILL_ENGINE"],
            "num_workers": sum(process.role == "worker" for process in state.processes),
            "num_cpus": os.cpu_count(),
        }


@contextlib.contextmanager
def _cluster(
    state_dir: Path, model: str | None, engine: str, dtype: str | None
) -> Iterator[ClusterState]:
    state = read_state(state_dir)
    if state is not None and state.is_alive():
        err.print(f"measuring the cluster at {state.http_url}")
        yield state
        return
    with own_cluster(model=model, engine=engine, dtype=dtype) as state:
        yield state
