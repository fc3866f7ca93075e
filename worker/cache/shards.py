"""Which of several cache services keeps a chain, and where they are now."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from services.core.blocks import BlockHash, BlockPayload
from services.core.errors import TokenmillError
from services.runtime.logs import get_logger
from services.runtime.rpc_client import open_channel
from services.runtime.shared_memory import CacheTransport
from services.wire.cache import BlockQuery
from worker.cache.client import CacheClient, Found
from worker.delivery.circuit_breaker import CircuitBreaker

log = get_logger(__name__)

_LOOK_AGAIN_S = 1.0
_FILE, _DNS = "file://", "dns:///"


def choose_shard(head: BlockHash, names: Iterable[str]) -> str:
    """The shard of a chain: its first block decides, so that a prefix lives together.

    A shard that comes takes its share from all others, one that goes leaves its share to them, and
    no other chain moves.

    Args:
        head: hash of the chain's first block.
        names: at least one.

    Source: rendezvous hashing, Thaler and Ravishankar 1998.
    """
    return max(names, key=lambda name: (blake2b(name.encode(), key=head).digest(), name))


async def find_shards(target: str) -> dict[str, str]:
    """Shards by name: where each is reached.

    Args:
        target: host:port, several of them by commas, `dns:///host:port` (all its addresses), or
            `file:///path` of a JSON object of names and addresses.

    Raises:
        OSError, ValueError: they cannot be found now.
    """
    if target.startswith(_FILE):
        text = await asyncio.to_thread(Path(target.removeprefix(_FILE)).read_text)
        return {str(name): str(address) for name, address in json.loads(text).items()}
    if target.startswith(_DNS):
        host, _, port = target.removeprefix(_DNS).rpartition(":")
        found = await asyncio.get_running_loop().getaddrinfo(
            host, int(port), family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        addresses = {f"{place[0]}:{port}" for *_, place in found}
    else:
        addresses = {part.strip() for part in target.split(",")}
    return {address: address for address in addresses}


@dataclass(slots=True)
class _Shard:
    client: CacheClient
    address: str
    stack: AsyncExitStack
    breaker: CircuitBreaker


class CacheShards:
    """CachePort over all shards: follows what is added and taken away. Lives on the event loop.

    A shard that is lost is a miss, and is left alone for a while; the others do not notice.
    """

    def __init__(self, target: str, transport: CacheTransport = CacheTransport.AUTO) -> None:
        self._target = target
        self._transport = transport
        self._shards: dict[str, _Shard] = {}

    @property
    def names(self) -> list[str]:
        """Shards that are known now."""
        return sorted(self._shards)

    async def lookup(self, query: BlockQuery, *, timeout_s: float) -> Found:
        """What the chain's shard has in a row, after those that are held."""
        shard = self._of(query.head or query.hashes[0])
        if shard is None:
            return Found()
        try:
            found = await shard.client.lookup(query, timeout_s=timeout_s)
        except TokenmillError as exc:
            self._failed(shard, exc)
            return Found()
        shard.breaker.succeeded()
        return found

    async def get(
        self, hashes: Sequence[BlockHash], *, head: BlockHash, layout: str, timeout_s: float
    ) -> AsyncGenerator[BlockPayload, None]:
        """Blocks as they come from the chain's shard."""
        shard = self._of(head)
        if shard is None:
            return
        blocks = shard.client.get(hashes, head=head, layout=layout, timeout_s=timeout_s)
        async with aclosing(blocks):
            async for block in blocks:
                yield block

    async def put(self, blocks: Sequence[BlockPayload], *, timeout_s: float) -> int:
        """Offers blocks of one chain to its shard."""
        shard = self._of(blocks[0].head or blocks[0].block_hash)
        if shard is None:
            return 0
        try:
            return await shard.client.put(blocks, timeout_s=timeout_s)
        except TokenmillError as exc:
            self._failed(shard, exc)
            return 0

    async def refresh(self) -> None:
        """Looks for shards once; those that are known stay if it fails."""
        try:
            places = await find_shards(self._target)
        except (OSError, ValueError, AttributeError) as exc:
            log.debug("cache.shards_unknown", fault=str(exc))
            return
        if places != {name: shard.address for name, shard in self._shards.items()}:
            await self._take(places)

    async def follow(self) -> None:
        """Looks for shards, for ever."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            await self.refresh()

    async def close(self) -> None:
        """Leaves all shards. Twice is safe."""
        await self._take({})

    def _of(self, head: BlockHash) -> _Shard | None:
        if not self._shards:
            return None
        shard = self._shards[choose_shard(head, self._shards)]
        return None if shard.breaker.is_open else shard

    def _failed(self, shard: _Shard, exc: TokenmillError) -> None:
        if len(self._shards) == 1:
            raise exc  # The caller's own breaker knows what to do.
        shard.breaker.failed()
        log.warning("cache.shard_failed", address=shard.address, fault=exc.message)

    async def _take(self, places: Mapping[str, str]) -> None:
        for name, shard in list(self._shards.items()):
            if places.get(name) != shard.address:
                del self._shards[name]
                await shard.stack.aclose()
        for name, address in places.items():
            if name in self._shards:
                continue
            stack = AsyncExitStack()
            channel = await stack.enter_async_context(open_channel(address))
            # Connected before the first request, whose deadline for the cache is short.
            channel.get_state(try_to_connect=True)
            client = CacheClient(channel, self._transport)
            stack.callback(client.close)
            self._shards[name] = _Shard(client, address, stack, CircuitBreaker())
        log.info("cache.shards_changed", num_shards=len(places))
