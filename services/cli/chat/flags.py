"""`tokenmill chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli import flags


def chat(
    session: Annotated[
        str | None,
        typer.Option(help="Go on with this conversation, or begin one of this id."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest answer.", show_default=False)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 is greedy.", show_default=False)
    ] = None,
    url: flags.GatewayUrl = None,
    model: flags.ModelName = None,
    as_json: flags.AsJson = False,
    api_key: flags.ApiKey = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Talks with the model: /help lists commands. From a pipe, each line is a message."""
    from services.cli.ask import find_gateway
    from services.cli.chat.command import chat as command
    from services.cli.chat.conversation import Wishes

    gateway = find_gateway(flags.state_dir_of(state_dir), url, model, api_key)
    command(gateway, Wishes(max_tokens, temperature), session, as_json=as_json)
