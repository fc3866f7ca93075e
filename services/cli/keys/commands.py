"""`tokenmill keys` and `tokenmill tenants`."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from services.cli import flags
from services.cli.failure import CommandFailed
from services.core.caller import DEFAULT_TENANT, Limits, Scope

if TYPE_CHECKING:
    from services.cli.keys.key_store import KeyStore, MadeKey
    from services.core.api_key import ApiKey

keys = typer.Typer(help="API keys: who may come in, and how much each may use.")
tenants = typer.Typer(help="Limits of whole tenants, over all their keys.")

_DURATION = re.compile(r"(?P<number>[1-9][0-9]{0,8})(?P<unit>[smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

NatsUrl = Annotated[
    str | None,
    typer.Option(
        help="Broker of the cluster. Default: TOKENMILL_NATS_URL, else the cluster here.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, show_default=False)]
KeyId = Annotated[str, typer.Argument(help="As `keys list` shows it.")]
Tenant = Annotated[str, typer.Option(help="Whose sessions, cache and usage these are.")]
T = TypeVar("T")


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="For people: whose key it is.")],
    tenant: Tenant = DEFAULT_TENANT,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="inference, sessions or admin; repeat. Default: the first two."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model; repeat. Default: all.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(help="Lifetime, e.g. 90d, 12h.", show_default=False)
    ] = None,
    requests_per_min: Limit = None,
    tokens_per_min: Limit = None,
    max_concurrent: Limit = None,
    result_cache: Annotated[
        bool,
        typer.Option(help="Its requests use the result cache unless they say X-Result-Cache: off."),
    ] = False,
    as_json: flags.AsJson = False,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Makes a key and shows it, once."""
    from services.cli.keys.key_store import KeyWish

    wish = KeyWish(
        name=name,
        tenant=tenant,
        scopes=_scopes(scope),
        models=frozenset(model or ()),
        limits=Limits(requests_per_min, tokens_per_min, max_concurrent),
        lifetime_s=None if expires_in is None else _seconds(expires_in, "--expires-in"),
        caches_results=result_cache,
    )
    _show_made(_on_store(state_dir, nats_url, lambda store: store.create(wish)), as_json)


@keys.command("list")
def list_keys(
    as_json: flags.AsJson = False, nats_url: NatsUrl = None, state_dir: flags.StateDir = None
) -> None:
    """Lists all keys, without their secrets."""
    found = _on_store(state_dir, nats_url, lambda store: store.keys())
    if as_json:
        flags.print_json([_key_as_json(key) for key in found])
    else:
        _print_keys(found)


@keys.command()
def revoke(
    key_id: KeyId,
    as_json: flags.AsJson = False,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Ends a key now, on every gateway."""
    key = _on_store(state_dir, nats_url, lambda store: store.revoke(key_id))
    if as_json:
        flags.print_json(_key_as_json(key))
    else:
        typer.echo(f"key {key.key_id} ({key.name}) is revoked")


@keys.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(help="How long the old key stays valid, e.g. 1h.")] = "0s",
    as_json: flags.AsJson = False,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Makes a new key like an old one, and ends the old one."""
    grace_s = 0 if grace == "0s" else _seconds(grace, "--grace")
    made = _on_store(state_dir, nats_url, lambda store: store.rotate(key_id, grace_s=grace_s))
    _show_made(made, as_json)


@tenants.command()
def limit(
    tenant: Annotated[str, typer.Argument(help="Name of the tenant.")],
    requests_per_min: Limit = None,
    tokens_per_min: Limit = None,
    max_concurrent: Limit = None,
    as_json: flags.AsJson = False,
    nats_url: NatsUrl = None,
    state_dir: flags.StateDir = None,
) -> None:
    """Sets what a tenant may use, all its keys together; what is not named has no limit."""
    from services.wire.access import limits_as_json

    limits = Limits(requests_per_min, tokens_per_min, max_concurrent)
    _on_store(state_dir, nats_url, lambda store: store.limit_tenant(tenant, limits))
    text = f"limits of {tenant}: {_limits_text(limits)}"
    flags.tell({"tenant": tenant, "limits": limits_as_json(limits)}, text, as_json=as_json)


@tenants.command("list")
def list_tenants(
    as_json: flags.AsJson = False, nats_url: NatsUrl = None, state_dir: flags.StateDir = None
) -> None:
    """Lists tenants that have limits."""
    from services.wire.access import limits_as_json

    found = _on_store(state_dir, nats_url, lambda store: store.tenants())
    if as_json:
        flags.print_json({name: limits_as_json(limits) for name, limits in found.items()})
        return
    for name, limits in found.items():
        typer.echo(f"{name}: {_limits_text(limits)}")


def _on_store(
    state_dir: Path | None, nats_url: str | None, work: Callable[[KeyStore], Awaitable[T]]
) -> T:
    from services.cli.broker import nats_url_of, with_broker
    from services.cli.keys.key_store import KeyStore
    from services.runtime.bus import Bus
    from services.runtime.key_value import KeyValueBucket
    from services.wire.subjects import ACCESS_BUCKET

    async def run(bus: Bus) -> T:
        return await work(KeyStore(KeyValueBucket(bus, ACCESS_BUCKET, what="the key store")))

    return with_broker(nats_url_of(flags.state_dir_of(state_dir), nats_url), run)


def _scopes(given: list[str] | None) -> frozenset[Scope]:
    if not given:
        return frozenset({Scope.INFERENCE, Scope.SESSIONS})
    try:
        return frozenset(Scope(one) for one in given)
    except ValueError as exc:
        raise CommandFailed(f"--scope: {exc}; allowed: {', '.join(Scope)}", exit_code=2) from exc


def _seconds(text: str, flag: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CommandFailed(
            f"{flag} is {text!r}; allowed: a number with s, m, h or d, as 90d", exit_code=2
        )
    return int(found["number"]) * _UNIT_S[found["unit"]]


def _show_made(made: MadeKey, as_json: bool) -> None:
    if as_json:
        flags.print_json({"api_key": made.secret, **_key_as_json(made.key)})
        return
    typer.echo(made.secret)
    typer.echo("Keep it: it is not stored and not shown again.", err=True)


def _key_as_json(key: ApiKey) -> dict[str, Any]:
    from services.wire.access import limits_as_json

    return {
        "key_id": key.key_id,
        "name": key.name,
        "tenant": key.tenant,
        "state": key.state(time.time()),
        "scopes": sorted(key.scopes),
        "models": sorted(key.models),
        "limits": limits_as_json(key.limits),
        "created_unix_s": key.created_unix_s,
        "expires_unix_s": key.expires_unix_s,
        "revoked_unix_s": key.revoked_unix_s,
    }


def _print_keys(found: list[ApiKey]) -> None:
    from rich.table import Table

    from services.cli.terminal import out

    table = Table(box=None)
    for heading in ("key", "name", "tenant", "state", "scopes", "models", "limits", "expires"):
        table.add_column(heading)
    for key in found:
        table.add_row(
            key.key_id,
            key.name,
            key.tenant,
            key.state(time.time()),
            " ".join(sorted(key.scopes)),
            " ".join(sorted(key.models)) or "all",
            _limits_text(key.limits),
            "never" if key.expires_unix_s is None else _day(key.expires_unix_s),
        )
    out.print(table)


def _limits_text(limits: Limits) -> str:
    parts = [
        f"{value} {unit}"
        for value, unit in (
            (limits.requests_per_min, "requests/min"),
            (limits.tokens_per_min, "tokens/min"),
            (limits.max_concurrent, "at once"),
        )
        if value is not None
    ]
    return ", ".join(parts) or "none"


def _day(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
