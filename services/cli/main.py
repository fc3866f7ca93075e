"""The `tokenmill` command. What a subcommand needs is imported when it runs: start-up is quick."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from services.cli import flags
from services.cli.bench.commands import bench
from services.cli.cache.commands import cache
from services.cli.calibrate_command import calibrate
from services.cli.chat.flags import chat
from services.cli.cluster.options import LOOPBACK
from services.cli.failure import CommandFailed
from services.cli.fleet_commands import queue, scale
from services.cli.keys.commands import keys, tenants
from services.cli.keys.usage_command import usage
from services.cli.model_commands import quantize, setup
from services.cli.top.flags import top
from services.cli.tuning.command import tune

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="tokenmill",
    help="Language models as a production service, on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.command()(calibrate)
app.command()(chat)
app.command()(tune)
app.add_typer(keys, name="keys")
app.add_typer(tenants, name="tenants")
app.add_typer(cache, name="cache")
app.command()(usage)
app.command()(queue)
app.command()(scale)
app.command()(setup)
app.command()(quantize)


@app.command()
def up(
    workers: flags.MaybeNumWorkers = None,
    gateways: flags.MaybeNumGateways = None,
    model: flags.Model = None,
    profile: flags.Profile = None,
    settings: flags.SettingsFile = None,
    detach: Annotated[bool, typer.Option(help="Return when all are ready.")] = False,
    engine: flags.Engine = "torch",
    dtype: flags.Dtype = None,
    quantization: flags.Quantization = None,
    kv_dtype: flags.KvDtype = None,
    itl_target_ms: flags.ItlTargetMs = None,
    speculation: flags.Speculation = None,
    http_port: flags.HttpPort = flags.HTTP_PORT,
    grpc_port: flags.GrpcPort = flags.GRPC_PORT,
    drain_timeout: flags.DrainTimeout = flags.DRAIN_TIMEOUT_S,
    host: flags.Host = LOOPBACK,
    auth: flags.Auth = False,
    state_dir: flags.StateDir = None,
) -> None:
    """Starts a cluster and serves until Ctrl-C."""
    from services.cli import up as command
    from services.cli.profiles import apply_profile
    from services.cli.settings_file import apply_settings_file

    # What comes first stays: the user's own variables, then the file, then the profile.
    counts = apply_settings_file(settings, os.environ)
    apply_profile(profile, os.environ)

    command.up(
        command.Wanted(
            model=model,
            num_workers=workers or counts.get("workers", 1),
            num_gateways=gateways or counts.get("gateways", 1),
            engine=flags.check_engine(engine),
            dtype=dtype,
            quantization=quantization,
            kv_dtype=kv_dtype,
            itl_target_ms=itl_target_ms,
            speculation=speculation,
            http_port=http_port,
            grpc_port=grpc_port,
            drain_timeout_s=drain_timeout,
            host=host,
            asks_for_keys=auth,
            state_dir=flags.state_dir_of(state_dir),
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
            state_dir=flags.state_dir_of(state_dir),
        ),
        once=once,
    )


@app.command()
def down(state_dir: flags.StateDir = None) -> None:
    """Drains the cluster and waits until it is gone."""
    from services.cli import up as command

    command.down(flags.state_dir_of(state_dir))


@app.command()
def status(as_json: flags.AsJson = False, state_dir: flags.StateDir = None) -> None:
    """Shows the processes of the cluster and whether each is well."""
    from services.cli.cluster.state import running_cluster
    from services.cli.status import read_status, status_as_json, status_table
    from services.cli.terminal import out

    state = running_cluster(flags.state_dir_of(state_dir))
    statuses = read_status(state)
    if as_json:
        flags.print_json(status_as_json(state, statuses))
    else:
        out.print(status_table(state, statuses))


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="The question.")],
    as_json: flags.AsJson = False,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    url: flags.GatewayUrl = None,
    model: flags.ModelName = None,
    api_key: flags.ApiKey = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Asks the cluster and streams the answer; figures go to stderr."""
    from services.cli.ask import ask as command
    from services.cli.ask import find_gateway
    from services.cli.chat.client import Question

    gateway = find_gateway(flags.state_dir_of(state_dir), url, model, api_key)
    question = Question(prompt, gateway.model, max_tokens=max_tokens, temperature=temperature)
    answer = command(gateway, question, quiet=as_json)
    if as_json:
        flags.print_json(answer)


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
    from services.cli.traces.asking import asking_of
    from services.cli.traces.lookup import find_trace
    from services.cli.traces.render import render_tree, trace_as_json

    cluster_dir = flags.state_dir_of(state_dir)
    found = find_trace(cluster_dir / "traces.sqlite", request_id, asking=asking_of(cluster_dir))
    if as_json:
        flags.print_json(trace_as_json(found.tree.trace_id, found.spans, found.linked))
    else:
        out.print(render_tree(found.tree))


@app.command()
def explain(
    request_id: Annotated[
        str | None,
        typer.Argument(help="Request id or trace id; without it, the latest.", show_default=False),
    ] = None,
    slowest: Annotated[
        int, typer.Option(min=0, max=100, help="The N slowest of late, instead.")
    ] = 0,
    p99: Annotated[bool, typer.Option("--p99", help="The one at the 99th percentile.")] = False,
    as_json: flags.AsJson = False,
    state_dir: flags.StateDir = None,
) -> None:
    """Shows why a request took as long as it did: parts that sum to its latency."""
    from services.cli.explain.command import explain as command

    command(
        flags.state_dir_of(state_dir),
        request_id,
        slowest=slowest,
        p99=p99,
        as_json=as_json,
    )


app.command()(top)


@app.command()
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    request: Annotated[
        str | None, typer.Option(help="Only lines of this request id.", show_default=False)
    ] = None,
    process: Annotated[
        str | None,
        typer.Option(help="Only processes whose name begins so.", show_default=False),
    ] = None,
    as_json: flags.AsJson = False,
    state_dir: flags.StateDir = None,
) -> None:
    """Shows what all processes said, merged by time."""
    from services.cli.logs.command import logs as command

    command(
        flags.state_dir_of(state_dir),
        request_id=request,
        process=process,
        follow=follow,
        as_json=as_json,
    )


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def simulate(context: typer.Context) -> None:
    """Replays a trace under a virtual clock with the real scheduling code (--help: options)."""
    from services.cli.simulate import simulate as command

    raise typer.Exit(command(context.args))


def main() -> None:
    """Entry point: an error is one sentence and an exit status; SIGTERM is as good as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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


if __name__ == "__main__":
    main()
