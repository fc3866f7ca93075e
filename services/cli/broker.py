"""Commands that talk to the broker of a cluster, here or elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import structlog

from services.cli.cluster.state import running_cluster
from services.cli.failure import CommandFailed
from services.core.errors import TokenmillError
from services.runtime.bus import Bus, connect_bus

_TIMEOUT_S = 15.0

T = TypeVar("T")


def nats_url_of(state_dir: Path, given: str | None) -> str:
    """The broker that the user names, else TOKENMILL_NATS_URL, else that of the cluster here.

    Raises:
        CommandFailed: none is named and no cluster runs here.
    """
    return given or os.environ.get("TOKENMILL_NATS_URL") or running_cluster(state_dir).nats_url


def with_broker(url: str, work: Callable[[Bus], Awaitable[T]]) -> T:
    """Does work on a connection of its own.

    Raises:
        CommandFailed: the broker does not answer, or the work was refused.
    """
    # Standard output is the command's own: programs read it.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    async def run() -> T:
        async with asyncio.timeout(_TIMEOUT_S), connect_bus(url, name="tokenmill-cli") as bus:
            return await work(bus)

    try:
        return asyncio.run(run())
    except TimeoutError as exc:
        raise CommandFailed(f"the broker at {url} does not answer") from exc
    except TokenmillError as exc:
        raise CommandFailed(exc.message) from exc
