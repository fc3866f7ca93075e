from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from tokenmill.v1.delivery_pb2_grpc import (
    DeliveryServiceServicer,
    add_DeliveryServiceServicer_to_server,
)

from services.core.delivery import (
    Attach,
    Attached,
    Cancel,
    GatewayMessage,
    Gone,
    RequestDelta,
    StepFrame,
    WorkerHello,
)
from services.core.request import FinishReason
from services.wire.delivery import gateway_message_to_pb, worker_message_from_pb

Answer = Callable[[Attach], GatewayMessage | None]


class FakeGateway(DeliveryServiceServicer):
    """Answers attaches as told, and remembers everything it hears."""

    def __init__(self, answer: Answer = lambda attach: Attached(attach.handle)) -> None:
        self.answer = answer
        self.hellos: list[WorkerHello] = []
        self.attaches: list[Attach] = []
        self.frames: list[StepFrame] = []
        self.num_open = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self._deltas: dict[str, list[RequestDelta]] = defaultdict(list)
        self._names: dict[int, str] = {}
        self._outgoing: asyncio.Queue[GatewayMessage | None] = asyncio.Queue()
        self._server = grpc.aio.server()
        self.address = ""

    async def __aenter__(self) -> FakeGateway:
        add_DeliveryServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    async def Deliver(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        outgoing = self._outgoing = asyncio.Queue()
        self.num_open += 1
        reader = asyncio.create_task(self._read(requests, outgoing))
        try:
            while (message := await outgoing.get()) is not None:
                yield gateway_message_to_pb(message)
        finally:
            reader.cancel()
            self.num_open -= 1

    def cancel(self, request_id: str) -> None:
        self._outgoing.put_nowait(Cancel(self.handle_of(request_id)))

    def say(self, message: GatewayMessage) -> None:
        self._outgoing.put_nowait(message)

    def hang_up(self) -> None:
        self._outgoing.put_nowait(None)

    def handle_of(self, request_id: str) -> int:
        return next(h for h, name in reversed(self._names.items()) if name == request_id)

    def deltas(self, request_id: str) -> list[RequestDelta]:
        return self._deltas[request_id]

    def token_ids(self, request_id: str) -> list[int]:
        """In order, without gap or repeat."""
        ids: list[int] = []
        start = self.deltas(request_id)[0].first_position
        for delta in self.deltas(request_id):
            assert delta.first_position == start + len(ids)
            ids += delta.token_ids
        return ids

    def finish_reason(self, request_id: str) -> FinishReason | None:
        deltas = self.deltas(request_id)
        return deltas[-1].finish_reason if deltas else None

    async def _read(
        self, requests: AsyncIterator[Any], outgoing: asyncio.Queue[GatewayMessage | None]
    ) -> None:
        async for request in requests:
            await self.reads.wait()
            match worker_message_from_pb(request):
                case WorkerHello() as hello:
                    self.hellos.append(hello)
                case Attach() as attach:
                    self.attaches.append(attach)
                    self._names[attach.handle] = attach.request_id
                    reply = self.answer(attach)
                    if reply is not None:
                        outgoing.put_nowait(reply)
                case StepFrame() as frame:
                    self.frames.append(frame)
                    for delta in (*frame.deltas, *frame.nexts.deltas()):
                        self._deltas[self._names[delta.handle]].append(delta)
        outgoing.put_nowait(None)


def gone(attach: Attach) -> Gone:
    return Gone(attach.handle, "nobody waits")
