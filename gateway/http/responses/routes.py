"""Create, retrieve, cancel and delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.ask import Ask, ChatPrompt, whole_choices
from gateway.catalog import Catalog
from gateway.http.answering import (
    CALLER_SCOPE,
    Exchange,
    RequestHead,
    answer_exchange,
    direct_of,
    head_of,
)
from gateway.http.body import read_body, refuse_unless_neutral
from gateway.http.paging import query_of
from gateway.http.responses.body import (
    ResponseFields,
    input_messages,
    read_response_call,
    sampling_of_response,
)
from gateway.http.responses.shelf import Kept, Shelf
from gateway.http.responses.wire import ResponseWriter, response_object
from gateway.http.sse import send_reply
from gateway.intake import Intake
from services.core.caller import Caller
from services.core.caller import Scope as Permission
from services.core.errors import Conflict, InvalidRequest, Overloaded, TokenmillError
from services.core.request import ChatMessage
from services.runtime.logs import get_logger

log = get_logger(__name__)

MAX_BACKGROUND = 256
"""Responses that one gateway answers with nobody waiting."""

_WATCH_INTERVAL_S = 0.5
_RUNNING = ("queued", "in_progress")


class _Draft:
    """One response in the making."""

    def __init__(
        self, call: ResponseFields, ask: Ask, writer: ResponseWriter, past: tuple[ChatMessage, ...]
    ) -> None:
        self.call = call
        self.ask = ask
        self.writer = writer
        self._past = past

    def kept(self) -> Kept:
        """As the shelf keeps it; the instructions are not carried over to a later response."""
        messages = [(message.role, message.content) for message in self._past]
        if self.writer.text:
            messages.append(("assistant", self.writer.text))
        return Kept(self.writer.response, messages)


class CreateResponse:
    """ASGI endpoint of POST /v1/responses."""

    def __init__(
        self,
        intake: Intake,
        catalog: Catalog,
        shelf: Shelf,
        tasks: asyncio.TaskGroup,
        *,
        max_body_bytes: int,
        request_timeout_s: float,
    ) -> None:
        self._intake = intake
        self._catalog = catalog
        self._shelf = shelf
        self._tasks = tasks
        self._max_body_bytes = max_body_bytes
        self._timeout_s = request_timeout_s
        self._num_background = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or takes it and answers later."""
        head = head_of(scope, timeout_s=self._timeout_s)
        head.caller.require(Permission.INFERENCE)
        body = await read_body(scope, receive, limit_bytes=self._max_body_bytes)
        draft = await self._draft(read_response_call(body), head)
        if draft.call.background:
            await self._start(draft)
            await send_reply(send, 200, msgspec.json.encode(draft.writer.response))
            return
        exchange = self._exchange(draft)
        await answer_exchange(self._intake, exchange, receive, send, direct_of(scope))

    async def _draft(self, call: ResponseFields, head: RequestHead) -> _Draft:
        past: tuple[ChatMessage, ...] = ()
        if call.previous_response_id is not None:
            before, _ = await self._shelf.read(
                head.caller.tenant, call.previous_response_id, field="previous_response_id"
            )
            past = before.conversation()
        past = (*past, *input_messages(call))
        if not past:
            raise InvalidRequest("input is empty; at least one message is needed", field="input")
        instructions = (ChatMessage("system", call.instructions),) if call.instructions else ()
        model = self._catalog.find(call.model or "").name
        ask = Ask(
            request_id=head.request_id,
            caller=head.caller,
            prompt=ChatPrompt((*instructions, *past), field="input"),
            deadline_unix_ms=head.deadline_unix_ms,
            model=model,
            sampling=sampling_of_response(call),
            stream=bool(call.stream),
            cache=head.cache,
        )
        status = "queued" if call.background else "in_progress"
        response = response_object(call, f"resp_{head.request_id}", model, status)
        return _Draft(call, ask, ResponseWriter(response, f"msg_{head.request_id}"), past)

    def _exchange(self, draft: _Draft) -> Exchange:
        async def keep() -> None:
            await self._shelf.write(draft.ask.tenant, draft.kept(), revision=0)

        return Exchange(
            draft.ask,
            draft.writer,
            keep=None if draft.call.store is False else keep,
            error_event=draft.writer.error_event,
            spelt={"max_tokens": "max_output_tokens"},
        )

    async def _start(self, draft: _Draft) -> None:
        if self._num_background >= MAX_BACKGROUND:
            raise Overloaded(
                f"this gateway answers {MAX_BACKGROUND} background responses already",
                retry_after_s=5.0,
                reason="BACKGROUND_FULL",
            )
        revision = await self._shelf.write(draft.ask.tenant, draft.kept(), revision=0)
        self._num_background += 1
        self._tasks.create_task(self._run(draft, revision))

    async def _run(self, draft: _Draft, revision: int) -> None:
        """Answers with nobody waiting; stops when somebody cancels it."""
        work = asyncio.ensure_future(self._answer(draft))
        try:
            while not work.done():
                await asyncio.wait((work,), timeout=_WATCH_INTERVAL_S)
                if not work.done() and await self._is_cancelled(draft):
                    work.cancel()
                    await asyncio.wait((work,))
                    return
            await self._shelf.write(draft.ask.tenant, draft.kept(), revision=revision)
        except Conflict:
            log.info("response.cancelled", request_id=draft.ask.request_id)
        except TokenmillError as exc:
            log.warning("response.not_kept", request_id=draft.ask.request_id, reason=exc.reason)
        finally:
            work.cancel()
            self._num_background -= 1

    async def _answer(self, draft: _Draft) -> None:
        try:
            async with (
                self._intake.answer(draft.ask) as answer,
                aclosing(answer.pieces()) as pieces,
            ):
                draft.writer.whole(whole_choices([piece async for piece in pieces]))
        except TokenmillError as exc:
            draft.writer.fail(exc)
        except Exception as exc:
            log.error("answer.failed", exc_info=exc)
            draft.writer.fail(exc)

    async def _is_cancelled(self, draft: _Draft) -> bool:
        try:
            kept, _ = await self._shelf.read(
                draft.ask.tenant, draft.writer.response["id"], field="response_id"
            )
        except TokenmillError as exc:
            return exc.reason == "RESPONSE_NOT_FOUND"
        return kept.response["status"] not in _RUNNING


