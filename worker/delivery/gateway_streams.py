"""One Deliver stream per gateway address, shared by all its requests."""

from __future__ import annotations

import asyncio

from services.runtime.logs import get_logger
from worker.delivery.client import GatewayStream, StreamListener

log = get_logger(__name__)

_IDLE_FLUSH_TIMEOUT_S = 2.0


class GatewayStreams:
    """Opens streams on demand and closes those that are idle."""

    def __init__(self, *, worker_id: str, max_queued_tokens: int, idle_s: float) -> None:
        self._worker_id = worker_id
        self._max_queued_tokens = max_queued_tokens
        self._idle_s = idle_s
        self._by_address: dict[str, GatewayStream] = {}

    def stream_to(self, address: str, listener: StreamListener) -> GatewayStream:
        """The live stream to a gateway; opened if there is none."""
        stream = self._by_address.get(address)
        if stream is None or stream.is_lost:
            stream = GatewayStream(
                address,
                worker_id=self._worker_id,
                max_queued_tokens=self._max_queued_tokens,
                listener=listener,
            )
            self._by_address[address] = stream
            log.info("delivery.opened", gateway=address)
        return stream

    def release(self, stream: GatewayStream, handle: int) -> None:
        """An attempt delivers no more on a stream."""
        stream.handles.discard(handle)
        stream.idle_since = asyncio.get_running_loop().time()

    async def close_idle(self) -> None:
        """Closes streams that were idle for too long, for ever."""
        while True:
            await asyncio.sleep(self._idle_s / 4)
            now = asyncio.get_running_loop().time()
            idle = [
                stream
                for stream in self._by_address.values()
                if stream.is_lost or (not stream.handles and now - stream.idle_since > self._idle_s)
            ]
            await self._close(idle, _IDLE_FLUSH_TIMEOUT_S)

    async def close(self, *, flush_timeout_s: float) -> None:
        """Closes all streams, their queued frames first."""
        await self._close(list(self._by_address.values()), flush_timeout_s)

    async def _close(self, streams: list[GatewayStream], flush_timeout_s: float) -> None:
        for stream in streams:
            # First out of sight, so that nobody attaches to a stream that says goodbye.
            if self._by_address.get(stream.address) is stream:
                del self._by_address[stream.address]
        await asyncio.gather(*(s.close(flush_timeout_s=flush_timeout_s) for s in streams))
