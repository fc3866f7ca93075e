from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.cli.cluster.readiness import is_ready_over_tls
from tests.gateway.test_tls import write_certificate


@asynccontextmanager
async def served(status: int, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status} -\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    write_certificate(tmp_path, "a")
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return made


@pytest.mark.parametrize(("status", "is_ready"), [(200, True), (503, False)])
async def test_a_process_behind_tls_says_whether_it_is_ready(
    context: ssl.SSLContext, status: int, is_ready: bool
):
    async with served(status, context) as port:
        assert await is_ready_over_tls(port, "/readyz") is is_ready


async def test_one_that_asks_for_our_certificate_serves(context: ssl.SSLContext):
    context.verify_mode = ssl.CERT_REQUIRED
    async with served(200, context) as port:
        assert await is_ready_over_tls(port, "/readyz")


async def test_one_without_tls_or_without_a_port_is_not_ready():
    async with served(200, None) as port:
        assert not await is_ready_over_tls(port, "/readyz")
    assert not await is_ready_over_tls(port, "/readyz")
