"""`tokenmill queue` and `tokenmill scale`: how much waits, and how many work on it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from services.cli import flags

SCALE_TIMEOUT_S = 600.0


def queue(
    as_json: flags.AsJson = False,
    watch: Annotated[bool, typer.Option(help="Read again every second until Ctrl-C.")] = False,
    nats_url: Annotated[
        str | None, typer.Option(help="Broker of the cluster.", show_default=False)
    ] = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Shows what waits for a worker, how fast it drains, and what was given up."""
    from services.cli.broker import nats_url_of
    from services.cli.queue import show

    url = nats_url_of(flags.state_dir_of(state_dir), nats_url)
    show(url, as_json=as_json, watch=watch, write=flags.print_json)


def scale(
    wanted: Annotated[
        list[str],
        typer.Argument(help="worker=N, gateway=N, scheduler=N, cache=N; several at once."),
    ],
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that all of it may take.")
    ] = SCALE_TIMEOUT_S,
    as_json: flags.AsJson = False,
    state_dir: flags.StateDir = None,
) -> None:
    """Starts more processes of the running cluster, or drains and stops some."""
    from services.cli.cluster.scale import ask_to_scale, parse_counts
    from services.cli.terminal import err

    counts = parse_counts(wanted)
    began = time.monotonic()
    ask_to_scale(flags.state_dir_of(state_dir), counts, timeout_s=timeout, say=err.print)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        flags.print_json({"processes": counts, "seconds": seconds})
    else:
        err.print(f"scaled in {seconds} s")
