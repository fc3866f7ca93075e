"""`tokenmill bench profiles`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from benchmarks.profiles import DEFAULT, as_json, as_table
from benchmarks.prose import load_prose
from benchmarks.quiet import alone
from benchmarks.tuning.figures import Figures, together
from benchmarks.tuning.search import CannotRun
from benchmarks.tuning.workloads import WORKLOADS
from services.cli.failure import CommandFailed
from services.cli.profiles import PROFILES, profile_settings
from services.cli.settings_file import PREFIX
from services.cli.terminal import err
from services.cli.tuning.clusters import ClusterBench


def profiles(
    loads: Sequence[str], *, num_rounds: int, model: str | None, engine: str
) -> tuple[dict[str, Any], list[str]]:
    """Measures default and profiles in turn.

    Returns:
        Figures as JSON, and the table.

    Raises:
        CommandFailed: a load is unknown, or a cluster does not run.
    """
    for name in loads:
        if name not in WORKLOADS:
            allowed = ", ".join(WORKLOADS)
            raise CommandFailed(f"--loads is {name!r}; allowed: {allowed}", exit_code=2)
    if not loads:
        raise CommandFailed(f"--loads names none of: {', '.join(WORKLOADS)}", exit_code=2)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings: dict[str, dict[str, str]] = {DEFAULT: {}}
    for profile in PROFILES:
        variables = profile_settings(profile)
        settings[profile] = {k.removeprefix(PREFIX).lower(): v for k, v in variables.items()}
    windows: dict[str, dict[str, list[Figures]]] = {
        profile: {load: [] for load in loads} for profile in settings
    }
    texts = [prose.text for prose in load_prose()]
    with alone(), ClusterBench(model=model, engine=engine, texts=texts) as bench:
        try:
            idle_mib = {name: bench.memory_mib(fields) for name, fields in settings.items()}
            bench.take(WORKLOADS[loads[0]])
            for fields in settings.values():
                bench.warm_up(fields)
            for load in loads:
                bench.take(WORKLOADS[load])
                for idx in range(num_rounds):
                    names = list(settings)
                    # Nobody has the same neighbour in each round.
                    for name in names[idx % len(names) :] + names[: idx % len(names)]:
                        windows[name][load].append(bench.window(settings[name])[0])
                    err.print(f"{load}: round {idx + 1} of {num_rounds}")
        except CannotRun as exc:
            raise CommandFailed(str(exc)) from exc
    figures = {
        name: {load: together(each) for load, each in by_load.items()}
        for name, by_load in windows.items()
    }
    result = {
        **as_json(figures, idle_mib),
        "loads": {load: WORKLOADS[load].what for load in loads},
        "num_rounds": num_rounds,
        "num_cpus": os.cpu_count(),
    }
    return result, as_table(figures, idle_mib)


def profiles_page(table: str, result: dict[str, Any]) -> str:
    """The page that holds the table."""
    loads = "; ".join(f"{name}: {what}" for name, what in result["loads"].items())
    return (
        "# Profiles beside the default\n\n"
        f"`tokenmill bench profiles --out docs/benchmarks`, {result['num_cpus']} CPUs, no GPU,"
        f" windows of each load on each, in turn: {result['num_rounds']}. {loads}. Prompts are"
        " cached nowhere but within a conversation. Memory is that of all processes (shared pages"
        f" counted in part).\n\n{table}\n"
    )
