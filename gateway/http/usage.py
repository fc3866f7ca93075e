"""GET /api/v1/usage: what the caller's tenant used, per key and day."""

from __future__ import annotations

from dataclasses import asdict

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.http.answering import CALLER_SCOPE
from gateway.http.sse import send_reply
from gateway.quota.usage_book import UsageBook


class ShowUsage:
    """ASGI endpoint; a tenant sees its own days alone."""

    def __init__(self, usage: UsageBook) -> None:
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        days = await self._usage.of_tenant(scope[CALLER_SCOPE].tenant)
        body = {"object": "list", "data": [asdict(day) for day in days]}
        await send_reply(send, 200, msgspec.json.encode(body))
