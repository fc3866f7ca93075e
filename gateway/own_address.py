"""Where others reach this process."""

from __future__ import annotations

import socket

_EVERY_INTERFACE = {"", "0.0.0.0", "::", "[::]"}


def advertised_address(configured: str, *, host: str, port: int) -> str:
    """The configured address; else the bound one, with a real host for every interface."""
    if configured:
        return configured
    if host in _EVERY_INTERFACE:
        host = _own_host()
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _own_host() -> str:
    """Address of the interface that leads outside; loopback if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing; it only asks for the route.
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"
