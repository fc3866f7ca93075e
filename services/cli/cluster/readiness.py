"""Asks a child whether it is ready: standard gRPC health, or a path over HTTP."""

from __future__ import annotations

import asyncio
import ssl

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
    return http_port is None or _is_ok(await _ask(http_port, http_path))


async def is_ready_over_tls(http_port: int, http_path: str) -> bool:
    """The same of a process whose ports speak TLS, by HTTP alone.

    Its certificate is for its clients to check. One that asks for certificates of theirs tells us
    no more than that it serves.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status_line = await _ask(http_port, http_path, context)
    # No word after a handshake: it wants a certificate of ours.
    return status_line == b"" or _is_ok(status_line)


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


async def _ask(port: int, path: str, tls: ssl.SSLContext | None = None) -> bytes | None:
    """Status line of the answer, empty if the connection is closed first; None: there is none."""
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=tls)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode())
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None


def _is_ok(status_line: bytes | None) -> bool:
    return (status_line or b"").split()[1:2] == [b"200"]
