"""uvicorn as part of a process that has its own signals and event loop."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from gateway.http.protocol import GuardedProtocol

BACKLOG = 2048
SEND_BUFFER_BYTES = 64 << 10
"""What the kernel may hold of one answer (it takes twice that); left to itself it takes megabytes,
and a client that stopped reading would be noticed thousands of tokens late."""


class HttpServer:
    """One HTTP server on a socket that it opens itself, so that a taken port is said at once."""

    def __init__(
        self, app: ASGIApp, *, drain_timeout_s: float, tls: ssl.SSLContext | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(drain_timeout_s)),
        )
        self._server = _Server(config)
        self._tls = tls
        self._socket: socket.socket | None = None

    def bind(self, host: str, port: int) -> int:
        """Takes the port and returns it.

        Raises:
            OSError: the address is taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        try:
            self._socket.bind((host, port))
        except OSError as exc:
            self._socket.close()
            raise OSError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
        self._socket.listen(BACKLOG)
        return self._socket.getsockname()[1]

    async def serve(self) -> None:
        """Serves until stop; call after bind."""
        assert self._socket is not None
        config = self._server.config
        config.load()
        config.ssl = self._tls
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Lets serve return once running replies are out. Twice is safe."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to services.runtime.lifecycle."""
        yield
