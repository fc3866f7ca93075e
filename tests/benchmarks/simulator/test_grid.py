from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulator.cluster import ClusterShape
from benchmarks.simulator.grid import GridPlan, as_table, run_grid, verdict
from benchmarks.simulator.runs import Plan
from benchmarks.simulator.trace import TraceRequest, write_trace
from benchmarks.simulator.worker import WorkerShape


def figures(p90: float, hit_share: float = 0.5) -> dict[str, Any]:
    return {"ttft_ms": {"p90": p90}, "hit_share": hit_share}


def cell(load: float, **policies: dict[str, Any]) -> dict[str, Any]:
    return {
        "workers": 8,
        "load": load,
        "policies": {name.replace("_", "-"): one for name, one in policies.items()},
    }


def test_ours_is_held_against_the_best_other_and_the_baseline():
    found = verdict(
        [
            cell(0.5, tokenmill=figures(110), least_loaded=figures(100)),
            cell(0.95, tokenmill=figures(40), least_loaded=figures(100), random=figures(50, 0.6)),
        ]
    )
    assert found["cells_won"] == 1
    assert found["cells"] == 2
    assert found["against_best"]["8 workers, load 0.95"] == {"other": "random", "ratio": 0.8}
    assert found["against_baseline"] == {"8 workers, load 0.95": 0.4}
    assert found["worst_hit_gap"] == pytest.approx(10.0)


def test_every_policy_runs_in_every_cell(tmp_path: Path):
    path = tmp_path / "trace.jsonl"
    write_trace(path, [TraceRequest(idx * 0.2, 900, 5, (0, idx % 4)) for idx in range(60)])
    shape = ClusterShape((WorkerShape(),))
    grid = GridPlan(Plan(str(path), shape), num_workers=(1, 2), loads=(0.5, 0.95))
    result = run_grid(grid, ["least-loaded", "tokenmill"])
    assert [(one["workers"], one["load"]) for one in result["cells"]] == [
        (1, 0.5),
        (1, 0.95),
        (2, 0.5),
        (2, 0.95),
    ]
    assert all(set(one["policies"]) == {"least-loaded", "tokenmill"} for one in result["cells"])
    assert "2 workers, load 0.95" in as_table(result)
