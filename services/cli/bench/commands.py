"""`tokenmill bench ...`: what can be measured, and by which flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli import flags
from services.cli.bench.cache_commands import bench_cache, bench_sessions
from services.cli.bench.report_commands import bench_profiles, bench_report
from services.cli.bench.scheduling_commands import bench_batching, bench_scheduler, bench_simulation
from services.cli.bench.view_commands import bench_explain, bench_tracing

bench = typer.Typer(help="Measure a cluster.", no_args_is_help=True)
bench.command(name="simulation")(bench_simulation)
bench.command(name="explain")(bench_explain)
bench.command(name="tracing")(bench_tracing)
bench.command(name="batching")(bench_batching)
bench.command(name="scheduler")(bench_scheduler)


@bench.command()
def overhead(
    as_json: flags.AsJson = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of one pair per prompt.")] = 2,
    concurrency: Annotated[int, typer.Option(min=1, help="For the throughput part.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=2, help="Length of each answer.")] = 48,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
    dtype: flags.Dtype = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Costs of the stack: through HTTP against the engine in-process, the same prompts in turn.

    Uses the cluster that runs; without one it starts its own on free ports and stops it again.
    """
    from benchmarks.overhead import OverheadPlan
    from services.cli.bench.overhead import overhead as command

    result = command(
        OverheadPlan(num_rounds=rounds, concurrency=concurrency, max_tokens=max_tokens),
        model=model,
        engine=flags.check_engine(engine),
        dtype=dtype,
        state_dir=flags.state_dir_of(state_dir),
    )
    if as_json:
        flags.print_json(result)
    else:
        for name, value in result.items():
            typer.echo(f"{name:32} {value}")


@bench.command(name="engine")
def bench_engine(
    as_json: flags.AsJson = False,
    precisions: Annotated[
        str, typer.Option(help="Which, by commas: fp32, bf16, int8, int4; with +kv8: K/V in int8.")
    ] = "bf16,int8",
    rounds: Annotated[int, typer.Option(min=1, help="How often each cell is measured.")] = 3,
    tokens: Annotated[int, typer.Option(min=4, help="New tokens of each sequence.")] = 96,
    kv_tokens: Annotated[
        int, typer.Option(min=0, help="New tokens with and without K/V cache; 0: not measured.")
    ] = 512,
    shares: Annotated[bool, typer.Option(help="Profile where a step's time goes.")] = True,
    model: flags.Model = None,
) -> None:
    """The bare engine: decode, prefill, K/V cache, shares of a step, share of the roofline."""
    from benchmarks.engine import EnginePlan
    from services.cli.bench.engine import engine as command

    result = command(
        EnginePlan(
            num_rounds=rounds, decode_tokens=tokens, kv_tokens=kv_tokens, with_shares=shares
        ),
        model=model,
        precisions=flags.parts(precisions),
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))


@bench.command(name="speculation")
def bench_speculation(
    as_json: flags.AsJson = False,
    precision: Annotated[str, typer.Option(help="fp32, bf16, int8 or int4.")] = "bf16",
    rounds: Annotated[int, typer.Option(min=1, help="How often each cell is measured.")] = 3,
    prompts: Annotated[int, typer.Option(min=1, max=4, help="Of each kind.")] = 4,
    tokens: Annotated[int, typer.Option(min=8, help="Length of each answer.")] = 96,
    model: flags.Model = None,
) -> None:
    """What guessing ahead gains on summaries and on edits of code, in the bare engine."""
    from benchmarks.speculation import SpeculationPlan
    from services.cli.bench.speculation import speculation as command

    result = command(
        SpeculationPlan(num_rounds=rounds, num_prompts=prompts, max_tokens=tokens),
        model=model,
        precision=precision,
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))


