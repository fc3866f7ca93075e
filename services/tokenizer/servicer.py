"""TokenizerService: messages in, core, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from opentelemetry import trace
from tokenmill.v1.tokenizer_pb2_grpc import TokenizerServiceServicer

from services.core.errors import NotFound
from services.core.request import ChatMessage
from services.runtime import faults, names
from services.tokenizer.text_tokenizer import TextTokenizer
from services.tokenizer.thread_pool import BoundedThreadPool
from services.wire.tokenizer import (
    TokenizerArtefact,
    artefact_to_pb,
    get_tokenizer_request_from_pb,
    tokenize_request_from_pb,
    tokenize_response_to_pb,
)

SHORT_CHARS = 1024
"""Text that takes less time than a thread needs to wake up."""


_FRAME_CHARS = 32
"""Of each message: what a template writes around it."""


class TokenizerServicer(TokenizerServiceServicer):
    """Serves one model."""

    def __init__(
        self, artefact: TokenizerArtefact, tokenizer: TextTokenizer, pool: BoundedThreadPool
    ) -> None:
        self._artefact = artefact
        self._tokenizer = tokenizer
        self._pool = pool

    async def Tokenize(self, request: Any, context: Any) -> Any:
        """See protos/tokenmill/v1/tokenizer.proto."""
        query = tokenize_request_from_pb(request)
        self._check_model(query.model)
        await faults.pause(faults.TOKENIZE)
        if num_chars_of(query.content) <= SHORT_CHARS:
            token_ids = self._tokenizer.tokenize(query.content)
        else:
            token_ids = await self._pool.run(lambda: self._tokenizer.tokenize(query.content))
        trace.get_current_span().set_attribute(names.NUM_TOKENS, len(token_ids))
        return tokenize_response_to_pb(token_ids)

    async def GetTokenizer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """See protos/tokenmill/v1/tokenizer.proto."""
        self._check_model(get_tokenizer_request_from_pb(request))
        for message in artefact_to_pb(self._artefact):
            yield message

    def _check_model(self, model: str) -> None:
        served = self._artefact.description.name
        if model not in ("", served):
            raise NotFound(
                f"model {model[:128]!r} is not served here; {served} is",
                field="model",
                reason="MODEL_NOT_FOUND",
            )


def num_chars_of(content: str | Sequence[ChatMessage]) -> int:
    """Length of a text, or of all messages of a conversation, each with some for its frame."""
    if isinstance(content, str):
        return len(content)
    return sum(len(message.content) + _FRAME_CHARS for message in content)
