"""The gRPC door for clients of the Open Inference Protocol v2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import grpc
from tokenmill.kserve.open_inference_pb2_grpc import GRPCInferenceServiceServicer

from gateway.access.authenticator import Authenticator
from gateway.ask import Ask, whole_choices
from gateway.catalog import Catalog
from gateway.deadline import deadline_unix_ms
from gateway.grpc.inference_servicer import metadata_of
from gateway.grpc.open_inference_call import INPUTS, OUTPUT, VERSION, check_version, read_call
from gateway.intake import Intake
from gateway.readiness import Readiness
from gateway.requests.answer import Answer
from gateway.requests.request_ids import request_ids
from gateway.results.wish import wish_of
from services.core.caller import Caller
from services.core.errors import InvalidRequest, TokenmillError
from services.core.request import FinishReason, Usage
from services.runtime.logs import bind_request, get_logger
from services.wire.errors import public_message
from services.wire.open_inference import (
    InferCall,
    InferPart,
    Parameter,
    infer_request_from_pb,
    infer_response_to_pb,
    model_metadata_to_pb,
    model_ready_to_pb,
    server_live_to_pb,
    server_metadata_to_pb,
    server_ready_to_pb,
    stream_error_to_pb,
    stream_part_to_pb,
)

log = get_logger(__name__)

MAX_STREAM_REQUESTS = 64
"""Requests of one stream that run at once; more are read when one of them ends."""

MAX_STREAM_RESPONSES = 256
"""Responses that wait for a client that reads slowly; then its answers wait too."""


class OpenInferenceServicer(GRPCInferenceServiceServicer):
    """Same callers, limits and requests as the other doors; probes ask for no key."""

    def __init__(
        self,
        intake: Intake,
        catalog: Catalog,
        authenticator: Authenticator,
        readiness: Readiness,
        *,
        request_timeout_s: float,
    ) -> None:
        self._intake = intake
        self._catalog = catalog
        self._authenticator = authenticator
        self._readiness = readiness
        self._timeout_s = request_timeout_s

    async def ServerLive(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """The event loop turns."""
        return server_live_to_pb(True)

    async def ServerReady(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """As /readyz."""
        return server_ready_to_pb(not self._readiness.reasons_against())

    async def ModelReady(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Whether this caller may ask this model now; false for one that does not exist."""
        caller = await self._authenticator.caller(metadata_of(context))
        names = {model.name for model in self._catalog.models if caller.may_use(model.name)}
        is_ready = request.name in names and request.version in ("", VERSION)
        return model_ready_to_pb(is_ready and not self._readiness.reasons_against())

    async def ServerMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Name and version."""
        await self._authenticator.caller(metadata_of(context))
        return server_metadata_to_pb("tokenmill", version("tokenmill"))

    async def ModelMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Tensors of a model."""
        caller = await self._authenticator.caller(metadata_of(context))
        check_version(request.version)
        model = self._catalog.find(request.name)
        caller.require_model(model.name)
        return model_metadata_to_pb(model.name, [VERSION], INPUTS, OUTPUT)

    async def ModelInfer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """A whole answer."""
        caller = await self._authenticator.caller(metadata_of(context))
        call = infer_request_from_pb(request)
        ask, stream = self._ask(call, caller, context)
        if stream:
            raise InvalidRequest("stream is true; allowed in ModelStreamInfer only", field="stream")
        async with self._intake.answer(ask) as answer:
            context.add_done_callback(lambda _: answer.abandon())  # pyright: ignore[reportArgumentType]
            return infer_response_to_pb(await _whole(call, answer))

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """Answers of several requests, side by side; one that fails says so and others go on."""
        caller = await self._authenticator.caller(metadata_of(context))
        stream = _Stream(self, caller, context)
        reader = asyncio.ensure_future(stream.read(request_iterator))
        context.add_done_callback(lambda _: reader.cancel())  # pyright: ignore[reportArgumentType]
        try:
            while (message := await stream.responses.get()) is not None:
                yield message
            await reader
        finally:
            reader.cancel()

    def _ask(
        self, call: InferCall, caller: Caller, context: grpc.aio.ServicerContext
    ) -> tuple[Ask, bool | None]:
        asked = read_call(call)
        ids = request_ids(call.request_id)
        bind_request(ids.own)
        ask = Ask(
            request_id=ids.own,
            caller=caller,
            prompt=asked.prompt,
            deadline_unix_ms=deadline_unix_ms(context.time_remaining(), limit_s=self._timeout_s),
            model=call.model,
            sampling=asked.sampling,
            request_class=asked.request_class,
            stream=bool(asked.stream),
            cache=wish_of(metadata_of(context), caller),
        )
        return ask, asked.stream

    async def answer_on_stream(
        self,
        call: InferCall,
        caller: Caller,
        context: grpc.aio.ServicerContext,
        responses: asyncio.Queue[Any],
    ) -> None:
        """Puts an answer's pieces into a queue; in one piece if the call says so.

        Raises:
            TokenmillError: refused, or broken off.
        """
        ask, stream = self._ask(call, caller, context)
        async with self._intake.answer(ask) as answer:
            if stream is False:
                await responses.put(stream_part_to_pb(await _whole(call, answer)))
                return
            async for piece in answer.pieces():
                if piece.text or piece.finish_reason is not None:
                    told = _told(piece.finish_reason, piece.usage)
                    await responses.put(stream_part_to_pb(_part(call, answer, piece.text, told)))


