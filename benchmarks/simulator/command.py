"""The command line of the simulator."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.simulator.cluster import ClusterShape
from benchmarks.simulator.grid import FLEETS, LOADS, GridPlan, as_table, run_grid
from benchmarks.simulator.report import Slo
from benchmarks.simulator.runs import Plan, simulate
from benchmarks.simulator.synthetic import PREFIX, SHAPES
from benchmarks.simulator.trace import BadTrace
from benchmarks.simulator.worker import WorkerShape
from services.core.step_time import StepTimeModel
from services.scheduler.policies.registry import POLICIES

ALL = "all"
WAITING_PLACES = 4
"""As on a worker by default."""

BUNDLED_TRACE = Path(__file__).parents[1] / "data" / "mooncake-conversation.jsonl.gz"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a mistake of the caller is one sentence and status 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        plan = _plan(options)
    except (OSError, ValueError, TypeError) as exc:
        parser.error(str(exc))
    policies = POLICIES if options.policy == ALL else tuple(options.policy.split(","))
    unknown = [policy for policy in policies if policy not in POLICIES]
    if unknown:
        parser.error(f"policy is {unknown[0]!r}; known: {', '.join(POLICIES)}, {ALL}")
    try:
        if options.grid:
            grid = GridPlan(plan, tuple(options.fleets), tuple(options.loads))
            result = run_grid(grid, policies)
        else:
            result = simulate(plan, policies)
    except (OSError, BadTrace) as exc:
        parser.error(f"{options.trace}: {exc}")
    if options.plot is not None:
        from benchmarks.simulator.plot import plot, plot_grid

        (plot_grid if options.grid else plot)(result, options.plot)
    if options.json:
        json.dump(result, sys.stdout)
        sys.stdout.write("\n")
    elif options.grid:
        print(as_table(result))
    else:
        _print_table(result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenmill simulate",
        description="Replays a trace under a virtual clock with the real scheduling code.",
    )
    parser.add_argument(
        "--trace",
        default=str(BUNDLED_TRACE),
        help=f"JSON lines, gzip or not; or {PREFIX}{{{','.join(SHAPES)}}}",
    )
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--policy", default=ALL, help=f"one, several with commas, or {ALL}")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--rate", type=float, help="requests per second; default: the trace's own")
    rate.add_argument(
        "--load", type=float, help="share of what least-loaded can carry, such as 0.95"
    )
    parser.add_argument(
        "--grid",
        action="store_true",
        help="every policy at each of --loads on each of --fleets, instead of one load and fleet",
    )
    parser.add_argument("--loads", type=_numbers(float), default=LOADS)
    parser.add_argument("--fleets", type=_numbers(int), default=FLEETS)
    parser.add_argument("--blocks", type=int, default=1_000, help="K/V blocks per worker")
    parser.add_argument("--block-size", type=int, default=512, help="tokens per block of the trace")
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument(
        "--max-requests",
        type=int,
        help="running and waiting, each; default: 4 beyond --max-num-seqs",
    )
    parser.add_argument(
        "--itl-target-ms", type=float, default=1000 * WorkerShape().itl_target_s, help="0: none"
    )
    parser.add_argument("--schedulers", type=int, default=1)
    parser.add_argument("--max-queued", type=int, default=20_000)
    parser.add_argument("--deadline-s", type=float, default=600.0, help="for the first token")
    parser.add_argument("--slo-ttft-ms", type=float, default=5_000.0)
    parser.add_argument("--slo-tpot-ms", type=float, default=100.0)
    parser.add_argument("--step-model", type=Path, help="JSON, as `tokenmill calibrate` writes it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="OUT.png")
    return parser


def _numbers(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    def read(text: str) -> list[float]:
        numbers = [kind(part) for part in text.split(",")]
        if min(numbers) <= 0:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: positive numbers, by commas")
        return numbers

    read.__name__ = "list of numbers"
    return read


def _plan(options: argparse.Namespace) -> Plan:
    if options.max_requests is None:
        options.max_requests = options.max_num_seqs + WAITING_PLACES
    for name in ("workers", "blocks", "block_size", "max_num_seqs", "max_requests", "schedulers"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}; allowed: at least 1")
    worker = WorkerShape(
        model=_step_model(options.step_model),
        num_blocks=options.blocks,
        block_size=options.block_size,
        max_num_seqs=options.max_num_seqs,
        max_requests=options.max_requests,
        itl_target_s=options.itl_target_ms / 1000,
    )
    return Plan(
        trace=options.trace,
        shape=ClusterShape(
            shapes=(worker,) * options.workers,
            num_schedulers=options.schedulers,
            max_queued=options.max_queued,
            deadline_s=options.deadline_s,
            seed=options.seed,
        ),
        requests_per_s=options.rate,
        load=options.load,
        slo=Slo(options.slo_ttft_ms / 1000, options.slo_tpot_ms / 1000),
    )


def _step_model(path: Path | None) -> StepTimeModel:
    if path is None:
        return StepTimeModel()
    written: dict[str, Any] = json.loads(path.read_text())
    known = {field.name for field in fields(StepTimeModel)}
    return StepTimeModel(**{name: value for name, value in written.items() if name in known})


def _print_table(result: dict[str, Any]) -> None:
    print(
        f"{result['workers']} workers, {result['requests_per_s']} requests/s, "
        f"{result['wall_s']} s here"
    )
    print(
        f"{'policy':16}{'TTFT p50':>10}{'p90':>10}{'p99':>10}{'lat. p90':>10}"
        f"{'hits':>8}{'goodput/s':>11}{'rejected':>10}{'imbalance':>11}"
    )
    for name, figures in result["policies"].items():
        ttft, latency = figures["ttft_ms"], figures["latency_ms"]
        print(
            f"{name:16}{ttft['p50']:10.0f}{ttft['p90']:10.0f}{ttft['p99']:10.0f}"
            f"{latency['p90']:10.0f}{figures['hit_share']:8.1%}{figures['goodput_rps']:11.2f}"
            f"{figures['rejected']:10}{figures['worker_imbalance']:11.2f}"
        )