@bench.command(name="serve")
def bench_serve(
    url: Annotated[str, typer.Option(help="Of a server that speaks OpenAI's wire format.")],
    as_json: flags.AsJson = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Clients of the closed loop.")] = 8,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Arrivals per second: an open loop.", show_default=False),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="In all.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer.")] = 128,
    slo_ttft_ms: Annotated[float, typer.Option(min=0, help="Goodput: first token within.")] = 2000,
    slo_tpot_ms: Annotated[float, typer.Option(min=0, help="Goodput: further ones, mean.")] = 100,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON list of texts. Default: 32 of prose.")
    ] = None,
    cached: Annotated[bool, typer.Option(help="Ask the same texts in every run.")] = False,
    seed: Annotated[int, typer.Option(help="Of the arrival times.")] = 0,
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="Bearer token.")] = "",
    model: Annotated[str | None, typer.Option(help="Default: the first that it lists.")] = None,
) -> None:
    """Load on a server: time to first token, gaps between tokens, tokens per second, goodput."""
    from benchmarks.serve import LoadPlan, Slo
    from services.cli.bench.serve import serve as command

    result = command(
        url,
        LoadPlan(
            num_requests=requests,
            concurrency=concurrency,
            rate_per_s=rate,
            max_tokens=max_tokens,
            seed=seed,
            fresh_prompts=not cached,
        ),
        Slo(slo_ttft_ms, slo_tpot_ms),
        model=model,
        prompts_file=prompts,
        api_key=api_key,
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))


@bench.command(name="gateway")
def bench_gateway(
    streams: Annotated[int, typer.Option(min=1, help="At once.")] = 1000,
    tokens: Annotated[int, typer.Option(min=2, help="Of each answer.")] = 200,
    rate: Annotated[float, typer.Option(min=0.1, help="Tokens per second of each stream.")] = 20.0,
    as_json: flags.AsJson = False,
) -> None:
    """Cost of the gateway per token and smoothness of its streams, with fake workers."""
    from benchmarks.gateway import StreamPlan
    from services.cli.bench.gateway import gateway as command

    plan = StreamPlan(num_streams=streams, num_tokens=tokens, step_s=1 / rate)
    typer.echo(json.dumps(command(plan), indent=None if as_json else 2))


@bench.command(name="quality")
def bench_quality(
    as_json: flags.AsJson = False,
    precisions: Annotated[
        str, typer.Option(help="Which, by commas: fp32, bf16, int8, int4.")
    ] = "fp32,bf16,int8,int4",
    tokens: Annotated[
        int | None,
        typer.Option(min=512, help="Of the text; default: all of it.", show_default=False),
    ] = None,
    perturbed: Annotated[
        bool,
        typer.Option(help="Measure weights moved off any four-bit grid that they were made on."),
    ] = False,
    model: flags.Model = None,
) -> None:
    """What precision costs and saves: perplexity, bytes, tokens per second."""
    from services.cli.bench.quality import quality as command

    result = command(
        model=model,
        precisions=flags.parts(precisions),
        num_tokens=tokens,
        is_perturbed=perturbed,
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))


@bench.command(name="peers")
def bench_peers(
    as_json: flags.AsJson = False,
    peers: Annotated[
        str, typer.Option(help="Which, by commas; default: all.", show_default=False)
    ] = "",
    precisions: Annotated[str, typer.Option(help="Which, by commas: bf16, int8.")] = "bf16,int8",
    cells: Annotated[
        str,
        typer.Option(
            help='Which, by commas, e.g. "8 clients,32 clients"; default: all.', show_default=False
        ),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each cell is measured.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for peers.json and peers.md too.", show_default=False),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Holds the peers' environments. Default: beside the model's cache."),
    ] = None,
) -> None:
    """Other engines beside us in one run: installs them from a package index, then takes turns."""
    from benchmarks.peers.table import as_markdown
    from services.cli.bench.peers import peers as command

    result = command(
        flags.parts(peers),
        precisions=flags.parts(precisions),
        cell_names=flags.parts(cells),
        num_rounds=rounds,
        peers_dir=cache_dir,
    )
    page = as_markdown(result)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "peers.json").write_text(json.dumps(result, indent=2) + "\n")
        (out / "peers.md").write_text(page)
    typer.echo(json.dumps(result) if as_json else page)


bench.command(
    name="cache",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(bench_cache)
bench.command(name="sessions")(bench_sessions)
bench.command(name="profiles")(bench_profiles)
bench.command(name="report")(bench_report)
