"""`tokenmill bench simulation`: the simulator against the cluster that it simulates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from benchmarks.calibration import CalibrationPlan
from benchmarks.give_way import giving_way
from services.cli.bench.module import run_module
from services.cli.calibrate import calibrate_worker
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.own_cluster import own_cluster

_TIMEOUT_S = 1800.0


def check_simulation(
    plan: Mapping[str, Any],
    calibration: CalibrationPlan,
    *,
    model: str | None,
    engine: str,
    num_workers: int,
) -> dict[str, Any]:
    """Calibrates, starts a cluster, loads it, simulates the same.

    Args:
        plan: fields of `benchmarks.simulator.check.CheckPlan`.
        calibration: how much is measured of the engine alone.
        model: as `--model` takes it.
        engine: of the workers.
        num_workers: of the cluster.

    Raises:
        CommandFailed: the cluster cannot be started, or does not answer all requests.
    """
    with own_cluster(model=model, engine=engine, num_workers=num_workers) as state:
        found = calibrate_worker(state.engine_environment, calibration)
        wanted = {
            "url": state.http_url,
            "model": state.model_name,
            "calibrated": found,
            "num_workers": num_workers,
            "plan": dict(plan),
        }
        # A client that is not on the same machine would not take the worker's time either.
        with giving_way(LOW_PRIORITY):
            measured = run_module(
                "benchmarks.simulator.check_command",
                wanted,
                timeout_s=_TIMEOUT_S,
                lacking="nothing to compare",
            )
    return {
        **measured,
        "step_model": found,
        "num_workers": num_workers,
        "model": state.model_name,
        "engine": engine,
        "num_cpus": os.cpu_count(),
    }
