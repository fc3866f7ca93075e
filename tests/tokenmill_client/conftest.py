from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tokenmill.v1 import inference_pb2_grpc

from services.core.errors import TokenmillError
from services.core.request import FinishReason, Usage
from services.runtime.rpc_server import RpcServer
from services.wire.inference import (
    AnswerPart,
    chat_request_from_pb,
    chat_response_to_pb,
    generate_request_from_pb,
    generate_response_to_pb,
)

FIRST = AnswerPart("req-1", "Hel", (1,))
LAST = AnswerPart("req-1", "lo", (2,), FinishReason.STOP, Usage(3, 2))


@dataclass
class FakeGateway(inference_pb2_grpc.InferenceServiceServicer):
    """Answers by a script: an error breaks off, or refuses if it comes first."""

    scripts: list[list[AnswerPart | TokenmillError]] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    target: str = ""

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._note(generate_request_from_pb(request), context)
        for step in self.scripts.pop(0):
            if isinstance(step, TokenmillError):
                raise step
            yield generate_response_to_pb(step)

    async def Chat(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._note(chat_request_from_pb(request), context)
        for step in self.scripts.pop(0):
            if isinstance(step, TokenmillError):
                raise step
            yield chat_response_to_pb(step)

    def _note(self, call: Any, context: Any) -> None:
        self.calls.append(call)
        self.metadata.append(dict(context.invocation_metadata()))


@pytest.fixture
async def fake_gateway() -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway()
    rpc = RpcServer()
    rpc.add(
        inference_pb2_grpc.add_InferenceServiceServicer_to_server,
        gateway,
        "tokenmill.v1.InferenceService",
    )
    port = await rpc.start("127.0.0.1", 0)
    await rpc.set_ready(True)
    gateway.target = f"127.0.0.1:{port}"
    yield gateway
    await rpc.stop(0)
