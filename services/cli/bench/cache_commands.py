"""`tokenmill bench cache` and `bench sessions`, by their flags."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from services.cli import flags

SECOND_TURNS = "second-turns"
CONVERSATIONS = "conversations"


def bench_cache(context: typer.Context) -> None:
    """Eviction policies on a trace, beside the optimum (--help: options)."""
    from services.cli.bench.cache import bench_cache as command

    raise typer.Exit(command(context.args))


def bench_sessions(
    as_json: flags.AsJson = False,
    turns: Annotated[int, typer.Option(min=1, help="Second turns measured in each place.")] = 20,
    history: Annotated[int, typer.Option(min=128, help="Tokens before the second turn.")] = 1500,
    conversations: Annotated[int, typer.Option(min=1, help="Held at once, on 3 workers.")] = 50,
    length: Annotated[int, typer.Option(min=2, help="Turns of each conversation.")] = 10,
    only: Annotated[
        str | None,
        typer.Option(help=f"{SECOND_TURNS} or {CONVERSATIONS}; default: both."),
    ] = None,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
) -> None:
    """Second turns of chats: with caches off, on the same worker, another, after restarts.

    Starts clusters of its own on free ports, one after the other, and stops them again.
    """
    from benchmarks.sessions.crowd import CrowdPlan
    from benchmarks.sessions.second_turn import SecondTurnPlan
    from services.cli.bench.sessions import sessions as command
    from services.cli.failure import CommandFailed

    if only not in (None, SECOND_TURNS, CONVERSATIONS):
        raise CommandFailed(
            f"--only is {only!r}; allowed: {SECOND_TURNS}, {CONVERSATIONS}", exit_code=2
        )
    second = SecondTurnPlan(num_sessions=turns, history_tokens=history)
    crowd = CrowdPlan(num_sessions=conversations, num_turns=length)
    result = command(
        None if only == CONVERSATIONS else second,
        None if only == SECOND_TURNS else crowd,
        model=model,
        engine=flags.check_engine(engine),
    )
    typer.echo(json.dumps(result, indent=None if as_json else 2))
