"""The `tokenmill` command. What a subcommand needs is imported when it runs: start-up is quick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import flags
from services.cli.failure import CommandFailed

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="tokenmill",
    help="Language models as a production service, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure a cluster.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@app.command()
def setup(model: flags.Model = None) -> None:
    """Fetches and prepares the model; done already, it says so at once."""
    from services.cli.cluster.build import prepare_model
    from services.cli.terminal import err

    prepared = prepare_model(model)
    err.print(f"model {prepared.name} is ready in {prepared.directory}")


@app.command()
def up(
    workers: flags.NumWorkers = 1,
    gateways: flags.NumGateways = 1,
    model: flags.Model = None,
    detach: Annotated[bool, typer.Option(help="Return when all are ready.")] = False,
    engine: flags.Engine = "torch",
    dtype: flags.Dtype = None,
    quantization: flags.Quantization = None,
    kv_dtype: flags.KvDtype = None,
    http_port: flags.HttpPort = flags.HTTP_PORT,
    grpc_port: flags.GrpcPort = flags.GRPC_PORT,
    drain_timeout: flags.DrainTimeout = flags.DRAIN_TIMEOUT_S,
    state_dir: flags.StateDir = None,
) -> None:
    """Starts a cluster and serves until Ctrl-C."""
    from services.cli import up as command

    command.up(
        command.Wanted(
            model=model,
            num_workers=workers,
            num_gateways=gateways,
            engine=flags.check_engine(engine),
            dtype=dtype,
            quantization=quantization,
            kv_dtype=kv_dtype,
            http_port=http_port,
            grpc_port=grpc_port,
            drain_timeout_s=drain_timeout,
            state_dir=_state_dir(state_dir),
        ),
        detach=detach,
    )


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="Stop after the answer.")] = False,
    workers: flags.NumWorkers = 1,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
    http_port: flags.HttpPort = flags.HTTP_PORT,
    grpc_port: flags.GrpcPort = flags.GRPC_PORT,
    state_dir: flags.StateDir = None,
) -> None:
    """Starts a cluster, asks it one question, shows the trace, then serves until Ctrl-C."""
    from services.cli import up as command

    command.demo(
        command.Wanted(
            model=model,
            num_workers=workers,
            engine=flags.check_engine(engine),
            http_port=http_port,
            grpc_port=grpc_port,
            state_dir=_state_dir(state_dir),
        ),
        once=once,
    )


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(help="As --model of `up` takes it.")],
    to: Annotated[str, typer.Option(help="int8 or int4.")],
    out: Annotated[Path, typer.Option(help="Directory to write; new or empty.")],
) -> None:
    """Writes a copy of a model with int8 or int4 weights, which loads as it is."""
    from services.cli.quality import quantize as command

    command(model, to, out)


@app.command()
def down(state_dir: flags.StateDir = None) -> None:
    """Drains the cluster and waits until it is gone."""
    from services.cli import up as command

    command.down(_state_dir(state_dir))


@app.command()
def status(as_json: flags.AsJson = False, state_dir: flags.StateDir = None) -> None:
    """Shows the processes of the cluster and whether each is well."""
    from services.cli.cluster.state import running_cluster
    from services.cli.status import read_status, status_as_json, status_table
    from services.cli.terminal import out

    state = running_cluster(_state_dir(state_dir))
    statuses = read_status(state)
    if as_json:
        _print_json(status_as_json(state, statuses))
    else:
        out.print(status_table(state, statuses))


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="The question.")],
    as_json: flags.AsJson = False,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A gateway elsewhere.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default=False)
    ] = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Asks the cluster and streams the answer; figures go to stderr."""
    from services.cli.ask import ask as command
    from services.cli.ask import find_gateway
    from services.cli.chat_client import Question

    gateway = find_gateway(_state_dir(state_dir), url, model)
    question = Question(prompt, gateway.model, max_tokens=max_tokens, temperature=temperature)
    answer = command(gateway.url, question, quiet=as_json)
    if as_json:
        _print_json(answer)


@app.command()
def trace(
    request_id: Annotated[
        str | None,
        typer.Argument(help="Request id or trace id; without it, the latest.", show_default=False),
    ] = None,
    as_json: flags.AsJson = False,
    state_dir: flags.StateDir = None,
) -> None:
    """Shows where the time of a request went, as a tree over all processes."""
    from services.cli.terminal import out
    from services.cli.traces.lookup import find_trace
    from services.cli.traces.render import render_tree, trace_as_json

    found = find_trace(_state_dir(state_dir) / "traces.sqlite", request_id)
    if as_json:
        _print_json(trace_as_json(found.tree.trace_id, found.spans, found.linked))
    else:
        out.print(render_tree(found.tree))


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
    from services.cli.bench import overhead as command

    result = command(
        OverheadPlan(num_rounds=rounds, concurrency=concurrency, max_tokens=max_tokens),
        model=model,
        engine=flags.check_engine(engine),
        dtype=dtype,
        state_dir=_state_dir(state_dir),
    )
    if as_json:
        _print_json(result)
    else:
        for name, value in result.items():
            typer.echo(f"{name:32} {value}")


@bench.command(name="engine")
def bench_engine(
    as_json: flags.AsJson = False,
    precisions: Annotated[
        str, typer.Option(help="Which, by commas: fp32, bf16, int8, int4.")
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
    from services.cli.bench_engine import engine as command

    result = command(
        EnginePlan(
            num_rounds=rounds, decode_tokens=tokens, kv_tokens=kv_tokens, with_shares=shares
        ),
        model=model,
        precisions=[name.strip() for name in precisions.split(",") if name.strip()],
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
    from services.cli.bench_serve import serve as command

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
    from services.cli.quality import quality as command

    result = command(
        model=model,
        precisions=[name.strip() for name in precisions.split(",") if name.strip()],
        num_tokens=tokens,
        is_perturbed=perturbed,
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))


def main() -> None:
    """Entry point: runs the command; an error is one sentence and an exit status."""
    try:
        app()
    except CommandFailed as exc:
        sys.stderr.write(f"tokenmill: {exc.message}\n")
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does.
        sys.stderr.close()
        sys.exit(1)


def _state_dir(given: Path | None) -> Path:
    from services.cli.cluster.options import default_state_dir

    return given.absolute() if given is not None else default_state_dir()


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value))


if __name__ == "__main__":
    main()
