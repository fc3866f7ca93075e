"""Where others reach this process."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

_EVERY_INTERFACE = {"", "0.0.0.0", "::", "[::]"}
_DISCARD_PORT = 9


def own_address(host: str, port: int, *, broker_url: str) -> str:
    """host:port as others reach it.

    Args:
        host: address that the server listens on; for every interface, the one towards the broker
            is named: who hears this address reaches the broker too.
        port: its port.
        broker_url: one or several, separated by commas.
    """
    if host in _EVERY_INTERFACE:
        host = _host_towards(urlsplit(broker_url.split(",")[0]).hostname or "127.0.0.1")
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _host_towards(peer: str) -> str:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            peer, _DISCARD_PORT, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            # Connecting a datagram socket sends nothing; it only chooses the interface.
            probe.connect(address)
            return probe.getsockname()[0]
    except OSError:
        return socket.gethostname()
