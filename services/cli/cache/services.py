"""What the cache services of a cluster say of themselves, and the order in which blocks go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from services.cli.cluster.state import running_cluster
from services.cli.failure import CommandFailed
from services.core.errors import TokenmillError
from services.wire.cache import (
    CacheStats,
    set_policy_request_to_pb,
    stats_from_pb,
    stats_request_to_pb,
)

_TIMEOUT_S = 5.0

T = TypeVar("T")


def cache_targets(state_dir: Path, given: str | None) -> dict[str, str]:
    """Addresses by name: those that the user names, by commas, else those of the cluster here.

    Raises:
        CommandFailed: none is named and no cluster runs here.
    """
    if given is not None:
        return {target.strip(): target.strip() for target in given.split(",")}
    return {
        process.name: f"127.0.0.1:{process.grpc_port}"
        for process in running_cluster(state_dir).processes
        if process.role == "cache"
    }


def stats_of(targets: Mapping[str, str]) -> dict[str, CacheStats]:
    """Sizes and counts of each service.

    Raises:
        CommandFailed: one does not answer.
    """

    async def ask(stub: Any) -> CacheStats:
        return stats_from_pb(await stub.Stats(stats_request_to_pb(), timeout=_TIMEOUT_S))

    return _of_each(targets, ask)


def set_policy(targets: Mapping[str, str], policy: str) -> None:
    """Lets every service order its blocks by another policy; no block goes for that.

    Raises:
        CommandFailed: one does not answer, or there is no such policy.
    """

    async def ask(stub: Any) -> None:
        await stub.SetPolicy(set_policy_request_to_pb(policy), timeout=_TIMEOUT_S)

    _of_each(targets, ask)


def _of_each(targets: Mapping[str, str], ask: Callable[[Any], Awaitable[T]]) -> dict[str, T]:
    from tokenmill.v1.cache_pb2_grpc import CacheServiceStub

    from services.runtime.rpc_client import open_channel, peer_errors

    async def run() -> dict[str, T]:
        answers: dict[str, T] = {}
        for name, target in targets.items():
            async with open_channel(target) as channel:
                with peer_errors(f"cache service {name}"):
                    answers[name] = await ask(CacheServiceStub(channel))
        return answers

    try:
        return asyncio.run(run())
    except TokenmillError as exc:
        raise CommandFailed(exc.message) from exc
