"""`tokenmill cache`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from services.cli import flags
from services.cli.failure import CommandFailed
from services.cli.keys.commands import NatsUrl

if TYPE_CHECKING:
    from services.runtime.bus import Bus
    from services.wire.block_naming import PublicPrompt

cache = typer.Typer(
    help="K/V blocks: what is cached, what goes first, which prompts tenants share."
)

Target = Annotated[
    str | None,
    typer.Option(
        help="Cache services elsewhere, host:port by commas. Default: those of the cluster here.",
        show_default=False,
    ),
]
T = TypeVar("T")


@cache.command()
def publish(
    name: Annotated[str, typer.Argument(help="Of the prompt, for `withdraw`.")],
    file: Annotated[Path, typer.Argument(help="Text of a system message.", exists=True)],
    tokens: Annotated[
        bool,
        typer.Option(help="The file holds token ids, as a JSON list, that prompts begin with."),
    ] = False,
    model: flags.ModelName = None,
    url: flags.GatewayUrl = None,
    as_json: flags.AsJson = False,
    api_key: flags.ApiKey = None,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Makes a system message public: tenants share the blocks of prompts that begin with it."""
    from services.cli.ask import find_gateway
    from services.cli.cache.public_prompts import publish as put
    from services.cli.cache.public_prompts import system_prompt_ids
    from services.wire.block_naming import PublicPrompt

    if tokens and model is not None:
        ids = _token_ids(file)
    else:
        gateway = find_gateway(flags.state_dir_of(state_dir), url, model, api_key)
        model = gateway.model
        ids = _token_ids(file) if tokens else system_prompt_ids(gateway, file.read_text())
    prompt = PublicPrompt(name, model, ids)
    _on_broker(state_dir, nats_url, lambda bus: put(bus, prompt))
    if as_json:
        flags.print_json(_as_json(prompt))
    else:
        typer.echo(f"{name} is public: {len(ids)} tokens of prompts for {model}")


@cache.command()
def published(
    as_json: flags.AsJson = False, nats_url: NatsUrl = None, state_dir: flags.StateDir = None
) -> None:
    """Lists the prompts that are public."""
    from services.cli.cache.public_prompts import published as read

    prompts = _on_broker(state_dir, nats_url, read)
    if as_json:
        flags.print_json([_as_json(prompt) for prompt in prompts])
        return
    for prompt in prompts:
        typer.echo(f"{prompt.name}  {prompt.model}  {len(prompt.token_ids)} tokens")


@cache.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="As `cache published` shows it.")],
    as_json: flags.AsJson = False,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Makes a prompt private again: each tenant then keeps its own blocks of it."""
    from services.cli.cache.public_prompts import withdraw as delete

    _on_broker(state_dir, nats_url, lambda bus: delete(bus, name))
    text = f"{name} is not public any more"
    flags.tell({"name": name, "is_public": False}, text, as_json=as_json)


@cache.command()
def stats(
    as_json: flags.AsJson = False, target: Target = None, state_dir: flags.StateDir = None
) -> None:
    """Shows what each cache service holds, found and evicted, and by which policy."""
    from dataclasses import asdict

    from services.cli.cache.services import cache_targets, stats_of

    found = stats_of(cache_targets(flags.state_dir_of(state_dir), target))
    if as_json:
        flags.print_json({name: asdict(each) for name, each in found.items()})
        return
    for name, each in found.items():
        typer.echo(
            f"{name}  {each.policy}  {each.num_blocks} blocks, {each.size_bytes >> 20} of"
            f" {each.capacity_bytes >> 20} MiB  {each.num_hits} hits, {each.num_misses} misses,"
            f" {each.num_puts} taken, {each.num_evictions} evicted"
        )


@cache.command()
def policy(
    name: Annotated[str, typer.Argument(help="lru, lfu, ttl or hybrid.")],
    as_json: flags.AsJson = False,
    target: Target = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Changes which block goes first, on all cache services that run; all blocks stay."""
    from services.cli.cache.services import cache_targets, set_policy

    targets = cache_targets(flags.state_dir_of(state_dir), target)
    set_policy(targets, name)
    text = f"blocks go by {name} now; TOKENMILL_POLICY says by what after a restart"
    flags.tell({"policy": name, "services": sorted(targets)}, text, as_json=as_json)


@cache.command("rotate-secret")
def rotate_secret(
    as_json: flags.AsJson = False, nats_url: NatsUrl = None, state_dir: flags.StateDir = None
) -> None:
    """Draws another secret for the names of blocks: all caches are cold from now on."""
    from services.cli.cache.public_prompts import rotate_secret as rotate

    _on_broker(state_dir, nats_url, rotate)
    text = "the secret is another one: what was cached is not found any more"
    flags.tell({"is_rotated": True}, text, as_json=as_json)


def _on_broker(
    state_dir: Path | None, nats_url: str | None, work: Callable[[Bus], Awaitable[T]]
) -> T:
    from services.cli.broker import nats_url_of, with_broker

    return with_broker(nats_url_of(flags.state_dir_of(state_dir), nats_url), work)


def _token_ids(file: Path) -> tuple[int, ...]:
    try:
        ids: Any = json.loads(file.read_text())
        if not isinstance(ids, list) or not all(isinstance(i, int) and i >= 0 for i in ids):
            raise ValueError("it is no list of numbers")
    except ValueError as exc:
        raise CommandFailed(f"{file} holds no token ids: {exc}", exit_code=2) from exc
    return tuple(ids)


def _as_json(prompt: PublicPrompt) -> dict[str, Any]:
    return {"name": prompt.name, "model": prompt.model, "num_tokens": len(prompt.token_ids)}