class _Stream:
    """One ModelStreamInfer call."""

    def __init__(
        self, servicer: OpenInferenceServicer, caller: Caller, context: grpc.aio.ServicerContext
    ) -> None:
        self.responses: asyncio.Queue[Any] = asyncio.Queue(MAX_STREAM_RESPONSES)
        self._servicer = servicer
        self._caller = caller
        self._context = context
        self._room = asyncio.Semaphore(MAX_STREAM_REQUESTS)

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Answers requests until the client has no more; cancelled, it stops all of them."""
        try:
            async with asyncio.TaskGroup() as tasks:
                async for request in requests:
                    await self._room.acquire()
                    tasks.create_task(self._answer(request))
        except Exception:
            await self.responses.put(None)
            raise
        await self.responses.put(None)

    async def _answer(self, request: Any) -> None:
        try:
            call = infer_request_from_pb(request)
            await self._servicer.answer_on_stream(call, self._caller, self._context, self.responses)
        except Exception as exc:
            if not isinstance(exc, TokenmillError):
                log.error("answer.failed", exc_info=exc)
            reason = exc.reason if isinstance(exc, TokenmillError) else TokenmillError.reason
            error = stream_error_to_pb(request.id, public_message(exc), reason)
            await self.responses.put(error)
        finally:
            self._room.release()


async def _whole(call: InferCall, answer: Answer) -> InferPart:
    (choice,) = whole_choices([piece async for piece in answer.pieces()])
    return _part(call, answer, choice.text, _told(choice.finish_reason, choice.usage))


def _part(call: InferCall, answer: Answer, text: str, told: dict[str, Parameter]) -> InferPart:
    request_id = call.request_id or answer.request_id
    return InferPart(answer.model, VERSION, request_id, OUTPUT, text, call.is_raw, told)


def _told(reason: FinishReason | None, usage: Usage | None) -> dict[str, Parameter]:
    """Parameters of a response; the last says so as Triton does."""
    told: dict[str, Parameter] = {"triton_final_response": reason is not None}
    if reason is not None:
        told["finish_reason"] = reason.value
    if usage is not None:
        told["prompt_tokens"] = usage.prompt_tokens
        told["completion_tokens"] = usage.completion_tokens
        told["cached_tokens"] = usage.cached_tokens
        if usage.is_result_cached:
            told["result_cached"] = True
    return told
