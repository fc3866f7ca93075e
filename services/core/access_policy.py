"""Whether a gateway may serve without asking who calls."""

from __future__ import annotations

import enum
import ipaddress

from services.core.errors import InvalidRequest


class AuthMode(enum.StrEnum):
    """What a gateway asks of its callers.

    AUTO: nothing on loopback; elsewhere the gateway refuses to start. OPEN: nothing, on loopback
    only. REQUIRED: a key or token, everywhere.
    """

    AUTO = "auto"
    OPEN = "open"
    REQUIRED = "required"


def asks_for_keys(mode: AuthMode, host: str) -> bool:
    """Whether callers need a key.

    Raises:
        InvalidRequest: the address can be reached from outside, and nobody would be asked.
    """
    if mode is AuthMode.REQUIRED:
        return True
    if not _is_loopback(host):
        raise InvalidRequest(
            f"TOKENMILL_HOST is {host!r}, which others can reach, and nobody would be asked for a"
            " key: set TOKENMILL_AUTH=required (`tokenmill up --auth`) and make a key with"
            " `tokenmill keys create`, or listen on 127.0.0.1",
            field="TOKENMILL_AUTH",
        )
    return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
