"""GET /livez, /readyz and /metrics."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.http.answering import CALLER_SCOPE
from gateway.http.errors import error_status
from gateway.http.sse import send_reply
from gateway.readiness import Readiness
from services.core.caller import Scope as Permission
from services.core.errors import Overloaded
from services.runtime.metrics import render


async def livez(scope: Scope, receive: Receive, send: Send) -> None:
    """The event loop turns."""
    await send_reply(send, 200, b'{"status":"alive"}')


async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
    """Prometheus text format or OpenMetrics, of all tenants together: for operators.

    Raises:
        PermissionDenied: the key is no operator's.
    """
    scope[CALLER_SCOPE].require(Permission.ADMIN)
    accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
    body, content_type = render(accept)
    await send_reply(send, 200, body, content_type=content_type.encode())


class Readyz:
    """ASGI endpoint; says each reason against."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        reasons = self._readiness.reasons_against()
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons})
        status = error_status(Overloaded("not ready")) if reasons else 200
        await send_reply(send, status, body)
