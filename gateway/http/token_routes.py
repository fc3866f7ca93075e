"""Routes that tokenize without generating: /tokenize, /detokenize, and counts of other APIs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.ask import ChatPrompt, Prompt
from gateway.catalog import Catalog, ServedModel
from gateway.http.answering import CALLER_SCOPE, RequestHead, head_of
from gateway.http.body import decode_body, read_body
from gateway.http.completions import prompt_of
from gateway.http.messages import MessageFields, messages_of
from gateway.http.sse import send_reply
from gateway.prompts import PromptReader, check_token_ids
from services.core.caller import Caller
from services.core.caller import Scope as Permission
from services.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Counting:
    """What to tokenize, and how to answer with its ids."""

    prompt: Prompt
    model: ServedModel
    reply: Callable[[Sequence[int]], bytes]


class CountRoute:
    """ASGI endpoint.

    Args:
        prompts: tokenizes.
        parse: body and head to what is to be counted.
        max_body_bytes, request_timeout_s: see GatewaySettings.
    """

    def __init__(
        self,
        prompts: PromptReader,
        parse: Callable[[bytes, RequestHead], Counting],
        *,
        max_body_bytes: int,
        request_timeout_s: float,
    ) -> None:
        self._prompts = prompts
        self._parse = parse
        self._max_body_bytes = max_body_bytes
        self._timeout_s = request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        head = head_of(scope, timeout_s=self._timeout_s)
        head.caller.require(Permission.INFERENCE)
        body = await read_body(scope, receive, limit_bytes=self._max_body_bytes)
        counting = self._parse(body, head)
        head.caller.require_model(counting.model.name)
        token_ids = await self._prompts.token_ids(
            counting.prompt, counting.model, deadline_unix_ms=head.deadline_unix_ms
        )
        await send_reply(send, 200, counting.reply(token_ids))


class TokenizeFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of /tokenize: exactly one of prompt and messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[MessageFields] | None = None
    return_token_strs: bool | None = None


class DetokenizeFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of /detokenize."""

    tokens: list[int]
    model: str | None = None


_TOKENIZE_DECODER = msgspec.json.Decoder(TokenizeFields)
_DETOKENIZE_DECODER = msgspec.json.Decoder(DetokenizeFields)


class Tokenize:
    """Parses bodies of /tokenize; a conversation is tokenized with the model's chat template."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def parse(self, body: bytes, head: RequestHead) -> Counting:
        """Body to what is to be tokenized.

        Raises:
            InvalidRequest: names the field.
        """
        call = decode_body(_TOKENIZE_DECODER, body)
        if (call.prompt is None) == (call.messages is None):
            raise InvalidRequest("exactly one of prompt and messages must be given", field="prompt")
        if call.messages is not None:
            prompt: Prompt = ChatPrompt(messages_of(call.messages))
        else:
            prompt = prompt_of(call.prompt or "")
        model = self._catalog.find(call.model or "")

        def reply(token_ids: Sequence[int]) -> bytes:
            texts = None
            if call.return_token_strs:
                texts = [model.loaded.vocabulary.decode([token_id]) for token_id in token_ids]
            return msgspec.json.encode(
                {
                    "count": len(token_ids),
                    "max_model_len": model.description.max_model_len,
                    "tokens": token_ids,
                    "token_strs": texts,
                }
            )

        return Counting(prompt, model, reply)


class Detokenize:
    """ASGI endpoint of /detokenize."""

    def __init__(self, catalog: Catalog, *, max_body_bytes: int) -> None:
        self._catalog = catalog
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises:
            InvalidRequest: no such token.
        """
        caller: Caller = scope[CALLER_SCOPE]
        caller.require(Permission.INFERENCE)
        body = await read_body(scope, receive, limit_bytes=self._max_body_bytes)
        call = decode_body(_DETOKENIZE_DECODER, body)
        model = self._catalog.find(call.model or "")
        caller.require_model(model.name)
        check_token_ids(call.tokens, "tokens", model.description.vocab_size)
        text = model.loaded.vocabulary.decode(call.tokens)
        await send_reply(send, 200, msgspec.json.encode({"prompt": text}))
