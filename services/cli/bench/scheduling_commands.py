"""What `tokenmill bench` measures of batches, of the scheduler and of its simulator."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from services.cli import flags


def bench_simulation(
    as_json: flags.AsJson = False,
    workers: flags.NumWorkers = 1,
    loads: Annotated[
        str, typer.Option(help="Shares of what the cluster can carry, by commas.")
    ] = "0.5,0.8,2",
    requests: Annotated[int, typer.Option(min=10, help="Of each load.")] = 40,
    repeats: Annotated[
        int, typer.Option(min=1, help="Of each load, with other arrivals; medians are compared.")
    ] = 3,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length of each answer.")] = 32,
    rounds: Annotated[int, typer.Option(min=2, help="Of the calibration.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the arrival times.")] = 0,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
) -> None:
    """The simulator against the cluster: calibrates, loads both alike, tells the errors."""
    from benchmarks.calibration import CalibrationPlan
    from services.cli.bench.simulation import check_simulation as command

    result = command(
        {
            "loads": flags.parse_shares("--loads", loads),
            "num_requests": requests,
            "num_rounds": repeats,
            "max_tokens": max_tokens,
            "seed": seed,
        },
        CalibrationPlan(num_rounds=rounds, seed=seed),
        model=model,
        engine=flags.check_engine(engine),
        num_workers=workers,
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))


def bench_batching(
    as_json: flags.AsJson = False,
    sizes: Annotated[
        str, typer.Option(help="Requests at once, by commas; the first is compared with.")
    ] = "1,8,16,32",
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length of each answer.")] = 32,
    prompt_words: Annotated[int, typer.Option(min=1, help="Of each prompt.")] = 24,
    model: flags.Model = None,
    quantization: flags.Quantization = None,
) -> None:
    """Requests one at a time against batches: requests/s, latency, use of the machine."""
    from benchmarks.batching import BatchingPlan, as_table
    from services.cli.bench.batching import batching as command

    result = command(
        BatchingPlan(
            sizes=flags.parse_sizes("--sizes", sizes), num_rounds=rounds, max_tokens=max_tokens
        ),
        model=model,
        quantization=quantization,
        prompt_words=prompt_words,
    )
    typer.echo(json.dumps(result) if as_json else as_table(result))


def bench_scheduler(
    as_json: flags.AsJson = False,
    workers: Annotated[int, typer.Option(min=1, help="Of a placement decision.")] = 64,
    blocks: Annotated[int, typer.Option(min=1, help="That the index knows of.")] = 1_000_000,
    queued: Annotated[int, typer.Option(min=100, help="Requests to drain.")] = 8_000,
    rate: Annotated[float, typer.Option(min=1, help="Requests/s at which latency counts.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=1, help="At that rate.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of each request.")] = 256,
) -> None:
    """Placement decisions, refusals, and requests through a real broker to fake workers."""
    from services.cli.bench.scheduler import scheduler as command

    result = command(
        {"num_workers": workers, "num_blocks": blocks},
        {
            "num_queued": queued,
            "rate_per_s": rate,
            "duration_s": seconds,
            "num_prompt_tokens": prompt_tokens,
        },
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))
