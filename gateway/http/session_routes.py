"""GET /api/chat/sessions, GET and DELETE of one of them: those of the caller's tenant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.http.answering import CALLER_SCOPE
from gateway.http.paging import limit_of, query_of
from gateway.http.sse import send_reply
from gateway.sessions.history import check_session_id
from gateway.sessions.sessions import Sessions
from services.core.caller import Caller
from services.core.caller import Scope as Permission

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


class SessionRoute:
    """ASGI endpoint; `work` does one thing with the sessions of a tenant."""

    def __init__(self, work: Callable[[Caller, Scope], Awaitable[dict[str, Any]]]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            PermissionDenied: the key is not for sessions.
        """
        caller: Caller = scope[CALLER_SCOPE]
        caller.require(Permission.SESSIONS)
        await send_reply(send, 200, msgspec.json.encode(await self._work(caller, scope)))


class SessionWork:
    """What the routes do."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def show_all(self, caller: Caller, scope: Scope) -> dict[str, Any]:
        """Ids in order, `limit` of them after the id `after`.

        Raises:
            InvalidRequest: a bad limit.
        """
        query = query_of(scope)
        limit = limit_of(query, default=DEFAULT_LIMIT, most=MAX_LIMIT)
        after = query.get("after", "")
        ids = [one for one in await self._sessions.ids_of(caller.tenant) if one > after]
        data = [{"id": one, "object": "session"} for one in ids[:limit]]
        return {"object": "list", "data": data, "has_more": len(ids) > limit}

    async def show(self, caller: Caller, scope: Scope) -> dict[str, Any]:
        """One session with its messages, oldest first."""
        session_id = _id_of(scope)
        session = await self._sessions.read(caller.tenant, session_id)
        return {"id": session_id, "object": "session", "messages": session.messages}

    async def delete(self, caller: Caller, scope: Scope) -> dict[str, Any]:
        """Forgets one."""
        session_id = _id_of(scope)
        await self._sessions.delete(caller.tenant, session_id)
        return {"id": session_id, "object": "session.deleted", "deleted": True}


def _id_of(scope: Scope) -> str:
    session_id: str = scope["path_params"]["session_id"]
    check_session_id(session_id, field="session_id")
    return session_id
