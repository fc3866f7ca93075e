"""The stream from this worker to one gateway."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any, Protocol

import grpc
from tokenmill.v1.delivery_pb2_grpc import DeliveryServiceStub

from services.core.delivery import (
    NO_NEXT_TOKENS,
    Attach,
    Attached,
    Cancel,
    Gone,
    NextTokens,
    RequestDelta,
    WorkerHello,
)
from services.core.errors import DeadlineExceeded, DependencyLost, InvalidRequest
from services.runtime.logs import get_logger
from services.runtime.rpc_client import open_channel
from services.wire.delivery import gateway_message_from_pb, worker_message_to_pb
from worker.delivery.outbox import Outbox

log = get_logger(__name__)

_END: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]
_CLOSED_HERE = "closed by the worker"


class StreamListener(Protocol):
    """Hears a stream, on the event loop."""

    def on_cancel(self, handle: int) -> None:
        """Nobody waits for this attempt any more."""
        ...

    def on_stream_lost(self, handles: frozenset[int]) -> None:
        """The owner of these attempts will run them elsewhere."""
        ...


class GatewayStream:
    """One Deliver stream. Once lost it stays lost: the next attach opens a new one.

    Attributes:
        handles: attempts that deliver on it, kept by who attaches.
    """

    def __init__(
        self, address: str, *, worker_id: str, max_queued_tokens: int, listener: StreamListener
    ) -> None:
        self.address = address
        self.handles: set[int] = set()
        self.idle_since = asyncio.get_running_loop().time()
        self._listener = listener
        self._outbox = Outbox(max_tokens=max_queued_tokens)
        self._outbox.add(WorkerHello(worker_id))
        self._has_outgoing = asyncio.Event()
        self._is_closing = False
        self._replies: dict[int, asyncio.Future[Attached | Gone]] = {}
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # In a context of its own: its log lines belong to no request.
        self._task = asyncio.create_task(
            self._run(), name=f"deliver {address}", context=contextvars.Context()
        )

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be delivered on it any more."""
        return self._lost.done()

    async def attach(self, attach: Attach, *, timeout_s: float) -> Attached | Gone:
        """Joins an attempt.

        Raises:
            DependencyLost: the stream is lost, before or meanwhile.
            DeadlineExceeded: no answer in time. The owner may still answer, so the caller must
                see to it that the attempt is not left hanging there.
        """
        if self.is_lost:
            raise DependencyLost(f"gateway {self.address}: {self._lost.result()}")
        reply: asyncio.Future[Attached | Gone] = asyncio.get_running_loop().create_future()
        self._replies[attach.handle] = reply
        try:
            self._outbox.add(attach)
            self._has_outgoing.set()
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"gateway {self.address} did not answer an attach within {timeout_s:g} s"
            ) from exc
        finally:
            del self._replies[attach.handle]

    def send(
        self,
        deltas: Sequence[RequestDelta],
        nexts: NextTokens = NO_NEXT_TOKENS,
        *,
        step_idx: int = 0,
    ) -> None:
        """Queues news; while the gateway is behind they are merged.

        A gateway that is too far behind loses the stream. Args: see Outbox.add_news.
        """
        if self.is_lost:
            return
        self._outbox.add_news(deltas, nexts, step_idx=step_idx)
        self._has_outgoing.set()
        if self._outbox.is_over:
            self.lose("the gateway does not read; too many tokens wait for it")

    def lose(self, why: str) -> None:
        """Gives the stream up at once; its attempts go to the listener. Twice is safe."""
        if self.is_lost:
            return
        self._lost.set_result(why)
        handles = frozenset(self.handles)
        self.handles.clear()
        if why != _CLOSED_HERE:
            log.warning("delivery.lost", gateway=self.address, why=why, num_requests=len(handles))
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(DependencyLost(f"gateway {self.address}: {why}"))
        if handles:
            self._listener.on_stream_lost(handles)

    async def close(self, *, flush_timeout_s: float) -> None:
        """Sends what is queued, says goodbye and ends. Twice is safe."""
        if not self.is_lost:
            try:
                self._is_closing = True
                self._has_outgoing.set()
                async with asyncio.timeout(flush_timeout_s):
                    await asyncio.shield(self._lost)
            except TimeoutError:
                pass  # A gateway that does not read must not keep us.
        self.lose(_CLOSED_HERE)
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        pumps: list[asyncio.Task[None]] = []
        try:
            async with open_channel(self.address) as channel:
                call: Any = DeliveryServiceStub(channel).Deliver()
                for pump in (self._write(call), self._read(call)):
                    pumps.append(asyncio.create_task(pump))
                    pumps[-1].add_done_callback(self._pump_ended)
                await asyncio.shield(self._lost)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                call.cancel()
        finally:
            self.lose(_CLOSED_HERE)

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        if not pump.cancelled() and (exc := pump.exception()) is not None:
            log.error("delivery.failed", gateway=self.address, exc_info=exc)
            self.lose(repr(exc))

    async def _write(self, call: Any) -> None:
        try:
            while not (self._is_closing and self._outbox.is_empty):
                await self._has_outgoing.wait()
                self._has_outgoing.clear()
                for message in self._outbox.take():
                    await call.write(worker_message_to_pb(message))
            await call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError) as exc:
            # The reader knows the status; this is for a stream that ends while it is written to.
            self.lose(await _why(call, exc))

    async def _read(self, call: Any) -> None:
        try:
            while (message := await call.read()) is not _END:
                self._hear(gateway_message_from_pb(message))
            is_goodbye = self._outbox.is_empty and not self.handles
            self.lose(_CLOSED_HERE if is_goodbye else "the gateway ended the stream")
        except (grpc.RpcError, asyncio.InvalidStateError) as exc:
            self.lose(await _why(call, exc))
        except InvalidRequest as exc:
            self.lose(f"the gateway speaks another language: {exc.message}")

    def _hear(self, message: Attached | Gone | Cancel) -> None:
        match message:
            case Cancel(handle):
                self._listener.on_cancel(handle)
            case Attached() | Gone():
                reply = self._replies.get(message.handle)
                if reply is not None and not reply.done():
                    reply.set_result(message)


async def _why(call: Any, exc: Exception) -> str:
    if not call.done():
        return repr(exc)
    return f"{(await call.code()).name}: {await call.details()}"
