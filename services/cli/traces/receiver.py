"""OTLP over HTTP: POST /v1/traces, protobuf, plain or gzip; and explanations of what came."""

from __future__ import annotations

import asyncio
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.cli.explain.explanation import explanation_as_json
from services.cli.explain.lookup import explain_request
from services.cli.failure import CommandFailed
from services.cli.traces.asking import Asking
from services.cli.traces.otlp import MAX_MESSAGE_BYTES, decode_export
from services.cli.traces.store import TraceStore
from services.core.errors import BodyTooLarge, InvalidRequest, Overloaded, TokenmillError
from services.wire.errors import row_of

MAX_EXPORTS_AT_ONCE = 32
_PROTOBUF = "application/x-protobuf"


class Receiver:
    """Writes what arrives into a store, one export after the other.

    Args:
        store: written to.
        traces_file: the same, to be read.
        asking: whom to ask for what is not kept.
    """

    def __init__(self, store: TraceStore, traces_file: Path, asking: Asking) -> None:
        self._store = store
        self._asking = asking
        self._traces_file = traces_file
        self._lock = asyncio.Lock()
        self._num_exports = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/traces", self._export, methods=["POST"]),
                Route("/explain/{wanted}", self._explain, methods=["GET"]),
                Route("/readyz", self._ready, methods=["GET"]),
            ]
        )

    async def _export(self, request: Request) -> Response:
        try:
            await self._receive(request)
        except TokenmillError as exc:
            # Exporters try again after 503 and drop the batch after 400, as OTLP wants it.
            return PlainTextResponse(exc.message, status_code=row_of(exc).http_status)
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type=_PROTOBUF)

    async def _receive(self, request: Request) -> None:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if media_type != _PROTOBUF:
            raise InvalidRequest(
                f"content-type is {media_type!r}; allowed: {_PROTOBUF}", field="content-type"
            )
        if self._num_exports >= MAX_EXPORTS_AT_ONCE:
            raise Overloaded(f"{MAX_EXPORTS_AT_ONCE} exports are being written already")
        self._num_exports += 1
        try:
            body = await _read_body(request)
            encoding = request.headers.get("content-encoding", "").strip().lower()
            async with self._lock:
                await asyncio.to_thread(self._write, body, encoding)
        finally:
            self._num_exports -= 1

    def _write(self, body: bytes, encoding: str) -> None:
        self._store.add(decode_export(body, encoding))

    async def _explain(self, request: Request) -> Response:
        try:
            # A connection of its own to the file: reading does not wait for exports.
            explanation = await asyncio.to_thread(
                explain_request,
                self._traces_file,
                request.path_params["wanted"],
                self._asking,
            )
        except CommandFailed as exc:
            return PlainTextResponse(exc.message, status_code=404)
        return JSONResponse(explanation_as_json(explanation))

    async def _ready(self, _: Request) -> Response:
        return PlainTextResponse("ready")


async def _read_body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes > MAX_MESSAGE_BYTES:
            raise BodyTooLarge(size_bytes=size_bytes, limit_bytes=MAX_MESSAGE_BYTES)
        chunks.append(chunk)
    return b"".join(chunks)
