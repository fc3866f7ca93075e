"""A gRPC server as every process runs it: health, reflection, tracing, one way to say errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from services.core.errors import InvalidRequest, TokenmillError
from services.runtime import names
from services.runtime.logs import get_logger
from services.runtime.metrics import RPC_SERVER_DURATION, exemplar
from services.runtime.telemetry import context_from_headers, tracer
from services.runtime.tracing.sampling import SERVER_FAULTS
from services.wire.errors import row_of, to_status

log = get_logger(__name__)

MAX_MESSAGE_BYTES = 64 << 20
# Streams that live as long as their processes: a span would never end.
_UNTRACED = ("/grpc.health.", "/grpc.reflection.", "/tokenmill.v1.DeliveryService/Deliver")

# Of both ends of a connection.
CONNECTION_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # K/V blocks in few frames.
    ("grpc.http2.max_frame_size", 1 << 20),
    ("grpc.keepalive_permit_without_calls", 1),
    # A peer that was cut off without a word is noticed too: its work goes elsewhere.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A peer that is frozen sends nothing: pings must not wait for data in between.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
MIN_PING_INTERVAL = "grpc.http2.min_ping_interval_without_data_ms"
"""As grpc spells what it calls GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS. Without it a
connection on which we say nothing for half a minute is cut: by grpc, at the third ping."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *CONNECTION_OPTIONS,
    (MIN_PING_INTERVAL, 5_000),
    ("grpc.so_reuseport", 0),
)


class RpcServer:
    """Wraps grpc.aio.server; not ready until set_ready."""

    def __init__(self, *, max_concurrent_rpcs: int | None = None) -> None:
        self.grpc = grpc.aio.server(
            interceptors=[_CallInterceptor()],
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=max_concurrent_rpcs,
        )
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self._service_names: list[str] = []

    def add(
        self, register: Callable[[Any, grpc.aio.Server], None], servicer: Any, name: str
    ) -> None:
        """Adds a service.

        Args:
            register: add_XServicer_to_server of the generated code.
            servicer: its implementation.
            name: full name, e.g. "tokenmill.v1.WorkerService".
        """
        register(servicer, self.grpc)
        self._service_names.append(name)

    def listen(
        self, host: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Takes one more port before the start; returns it.

        Raises:
            OSError: the address is taken.
        """
        try:
            if credentials is None:
                return self.grpc.add_insecure_port(f"{host}:{port}")
            return self.grpc.add_secure_port(f"{host}:{port}", credentials)
        except RuntimeError as exc:
            raise OSError(f"cannot listen on {host}:{port}") from exc

    async def start(
        self, host: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Listens, with TLS if there are credentials; returns the port. Not ready yet.

        Raises:
            OSError: the address is taken.
        """
        reflection.enable_server_reflection(
            [*self._service_names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc
        )
        await self.set_ready(False)
        bound = self.listen(host, port, credentials)
        await self.grpc.start()
        return bound

    async def set_ready(self, ready: bool) -> None:
        """What the standard health service says, for the server and each of its services."""
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if ready
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._service_names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, gives running ones grace_s seconds. Twice is safe."""
        await self.set_ready(False)
        await self.grpc.stop(grace_s)


class _CallInterceptor(grpc.aio.ServerInterceptor):
    """Per call: a server span under the caller's, a duration, and errors by the table."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(("/grpc.health.", "/grpc.reflection.")):
            return handler
        headers = {
            key: value
            for key, value in handler_call_details.invocation_metadata or ()
            if isinstance(value, str)
        }
        traced = not method.startswith(_UNTRACED)
        if handler.response_streaming:
            behavior = handler.stream_stream or handler.unary_stream

            async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
                call = _Call(method, headers, traced=traced)
                try:
                    _check_decoded(request)
                    async for response in behavior(request, context):
                        yield response
                except BaseException as exc:
                    await call.fail(exc, context)
                    raise
                finally:
                    call.end()

            wrap = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return wrap(stream, _deserializer(handler), _serializer(handler))

        behavior = handler.stream_unary or handler.unary_unary

        async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
            call = _Call(method, headers, traced=traced)
            try:
                _check_decoded(request)
                return await behavior(request, context)
            except BaseException as exc:
                await call.fail(exc, context)
                raise
            finally:
                call.end()

        wrap = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return wrap(unary, _deserializer(handler), handler.response_serializer)


class _Malformed:
    """Stands for bytes that are no message; grpc would call them an error of ours, UNKNOWN."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _deserializer(handler: Any) -> Callable[[bytes], Any]:
    deserialize: Callable[[bytes], Any] = handler.request_deserializer
    if handler.request_streaming:
        # There the servicer sees the error when it reads; such streams come from our own kind.
        return deserialize

    def tolerant(payload: bytes) -> Any:
        try:
            return deserialize(payload)
        except DecodeError as exc:
            return _Malformed(str(exc))

    return tolerant


def _serializer(handler: Any) -> Callable[[Any], bytes]:
    """What a servicer answers as bytes is encoded already."""
    serialize: Callable[[Any], bytes] = handler.response_serializer
    return lambda answer: answer if isinstance(answer, bytes) else serialize(answer)


def _check_decoded(request: Any) -> None:
    if isinstance(request, _Malformed):
        raise InvalidRequest(f"the message is malformed: {request.reason}", reason="MALFORMED")


class _Call:
    """Span and clock of one call being served."""

    def __init__(self, method: str, headers: dict[str, str], *, traced: bool) -> None:
        self._method = method.lstrip("/")
        self._started = time.perf_counter()
        self._code = "OK"
        parent = context_from_headers(headers)
        self._span = (
            tracer.start_span(
                self._method,
                parent,
                SpanKind.SERVER,
                {names.RPC_SYSTEM_NAME: "grpc", names.RPC_METHOD: self._method},
            )
            if traced
            else trace.INVALID_SPAN
        )
        if traced:
            # Never detached: grpc runs each call in a task of its own, whose context ends with it.
            otel_context.attach(trace.set_span_in_context(self._span, parent))

    async def fail(self, exc: BaseException, context: Any) -> None:
        """Says the error to the caller by the one table; returns if that is grpc's own business."""
        if isinstance(exc, asyncio.CancelledError | GeneratorExit):
            self._code = "CANCELLED"
            return
        if isinstance(exc, grpc.aio.AbortError | grpc.RpcError):
            self._code = "UNKNOWN"
            return
        self._code = row_of(exc).grpc_code.name
        if not isinstance(exc, TokenmillError):
            log.error("rpc.failed", rpc_method=self._method, exc_info=exc)
        await context.abort_with_status(rpc_status.to_status(to_status(exc)))

    def end(self) -> None:
        """Ends the span and counts the call."""
        self._span.set_attributes(
            {names.RPC_STATUS_CODE: self._code, names.RPC_RESPONSE_STATUS_CODE: self._code}
        )
        if self._code in SERVER_FAULTS:
            self._span.set_attribute(names.ERROR_TYPE, self._code)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        RPC_SERVER_DURATION.labels(self._method, self._code).observe(
            time.perf_counter() - self._started, exemplar(self._span)
        )
