"""The gRPC door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from opentelemetry import trace
from tokenmill.v1.inference_pb2_grpc import InferenceServiceServicer

from gateway.access.authenticator import Authenticator
from gateway.ask import Ask, ChatPrompt, Prompt, TextPrompt, TokenPrompt
from gateway.catalog import Catalog
from gateway.deadline import deadline_unix_ms
from gateway.intake import Intake
from gateway.requests.request_ids import request_ids
from gateway.results.wish import HEADER, wish_of
from services.core.errors import InvalidRequest
from services.core.sampling import check_num_choices
from services.runtime import names
from services.runtime.logs import bind_request
from services.runtime.telemetry import inject_headers
from services.wire.inference import (
    AnswerPart,
    ChatCall,
    GenerateCall,
    ListedModel,
    chat_request_from_pb,
    chat_response_to_pb,
    generate_request_from_pb,
    generate_response_to_pb,
    list_models_response_to_pb,
)

REQUEST_ID_KEY = "x-request-id"


class InferenceServicer(InferenceServiceServicer):
    """Generate, Chat and ListModels.

    The caller's deadline is honoured, and capped by request_timeout_s. A session that does not
    exist begins with its first turn, as at the HTTP door. A caller that leaves stops its request.
    """

    def __init__(
        self,
        intake: Intake,
        catalog: Catalog,
        authenticator: Authenticator,
        *,
        request_timeout_s: float,
    ) -> None:
        self._intake = intake
        self._authenticator = authenticator
        self._catalog = catalog
        self._timeout_s = request_timeout_s

    async def Generate(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Completes a prompt."""
        call = generate_request_from_pb(request)
        ask = await self._ask(call, _prompt_of(call), context)
        async for part in self._parts(ask, call.return_token_ids, context):
            yield generate_response_to_pb(part)

    async def Chat(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Answers a conversation."""
        call = chat_request_from_pb(request)
        ask = await self._ask(call, ChatPrompt(call.messages), context, call.session_id)
        async for part in self._parts(ask, call.return_token_ids, context):
            yield chat_response_to_pb(part)

    async def ListModels(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Lists the models whose tokenizer is loaded."""
        caller = await self._authenticator.caller(metadata_of(context))
        return list_models_response_to_pb(
            [
                ListedModel(model.name, model.description.max_model_len, model.created_unix_s)
                for model in self._catalog.models
                if caller.may_use(model.name)
            ]
        )

    async def _ask(
        self,
        call: GenerateCall | ChatCall,
        prompt: Prompt,
        context: grpc.aio.ServicerContext,
        session_id: str = "",
    ) -> Ask:
        metadata = metadata_of(context)
        caller = await self._authenticator.caller(metadata)
        check_num_choices(call.num_choices, field="num_choices")
        if session_id and call.num_choices != 1:
            raise InvalidRequest(
                f"num_choices is {call.num_choices}; allowed with a session: 1", field="num_choices"
            )
        ids = request_ids(metadata.get(REQUEST_ID_KEY, ""))
        bind_request(ids.own)
        trace.get_current_span().set_attribute(names.REQUEST_ID, ids.shown)
        headers = {REQUEST_ID_KEY: ids.shown}
        inject_headers(headers)
        await context.send_initial_metadata(tuple(headers.items()))
        return Ask(
            request_id=ids.own,
            caller=caller,
            prompt=prompt,
            deadline_unix_ms=deadline_unix_ms(context.time_remaining(), limit_s=self._timeout_s),
            model=call.model,
            sampling=call.sampling,
            session_id=session_id,
            request_class=call.request_class,
            num_choices=call.num_choices,
            cache=wish_of(metadata, caller),
        )

    async def _parts(
        self, ask: Ask, return_token_ids: bool, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[AnswerPart]:
        async with self._intake.answer(ask) as answer:
            # A generator that is left while it waits in a write is closed late: tell at once.
            context.add_done_callback(lambda _: answer.abandon())  # pyright: ignore[reportArgumentType]
            if answer.lookup.outcome is not None:
                context.set_trailing_metadata(((HEADER.lower(), answer.lookup.outcome.value),))
            async for piece in answer.pieces():
                token_ids = piece.token_ids if return_token_ids else ()
                has_news = piece.text or token_ids or piece.logprobs or piece.prompt_logprobs
                if has_news or piece.finish_reason is not None:
                    yield AnswerPart(
                        request_id=ask.request_id,
                        text=piece.text,
                        token_ids=token_ids,
                        finish_reason=piece.finish_reason,
                        usage=piece.usage,
                        session_id=ask.session_id,
                        choice_idx=piece.choice_idx,
                        logprobs=piece.logprobs,
                        prompt_logprobs=piece.prompt_logprobs,
                    )


def _prompt_of(call: GenerateCall) -> Prompt:
    if call.prompt and call.prompt_token_ids:
        raise InvalidRequest(
            "prompt and prompt_token_ids are both set; allowed: one of them", field="prompt"
        )
    if call.prompt_token_ids:
        return TokenPrompt(call.prompt_token_ids, field="prompt_token_ids")
    return TextPrompt(call.prompt)


def metadata_of(context: grpc.aio.ServicerContext) -> dict[str, str]:
    """The caller's metadata; names in lower case, as gRPC sends them."""
    return {
        key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }
