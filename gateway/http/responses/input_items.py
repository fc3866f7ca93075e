"""GET /v1/responses/{id}/input_items: what a kept response answered."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.http.answering import CALLER_SCOPE
from gateway.http.paging import limit_of, query_of
from gateway.http.responses.shelf import Kept, Shelf
from gateway.http.sse import send_reply
from services.core.caller import Caller
from services.core.caller import Scope as Permission
from services.core.errors import InvalidRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
_ORDERS = ("asc", "desc")


class ShowInputItems:
    """ASGI endpoint; pages go by `limit`, `order` and `after`, as OpenAI's do."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            NotFound: the caller's tenant has no such response.
            InvalidRequest: names the query parameter.
        """
        caller: Caller = scope[CALLER_SCOPE]
        caller.require(Permission.INFERENCE)
        response_id: str = scope["path_params"]["response_id"]
        query = query_of(scope)
        limit = limit_of(query, default=DEFAULT_LIMIT, most=MAX_LIMIT)
        order = query.get("order", "desc")
        if order not in _ORDERS:
            raise InvalidRequest(
                f"order is {order[:32]!r}; allowed: {', '.join(_ORDERS)}", field="order"
            )
        kept, _ = await self._shelf.read(caller.tenant, response_id, field="response_id")
        items = _items(kept)
        if order == "desc":
            items.reverse()
        after = query.get("after")
        if after is not None:
            ids = [item["id"] for item in items]
            if after not in ids:
                raise InvalidRequest(f"after is {after[:64]!r}; no item has this id", field="after")
            items = items[ids.index(after) + 1 :]
        await send_reply(send, 200, msgspec.json.encode(_page(items, limit)))


def _items(kept: Kept) -> list[dict[str, Any]]:
    """The messages before the answer, oldest first."""
    messages = kept.messages[:-1] if kept.response["output"] else kept.messages
    return [
        {
            "id": f"{kept.response['id'].replace('resp_', 'msg_', 1)}_in{idx}",
            "type": "message",
            "status": "completed",
            "role": role,
            "content": [_part(role, text)],
        }
        for idx, (role, text) in enumerate(messages)
    ]


def _part(role: str, text: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}


def _page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    shown = items[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(items) > limit,
    }
