"""Where others reach this process."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

_ANY_ADDRESS = {"0.0.0.0", "::", ""}
_DISCARD_PORT = 9


def own_address(host: str, port: int, *, broker_url: str) -> str:
    """host:port as others reach it.

    Args:
        host: address that the server listens on.
        port: its port.
        broker_url: who hears this address reaches the broker too, so the interface towards the
            broker is the one to name.
    """
    if host not in _ANY_ADDRESS:
        return _join(host, port)
    broker = urlsplit(broker_url.split(",")[0]).hostname or "127.0.0.1"
    try:
        family, kind, _, _, peer = socket.getaddrinfo(
            broker, _DISCARD_PORT, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            # Connecting a datagram socket sends nothing; it only chooses the interface.
            probe.connect(peer)
            return _join(probe.getsockname()[0], port)
    except OSError:
        return _join(socket.gethostname(), port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
