"""What `tokenmill tune` does."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from benchmarks.prose import load_prose
from benchmarks.quiet import alone
from benchmarks.tuning.budget import TimeBudget
from benchmarks.tuning.goal import BadGoal, Goal, parse_goal
from benchmarks.tuning.moves import PRECISIONS
from benchmarks.tuning.report import as_json, as_markdown, broken_limits
from benchmarks.tuning.search import CannotRun, Outcome, Search
from benchmarks.tuning.workloads import WORKLOADS, Workload
from services.cli.failure import CommandFailed
from services.cli.settings_file import settings_text
from services.cli.terminal import err
from services.cli.tuning.clusters import ClusterBench

REPORT_NAME = "tune"


@dataclass(frozen=True, slots=True)
class TunePlan:
    """What the user asked for.

    Attributes:
        goal: in words; None: each workload's own.
        workloads: names, in order.
        minutes: for all of them together.
        precision: the coarsest numbers that are allowed, of PRECISIONS.
        out_dir: takes a settings file for each workload, `tune.md` and `tune.json`.
    """

    goal: str | None
    workloads: Sequence[str]
    minutes: float
    precision: str
    out_dir: Path
    model: str | None = None
    engine: str = "torch"


def tune(plan: TunePlan) -> dict[str, Any]:
    """Tunes for each workload in turn, from the default on, and writes what came of it.

    Returns:
        What `tune.json` holds.

    Raises:
        CommandFailed: the goal or another argument is wrong, or the default does not run.
    """
    goals = [(workload, _goal(plan.goal or workload.goal)) for workload in _chosen(plan)]
    plan.out_dir.mkdir(parents=True, exist_ok=True)
    # Standard output is for the result: programs read it.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    texts = [prose.text for prose in load_prose()]
    began_s = time.monotonic()
    runs: list[tuple[Workload, Outcome]] = []
    with alone(), ClusterBench(model=plan.model, engine=plan.engine, texts=texts) as bench:
        bench.keep({})
        for idx, (workload, goal) in enumerate(goals):
            left_s = plan.minutes * 60 - (time.monotonic() - began_s)
            err.print(f"{workload.name}: {workload.what}; goal: {goal.text}", style="bold")
            bench.take(workload)
            search = Search(
                goal,
                bench,
                TimeBudget(left_s / (len(goals) - idx), time.monotonic),
                precision=plan.precision,
                num_cpus=os.cpu_count() or 1,
                say=lambda text: err.print(text),
            )
            try:
                outcome = search.run({})
            except CannotRun as exc:
                raise CommandFailed(f"the default settings do not run: {exc}") from exc
            bench.forget(outcome.best)
            runs.append((workload, outcome))
            _say(outcome)
    return _written(plan, runs, time.monotonic() - began_s)


def _chosen(plan: TunePlan) -> list[Workload]:
    for name in plan.workloads:
        if name not in WORKLOADS:
            allowed = ", ".join(WORKLOADS)
            raise CommandFailed(f"--workload is {name!r}; allowed: {allowed}", exit_code=2)
    if not plan.workloads:
        raise CommandFailed(f"--workload names none of: {', '.join(WORKLOADS)}", exit_code=2)
    if plan.precision not in PRECISIONS:
        raise CommandFailed(
            f"--precision is {plan.precision!r}; allowed: {', '.join(PRECISIONS)}", exit_code=2
        )
    return [WORKLOADS[name] for name in dict.fromkeys(plan.workloads)]


def _goal(text: str) -> Goal:
    try:
        return parse_goal(text)
    except BadGoal as exc:
        raise CommandFailed(f"--goal: {exc}", exit_code=2) from exc


def _say(outcome: Outcome) -> None:
    verdict = outcome.verdict
    if verdict is None:
        err.print("  nothing was kept: the default stays")
    else:
        objective = outcome.goal.objective
        err.print(f"  against the default, {objective}: {verdict.gain - 1:+.0%}", style="bold")
    for missed in broken_limits(outcome):
        err.print(f"  the goal is missed: {missed}", style="yellow")


def _written(
    plan: TunePlan, runs: Sequence[tuple[Workload, Outcome]], seconds: float
) -> dict[str, Any]:
    facts = {
        "command": " ".join(["tokenmill", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}",
        "engine": plan.engine,
        "time": f"{seconds / 60:.1f} minutes",
    }
    result: dict[str, Any] = {**facts, "runs": [as_json(*run) for run in runs]}
    page = as_markdown(runs, facts)
    try:
        for workload, outcome in runs:
            comment = (
                f"Found by `tokenmill tune` for the {workload.name} load; goal: {outcome.goal.text}"
                f"\nUse it: tokenmill up --settings {workload.name}.toml"
            )
            path = plan.out_dir / f"{workload.name}.toml"
            path.write_text(settings_text(outcome.best, comment), encoding="utf-8")
        (plan.out_dir / f"{REPORT_NAME}.md").write_text(page, encoding="utf-8")
        (plan.out_dir / f"{REPORT_NAME}.json").write_text(
            json.dumps(result, indent=2) + "\n", encoding="utf-8"
        )
    except OSError as exc:
        raise CommandFailed(f"{plan.out_dir} cannot be written: {exc}") from exc
    err.print(f"written: {plan.out_dir}/{REPORT_NAME}.md, .json and a settings file of each load")
    return result
