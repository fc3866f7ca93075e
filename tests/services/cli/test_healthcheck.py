from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.cli.healthcheck import check_grpc, check_http, main
from services.runtime.rpc_server import RpcServer
from tests.support.nats import free_port


async def test_grpc_server_is_healthy_once_it_is_ready():
    server = RpcServer()
    address = f"127.0.0.1:{await server.start('127.0.0.1', 0)}"
    assert await asyncio.to_thread(check_grpc, address, 5.0) == "NOT_SERVING"
    await server.set_ready(True)
    assert await asyncio.to_thread(check_grpc, address, 5.0) == ""
    await server.stop(0)


def test_closed_port_is_not_healthy():
    port = free_port()
    assert "UNAVAILABLE" in check_grpc(f"127.0.0.1:{port}", 5.0)
    assert check_http(f"http://127.0.0.1:{port}/readyz", 5.0) != ""


@pytest.fixture
def fake_http() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_exit_status_tells_a_ready_http_server_from_one_that_is_not(fake_http, capsys):
    assert main(["--http", f"{fake_http}/readyz"]) == 0
    assert main(["--http", f"{fake_http}/other"]) == 1
    assert capsys.readouterr().err == "not healthy: HTTP 503\n"
