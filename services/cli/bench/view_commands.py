"""What `tokenmill bench` measures of traces and of explanations."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli import flags


def bench_explain(
    as_json: flags.AsJson = False,
    repeats: Annotated[int, typer.Option(min=1, help="Slowed requests of each place.")] = 10,
    delay_ms: Annotated[float, typer.Option(min=1, help="By which each is slowed.")] = 500,
    mixed: Annotated[int, typer.Option(min=1, help="Requests of the mixed load.")] = 50,
    engine: flags.Engine = "fake",
) -> None:
    """Slows tokenizer, queue, placement, cache, step and writer in turn: who is blamed?

    Then explains a mixed load and says how much of each latency no part pays for.
    """
    from services.cli.bench.explain import bench_explain as command

    result = command(
        repeats=repeats, delay_ms=delay_ms, mixed=mixed, engine=flags.check_engine(engine)
    )
    if as_json:
        flags.print_json(result)
        return
    for point, told in result["slowed"].items():
        typer.echo(f"{point:10} {told['right']} of {told['of']}  {told['blamed']}")
    typer.echo(f"mixed      {result['mixed']}")


def bench_tracing(
    as_json: flags.AsJson = False,
    rounds: Annotated[int, typer.Option(min=2, help="Pairs of runs, with and without.")] = 12,
    requests: Annotated[int, typer.Option(min=1, help="Of each run.")] = 16,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length of each answer.")] = 48,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
) -> None:
    """What tracing costs: pairs of clusters, one without, asked in turn."""
    from benchmarks.tracing import TracingPlan
    from services.cli.bench.tracing import tracing as command

    plan = TracingPlan(rounds, requests, concurrency, max_tokens)
    result = command(plan, model=model, engine=flags.check_engine(engine))
    if as_json:
        flags.print_json(result)
        return
    for name, value in result.items():
        typer.echo(f"{name:24} {value}")
