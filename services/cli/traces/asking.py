"""Requests that processes still hold spans of: finding them, and having them kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import nats
import nats.errors
from nats.aio.client import Client

from services.cli.cluster.state import read_state
from services.runtime.tracing.words import ask_held, say_export, say_keep, say_nothing

_CONNECT_TIMEOUT_S = 1

T = TypeVar("T")


class Asking:
    """Asks the processes of a cluster. One that does not answer holds nothing.

    Not from within an event loop.

    Args:
        nats_url: its broker; None: nobody is asked.
    """

    def __init__(self, nats_url: str | None) -> None:
        self._url = nats_url

    @property
    def is_somebody(self) -> bool:
        """Whether there is anybody to be asked."""
        return self._url is not None

    def export(self) -> None:
        """Has what is on its way to the store brought there now."""
        self._do(say_export, None)

    def keep(self, request_id: str) -> None:
        """Has a request's spans brought to the store; a trace id will do."""

        async def work(client: Client) -> None:
            held = await ask_held(client, request_id, is_enough=lambda num: num > 0)
            await _bring(client, [trace_id for one in held for _, trace_id in one])

        self._do(work, None)

    def keep_latest(self) -> None:
        """The same for the latest request of each gateway."""

        async def work(client: Client) -> None:
            await _bring(client, [one[0][1] for one in await ask_held(client) if one])

        self._do(work, None)

    def keep_traces(self, trace_ids: Sequence[str]) -> None:
        """The same for traces that are known to be held."""
        wanted = [int(one, 16) for one in trace_ids]
        self._do(lambda client: _bring(client, wanted), None)

    def latencies(self) -> list[tuple[int, str]]:
        """Nanoseconds at the door, and trace id, of each request that is held and not kept.

        Those that are kept have come to the store by the time that it returns.
        """

        async def work(client: Client) -> list[tuple[int, str]]:
            await say_export(client)
            held = await ask_held(client)
            return [(ns, f"{trace_id:032x}") for one in held for ns, trace_id in one]

        return self._do(work, [])

    def _do(self, work: Callable[[Client], Awaitable[T]], otherwise: T) -> T:
        if self._url is None:
            return otherwise
        return asyncio.run(_connected(self._url, work, otherwise))


NOBODY = Asking(None)


def asking_of(state_dir: Path) -> Asking:
    """Asks the cluster of a state directory; nobody, if none runs there."""
    state = read_state(state_dir)
    return Asking(state.nats_url) if state is not None and state.is_alive() else NOBODY


async def _bring(client: Client, trace_ids: Sequence[int]) -> None:
    """Has traces kept, and what there is of them brought to the store now."""
    await say_keep(client, trace_ids)
    await say_export(client)


async def _connected(url: str, work: Callable[[Client], Awaitable[T]], otherwise: T) -> T:
    try:
        # The client's own limit is on each try, and it tries again for minutes.
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            client = await nats.connect(
                url.split(","), name="tokenmill-traces", error_cb=say_nothing, allow_reconnect=False
            )
        async with client:
            done = await work(client)
            await client.flush(_CONNECT_TIMEOUT_S)
            return done
    except (nats.errors.Error, OSError):
        return otherwise