class KeptResponse:
    """ASGI endpoint of one kept response.

    Args:
        shelf: where it is.
        act: what to do with it; returns the changed record, or None to leave it.
        reply: body of the answer.
    """

    def __init__(
        self,
        shelf: Shelf,
        act: Callable[[Kept], Kept | None],
        reply: Callable[[Kept], dict[str, Any]],
    ) -> None:
        self._shelf = shelf
        self._act = act
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            NotFound: the caller's tenant has no such response.
        """
        caller: Caller = scope[CALLER_SCOPE]
        caller.require(Permission.INFERENCE)
        refuse_unless_neutral("stream", query_of(scope).get("stream"), ("false",))
        response_id: str = scope["path_params"]["response_id"]
        kept, revision = await self._shelf.read(caller.tenant, response_id, field="response_id")
        changed = self._act(kept)
        if changed is not None:
            await self._shelf.write(caller.tenant, changed, revision=revision)
        await send_reply(send, 200, msgspec.json.encode(self._reply(changed or kept)))


def leave(kept: Kept) -> None:
    """Retrieving changes nothing."""


def cancel(kept: Kept) -> Kept | None:
    """A background response that runs is cancelled; one that is over stays as it is.

    Raises:
        InvalidRequest: somebody waits for it: closing that connection cancels it.
    """
    if not kept.response["background"]:
        raise InvalidRequest(
            "only a response with background=true can be cancelled", field="response_id"
        )
    if kept.response["status"] not in _RUNNING:
        return None
    return Kept({**kept.response, "status": "cancelled"}, kept.messages)


def delete(kept: Kept) -> Kept:
    """Nothing of it is left but that it was."""
    return Kept({"id": kept.response["id"], "status": "deleted"}, [], is_deleted=True)


def shown(kept: Kept) -> dict[str, Any]:
    """The response itself."""
    return kept.response


def deleted(kept: Kept) -> dict[str, Any]:
    """That it is gone."""
    return {"id": kept.response["id"], "object": "response.deleted", "deleted": True}
