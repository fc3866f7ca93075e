"""All policies at several loads on several fleets, in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.simulator.runs import Plan, load_trace, run_policy
from benchmarks.simulator.runs import capacity_rps as capacity_of

OURS, BASELINE = "tokenmill", "least-loaded"
NEAR_FULL = 0.95
"""The load at which ours is held against half of the baseline's time."""

FLEETS = (8, 64)
LOADS = (0.5, 0.8, NEAR_FULL, 1.2)


@dataclass(frozen=True, slots=True)
class GridPlan:
    """What is compared.

    Attributes:
        plan: trace, objectives, and the shape of which each fleet takes the first worker.
        num_workers: of each fleet.
        loads: shares of what `least-loaded` carries on that fleet: of the requests/s that leave it
            when more come in than any policy could carry.
        num_processes: that run beside each other; 0: as many as there are CPUs.
    """

    plan: Plan
    num_workers: tuple[int, ...] = FLEETS
    loads: tuple[float, ...] = LOADS
    num_processes: int = 0


def run_grid(grid: GridPlan, policies: Sequence[str]) -> dict[str, Any]:
    """Runs every policy in every cell.

    Returns:
        Cells with figures by policy, and what they say about ours.
    """
    began = time.perf_counter()
    fleets = [_fleet(grid.plan, num_workers) for num_workers in grid.num_workers]
    num_processes = grid.num_processes or os.cpu_count() or 1
    with ProcessPoolExecutor(num_processes) as executor:
        capacities = list(executor.map(_capacity_rps, fleets))
        keys = [(idx, load) for idx in range(len(fleets)) for load in grid.loads]
        # The large fleets take longest: they begin.
        keys.reverse()
        running = {
            key: {
                policy: executor.submit(
                    run_policy,
                    replace(fleets[key[0]], requests_per_s=capacities[key[0]] * key[1]),
                    policy,
                )
                for policy in policies
            }
            for key in keys
        }
        cells = [
            {
                "workers": grid.num_workers[idx],
                "load": load,
                "requests_per_s": round(capacities[idx] * load, 3),
                "policies": {name: run.result() for name, run in running[idx, load].items()},
            }
            for idx, load in reversed(keys)
        ]
    return {
        "trace": grid.plan.trace,
        "cells": cells,
        "verdict": verdict(cells),
        "wall_s": round(time.perf_counter() - began, 2),
    }


def verdict(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How ours stands: against the best other policy in each cell, and against the baseline.

    Returns:
        Nothing where ours was not run. `against_best`: TTFT p90 over the best other's, by cell.
        `worst_hit_gap`: points of hit share behind the best, at most.
    """
    against_best: dict[str, dict[str, Any]] = {}
    against_baseline: dict[str, float] = {}
    worst_hit_gap = 0.0
    for cell in cells:
        figures = cell["policies"]
        others = {name: _p90(one) for name, one in figures.items() if name != OURS}
        if OURS not in figures or not others:
            continue
        name = f"{cell['workers']} workers, load {cell['load']:g}"
        ours, best = figures[OURS], min(others, key=others.__getitem__)
        against_best[name] = {"other": best, "ratio": _ratio(_p90(ours), others[best])}
        if cell["load"] == NEAR_FULL and BASELINE in others:
            against_baseline[name] = _ratio(_p90(ours), others[BASELINE])
        most_hits = max(one["hit_share"] for one in figures.values())
        worst_hit_gap = max(worst_hit_gap, 100 * (most_hits - ours["hit_share"]))
    return {
        "against_best": against_best,
        "against_baseline": against_baseline,
        "worst_hit_gap": round(worst_hit_gap, 2),
        "cells_won": sum(one["ratio"] <= 1 for one in against_best.values()),
        "cells": len(against_best),
    }


def as_table(result: Mapping[str, Any]) -> str:
    """The result for people: a row for each cell and policy."""
    lines = [
        f"{'workers':>7} {'load':>5} {'policy':16}{'TTFT p50':>10}{'p90':>10}{'p99':>10}"
        f"{'hits':>8}{'goodput/s':>11}{'rejected':>10}{'imbalance':>11}"
    ]
    for cell in result["cells"]:
        for name, figures in cell["policies"].items():
            ttft = figures["ttft_ms"]
            lines.append(
                f"{cell['workers']:7} {cell['load']:5g} {name:16}{ttft['p50']:10.0f}"
                f"{ttft['p90']:10.0f}{ttft['p99']:10.0f}{figures['hit_share']:8.1%}"
                f"{figures['goodput_rps']:11.2f}{figures['rejected']:10}"
                f"{figures['worker_imbalance']:11.2f}"
            )
    found = result["verdict"]
    for name, one in found["against_best"].items():
        baseline = found["against_baseline"].get(name)
        beside = "" if baseline is None else f"; {baseline:g} of {BASELINE}"
        lines.append(f"{name}: TTFT p90 {one['ratio']:g} of the best other, {one['other']}{beside}")
    lines.append(
        f"{found['cells_won']} of {found['cells']} cells; hit share at most"
        f" {found['worst_hit_gap']} points behind; {result['wall_s']} s here"
    )
    return "\n".join(lines)


def _fleet(plan: Plan, num_workers: int) -> Plan:
    worker = plan.shape.shapes[0]
    return replace(plan, load=None, shape=replace(plan.shape, shapes=(worker,) * num_workers))


def _capacity_rps(plan: Plan) -> float:
    return capacity_of(plan.shape, load_trace(plan.trace))


def _p90(figures: Mapping[str, Any]) -> float:
    return figures["ttft_ms"]["p90"]


def _ratio(ours: float, other: float) -> float:
    return round(ours / max(1e-9, other), 4)
