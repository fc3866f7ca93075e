"""One comparison: `python -m benchmarks.simulator.check_command`, JSON in, figures out.

stdin holds what is to be compared, stdout the errors.

A process of its own: it stands above the scheduler and the worker, so the command line, which is a
process as they are, cannot import it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from benchmarks.load_client import Reply, Server, ServerRefused
from benchmarks.prose import load_prose
from benchmarks.serve import Failure, LoadPlan, load_server
from benchmarks.simulator.check import CheckFailed, CheckPlan, check
from benchmarks.simulator.cluster import ClusterShape
from benchmarks.simulator.worker import WorkerShape
from services.core.step_time import StepTimeModel


def cluster_shape(calibrated: Mapping[str, Any], num_workers: int) -> ClusterShape:
    """What stands for a cluster of such workers in the simulator."""
    shape = calibrated["shape"]
    terms = {field.name: calibrated[field.name] for field in fields(StepTimeModel)}
    worker = WorkerShape(
        model=StepTimeModel(**terms),
        num_blocks=shape["num_blocks"],
        block_size=shape["block_size"],
        max_num_seqs=shape["max_num_seqs"],
        max_requests=shape["max_requests"],
        itl_target_s=shape["itl_target_ms"] / 1000,
    )
    return ClusterShape(shapes=(worker,) * num_workers)


def main() -> int:
    """The program; returns its exit status."""
    wanted: dict[str, Any] = json.load(sys.stdin)
    server = Server.from_url(wanted["url"])
    prompts = [prose.text for prose in load_prose()]

    async def load(plan: LoadPlan) -> tuple[Sequence[Reply | Failure], float]:
        return await load_server(server, wanted["model"], prompts, plan)

    plan = CheckPlan(**{**wanted["plan"], "loads": tuple(wanted["plan"]["loads"])})
    shape = cluster_shape(wanted["calibrated"], wanted["num_workers"])
    try:
        result = asyncio.run(check(load, shape, plan))
    except (CheckFailed, ServerRefused, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
