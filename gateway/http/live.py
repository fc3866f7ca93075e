"""GET /api/v1/live and /api/v1/explain/{request_id}: what goes on, and why something took long."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import msgspec
from starlette.types import Receive, Scope, Send

from gateway.http.answering import CALLER_SCOPE
from gateway.http.sse import send_reply
from gateway.live_view.snapshot import LiveView
from services.core.caller import Scope as Permission
from services.core.errors import DependencyLost, NotFound

_TIMEOUT_S = 10.0


class ShowLive:
    """ASGI endpoint; of all tenants together, so for operators."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        scope[CALLER_SCOPE].require(Permission.ADMIN)
        await send_reply(send, 200, msgspec.json.encode(self._view.snapshot()))


class Explain:
    """ASGI endpoint; asks the trace store. A trace tells of others' load, so it is for operators.

    Args:
        traces_url: of the store; empty: traces go elsewhere, or nowhere.
    """

    def __init__(self, traces_url: str) -> None:
        self._url = traces_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        scope[CALLER_SCOPE].require(Permission.ADMIN)
        if not self._url:
            raise NotFound("traces are not kept by this cluster", reason="NO_TRACE_STORE")
        request_id = scope["path_params"]["request_id"]
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
                reply = await client.get(f"{self._url}/explain/{quote(request_id, safe='')}")
        except httpx.HTTPError as exc:
            raise DependencyLost(f"the trace store does not answer: {exc!r}") from exc
        if reply.status_code != 200:
            raise NotFound(reply.text, reason="NO_TRACE")
        await send_reply(send, 200, reply.content)
