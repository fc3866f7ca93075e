"""Flags of `tokenmill top`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli import flags


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    as_json: flags.AsJson = False,
    api_key: flags.ApiKey = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Shows what the cluster does now, until `q`: rates, percentiles, batches, pools, processes."""
    from services.cli.top.command import top as command
    from services.cli.top.look import Watch

    watch = Watch(flags.state_dir_of(state_dir), api_key)
    command(watch, interval_s=interval, once=once, as_json=as_json)
