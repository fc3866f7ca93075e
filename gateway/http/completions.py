"""POST /v1/completions."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import Ask, Prompt, TextPrompt, TokenPrompt
from gateway.catalog import Catalog
from gateway.http.answering import Exchange, RequestHead
from gateway.http.body import decode_body
from gateway.http.chat_completions import StreamOptions
from gateway.http.openai_wire import OpenaiWriter, token_ids_member
from gateway.http.sampling_fields import (
    SamplingFields,
    refuse_unsupported,
    request_class_of,
    sampling_of,
)
from services.core.errors import InvalidRequest
from services.core.request import FinishReason

# The public default of this route is 16, so that a forgotten limit stays cheap.
DEFAULT_MAX_TOKENS = 16
_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {"best_of": (1,), "echo": (False,), "suffix": ("",)}


class CompletionFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """The body; a list is token ids, or one text."""

    prompt: str | list[str | int]
    stream_options: StreamOptions | None = None

    best_of: Any = None
    echo: Any = None
    suffix: Any = None


_DECODER = msgspec.json.Decoder(CompletionFields)


class Completions:
    """Parses bodies of this route."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def parse(self, body: bytes, head: RequestHead) -> Exchange:
        """Body to exchange.

        Raises:
            InvalidRequest: names the field.
        """
        call = decode_body(_DECODER, body)
        refuse_unsupported(call, _NEUTRAL_VALUES)
        model = self._catalog.find(call.model or "").name
        ask = Ask(
            request_id=head.request_id,
            caller=head.caller,
            prompt=prompt_of(call.prompt),
            deadline_unix_ms=head.deadline_unix_ms,
            model=model,
            sampling=sampling_of(call, max_tokens=call.max_tokens),
            default_max_tokens=DEFAULT_MAX_TOKENS,
            request_class=request_class_of(call),
            stream=bool(call.stream),
        )
        options = call.stream_options or StreamOptions()
        writer = CompletionWriter(
            reply_id=f"cmpl-{head.request_id}",
            kind="text_completion",
            chunk_kind="text_completion",
            model=model,
            include_usage=bool(options.include_usage),
            return_token_ids=bool(call.return_token_ids),
        )
        return Exchange(ask, writer)


class CompletionWriter(OpenaiWriter):
    """Choices of text replies."""

    def delta(self, text: str, token_ids: tuple[int, ...] | None) -> bytes:
        """New text."""
        return self._choice(text, token_ids, b"null")

    def finish(self, reason: FinishReason) -> bytes:
        """An empty text with the reason."""
        return self._choice("", None, b'"%b"' % reason.value.encode())

    def choice(self, text: str, token_ids: tuple[int, ...] | None, reason: FinishReason) -> bytes:
        """The whole text."""
        return self._choice(text, token_ids, b'"%b"' % reason.value.encode())

    def _choice(self, text: str, token_ids: tuple[int, ...] | None, reason: bytes) -> bytes:
        return (
            b'{"index":0,"text":%b,"logprobs":null,"finish_reason":%b'
            % (msgspec.json.encode(text), reason)
            + token_ids_member(token_ids)
            + b"}"
        )


def prompt_of(prompt: str | list[str | int]) -> Prompt:
    """One prompt; several in one request are not supported.

    Raises:
        InvalidRequest: several texts, or texts and ids together.
    """
    if isinstance(prompt, str):
        return TextPrompt(prompt)
    token_ids = [entry for entry in prompt if isinstance(entry, int)]
    texts = [entry for entry in prompt if isinstance(entry, str)]
    if not texts:
        return TokenPrompt(tuple(token_ids))
    if token_ids or len(texts) > 1:
        raise InvalidRequest(
            f"prompt has {len(prompt)} entries; allowed: one text, or token ids", field="prompt"
        )
    return TextPrompt(texts[0])
