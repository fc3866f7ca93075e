"""Asks a child whether it is ready: standard gRPC health, or a path over HTTP."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.cluster.options import LOOPBACK

_ASK_TIMEOUT_S = 2.0
# The proxy of the user's shell cannot reach this machine's loopback.
_CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


async def is_ready(grpc_port: int | None, http_port: int | None, http_path: str) -> bool:
    """Whether every check that a process has says yes; no answer is a no.

    Args:
        grpc_port: of the standard health service; None: it has none.
        http_port: where http_path answers 200 when ready; None: it has none.
        http_path: e.g. "/readyz".
    """
    if grpc_port is not None and not await _grpc_serves(grpc_port):
        return False
    return http_port is None or await _http_answers(http_port, http_path)


async def _grpc_serves(port: int) -> bool:
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=_CHANNEL_OPTIONS) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(  # pyright: ignore[reportAttributeAccessIssue]
                health_pb2.HealthCheckRequest(), timeout=_ASK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING


async def _http_answers(port: int, path: str) -> bool:
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode())
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split()[1:2] == [b"200"]
