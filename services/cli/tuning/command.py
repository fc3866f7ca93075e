"""`tokenmill tune`: its flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import flags


def tune(
    goal: Annotated[
        str | None,
        typer.Option(
            help='For example "p95 ttft < 300ms, max throughput": limits, and one thing to push.'
            " Metrics: ttft, itl, tpot, latency (mean, p50 .. p99.9), throughput, memory."
            " Default: each load's own.",
            show_default=False,
        ),
    ] = None,
    workload: Annotated[
        str, typer.Option(help="Loads to tune for, by commas: chat, batch, mixed.")
    ] = "chat",
    minutes: Annotated[float, typer.Option(min=0.5, help="For all loads together.")] = 5.0,
    precision: Annotated[
        str, typer.Option(help="How coarse numbers may become: kept, int8 or int4.")
    ] = "int8",
    out: Annotated[Path, typer.Option(help="Folder for settings files and report.")] = Path(
        "tuned"
    ),
    as_json: flags.AsJson = False,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
) -> None:
    """Finds better settings by measurement, on clusters of its own, one change at a time."""
    from services.cli.tuning.tune import TunePlan
    from services.cli.tuning.tune import tune as command

    result = command(
        TunePlan(
            goal=goal,
            workloads=flags.parts(workload),
            minutes=minutes,
            precision=precision,
            out_dir=out,
            model=model,
            engine=flags.check_engine(engine),
        )
    )
    if as_json:
        flags.print_json(result)
    else:
        typer.echo((out / "tune.md").read_text(encoding="utf-8"))
