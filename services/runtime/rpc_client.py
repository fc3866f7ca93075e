"""gRPC out: channels with tracing, and peers' answers as core errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_status import rpc_status
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from services.runtime import names
from services.runtime.metrics import RPC_CLIENT_DURATION, exemplar
from services.runtime.rpc_server import CONNECTION_OPTIONS
from services.runtime.telemetry import inject_headers, tracer
from services.wire.errors import from_rpc_error

_SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


def open_channel(target: str, *, traces_unary: bool = True) -> grpc.aio.Channel:
    """A traced channel; connects on first use, and again after a loss, by itself.

    Args:
        target: e.g. "127.0.0.1:50052" or "dns:///tokenizer:50052" (all addresses, in turn).
        traces_unary: False: calls of one message for one are traced by `TracedCall` instead.
    """
    streams = (_UnaryStreamTracing(target), _StreamUnaryTracing(target))
    return grpc.aio.insecure_channel(
        target,
        options=(
            ("grpc.service_config", _SERVICE_CONFIG),
            *CONNECTION_OPTIONS,
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            # A peer of the same address in another test or cluster is another peer.
            ("grpc.use_local_subchannel_pool", 1),
        ),
        interceptors=(_UnaryUnaryTracing(target), *streams) if traces_unary else streams,
    )


class TracedCall:
    """One message for one, traced as by `open_channel`, for calls made at hundreds a second.

    An interceptor costs such a call three tasks, a third of what the caller spends on it.

    Args:
        target: of the channel.
        method: full name, e.g. "tokenmill.v1.WorkerService/Submit".
        call: the method of a stub on a channel that traces no unary calls.
    """

    def __init__(self, target: str, method: str, call: Any) -> None:
        self._target = target
        self._method = method
        self._call = call

    async def __call__(
        self, request: Any, *, timeout_s: float, wait_for_ready: bool = False
    ) -> Any:
        """The answer.

        Args:
            request: the message.
            timeout_s: how long it may take.
            wait_for_ready: a peer that cannot be reached is waited for.

        Raises:
            grpc.aio.AioRpcError: as of the call itself.
        """
        started_s = time.perf_counter()
        span, headers = _start_span(self._method, self._target)
        code = "CANCELLED"
        try:
            response = await self._call(
                request,
                timeout=timeout_s,
                metadata=tuple(headers.items()) or None,
                wait_for_ready=wait_for_ready,
            )
            code = "OK"
            return response
        except grpc.aio.AioRpcError as exc:
            code = exc.code().name
            raise
        finally:
            _end_span(span, self._method, started_s, code)


@contextmanager
def peer_errors(peer: str) -> Iterator[None]:
    """Turns a peer's RPC error into the core error that it stands for.

    Args:
        peer: name of the service that is called, for messages.

    Raises:
        TokenmillError: by the one table.
    """
    try:
        yield
    except grpc.aio.AioRpcError as exc:
        try:
            status = rpc_status.from_call(exc)  # pyright: ignore[reportArgumentType]
        except ValueError:
            status = None
        raise from_rpc_error(exc.code(), exc.details() or "", status, peer=peer) from exc


def seconds_until(deadline_unix_ms: int) -> float:
    """Seconds that a call may take; at least 1 ms, so that a late call fails as late."""
    return max(0.001, deadline_unix_ms / 1000 - time.time())


class _Tracing:
    """Starts a client span per call and ends it with the call, however that ends."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    def _start(self, details: Any) -> tuple[Span, str, Any]:
        method = details.method
        name = (method.decode() if isinstance(method, bytes) else method).lstrip("/")
        span, headers = _start_span(name, self._target)
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        for key, value in headers.items():
            metadata[key] = value
        return span, name, details._replace(metadata=metadata)

    async def make_call(self, continuation: Any, details: Any, sent: Any) -> Any:
        """Makes the call; `sent` is a request, or an iterator of them."""
        started_s = time.perf_counter()
        span, method, details = self._start(details)
        call = await continuation(details, sent)
        task = asyncio.ensure_future(_end(span, method, started_s, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call


async def _end(span: Span, method: str, started_s: float, call: Any) -> None:
    try:
        code = (await call.code()).name
    except asyncio.CancelledError:
        code = "CANCELLED"
    _end_span(span, method, started_s, code)


def _start_span(method: str, target: str) -> tuple[Span, dict[str, str]]:
    """A client span, and the headers that name it to the peer."""
    span = tracer.start_span(
        method,
        kind=SpanKind.CLIENT,
        attributes={
            names.RPC_SYSTEM_NAME: "grpc",
            names.RPC_METHOD: method,
            names.SERVER_ADDRESS: target,
        },
    )
    headers: dict[str, str] = {}
    inject_headers(headers, trace.set_span_in_context(span))
    return span, headers


def _end_span(span: Span, method: str, started_s: float, code: str) -> None:
    span.set_attributes({names.RPC_STATUS_CODE: code, names.RPC_RESPONSE_STATUS_CODE: code})
    if code != "OK":
        span.set_attribute(names.ERROR_TYPE, code)
        span.set_status(StatusCode.ERROR)
    span.end()
    RPC_CLIENT_DURATION.labels(method, code).observe(
        time.perf_counter() - started_s, exemplar(span)
    )


class _UnaryUnaryTracing(_Tracing, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await self.make_call(continuation, client_call_details, request)


class _UnaryStreamTracing(_Tracing, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await self.make_call(continuation, client_call_details, request)


class _StreamUnaryTracing(_Tracing, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self.make_call(continuation, client_call_details, request_iterator)
