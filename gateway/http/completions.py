"""POST /v1/completions."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import Ask, ChatPrompt, Piece, Prompt, TextPrompt, TokenPrompt
from gateway.catalog import Catalog
from gateway.detokenizer import TokenVocabulary
from gateway.http.answering import Exchange, RequestHead
from gateway.http.body import decode_body
from gateway.http.chat_completions import StreamOptions
from gateway.http.logprob_fields import CompletionLogprobs
from gateway.http.openai_wire import OpenaiWriter
from gateway.http.sampling_fields import (
    SamplingFields,
    num_choices_of,
    refuse_unsupported,
    request_class_of,
    sampling_of,
)
from services.core.errors import InvalidRequest
from services.core.request import FinishReason

# The public default of this route is 16, so that a forgotten limit stays cheap.
DEFAULT_MAX_TOKENS = 16
_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {"suffix": ("",)}
# The public limit of this route; chat has another.
MAX_LOGPROBS = 5


class CompletionFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """The body; a list is token ids, or one text."""

    prompt: str | list[str | int]
    stream_options: StreamOptions | None = None
    n: int | None = None
    best_of: int | None = None
    logprobs: int | None = None
    echo: bool | None = None

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
        served = self._catalog.find(call.model or "")
        model, vocabulary = served.name, served.loaded.vocabulary
        prompt = prompt_of(call.prompt)
        logprobs = _num_logprobs(call)
        ask = Ask(
            request_id=head.request_id,
            caller=head.caller,
            prompt=prompt,
            deadline_unix_ms=head.deadline_unix_ms,
            model=model,
            sampling=sampling_of(
                call,
                max_tokens=call.max_tokens,
                logprobs=logprobs,
                prompt_logprobs=logprobs if call.echo else None,
            ),
            default_max_tokens=DEFAULT_MAX_TOKENS,
            request_class=request_class_of(call),
            stream=bool(call.stream),
            num_choices=_num_choices(call),
        )
        options = call.stream_options or StreamOptions()
        writer = CompletionWriter(
            CompletionLogprobs(vocabulary),
            _text_of(prompt, vocabulary) if call.echo else "",
            reply_id=f"cmpl-{head.request_id}",
            kind="text_completion",
            chunk_kind="text_completion",
            model=model,
            include_usage=bool(options.include_usage),
            return_token_ids=bool(call.return_token_ids),
        )
        return Exchange(ask, writer)


class CompletionWriter(OpenaiWriter):
    """Choices of text replies; each begins with the echo, if there is one."""

    def __init__(self, logprobs: CompletionLogprobs, echo: str, **frame: Any) -> None:
        super().__init__(**frame)
        self._logprobs = logprobs
        self._echo = echo

    def opening(self, piece: Piece) -> tuple[bytes, ...]:
        """The prompt, in a chunk of its own, if it is echoed."""
        if not self._echo:
            return ()
        logprobs = self._logprobs.prompt_member(piece)
        return (_choice(piece, self._echo, logprobs, b"null"),)

    def delta(self, piece: Piece) -> bytes:
        """New text."""
        logprobs = self._logprobs.member(piece)
        return _choice(piece, piece.text, logprobs, b"null", self.token_ids_member(piece))

    def finish(self, piece: Piece, reason: FinishReason) -> bytes:
        """An empty text with the reason."""
        return _choice(piece, "", b"null", b'"%b"' % reason.value.encode())

    def choice(self, piece: Piece) -> bytes:
        """The whole text."""
        reason = piece.finish_reason or FinishReason.STOP
        return _choice(
            piece,
            self._echo + piece.text,
            self._logprobs.whole_member(piece),
            b'"%b"' % reason.value.encode(),
            self.token_ids_member(piece),
        )


def _choice(piece: Piece, text: str, logprobs: bytes, reason: bytes, rest: bytes = b"") -> bytes:
    return b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b%b}' % (
        piece.choice_idx,
        msgspec.json.encode(text),
        logprobs,
        reason,
        rest,
    )


def _text_of(prompt: Prompt, vocabulary: TokenVocabulary) -> str:
    match prompt:
        case TextPrompt(text):
            return text
        case TokenPrompt(token_ids):
            return vocabulary.decode([i for i in token_ids if i >= 0])
        case ChatPrompt():
            raise ValueError("this route takes no conversation")


def _num_logprobs(call: CompletionFields) -> int | None:
    if call.logprobs is not None and not 0 <= call.logprobs <= MAX_LOGPROBS:
        raise InvalidRequest(
            f"logprobs is {call.logprobs}; allowed: 0 to {MAX_LOGPROBS}", field="logprobs"
        )
    return call.logprobs


def _num_choices(call: CompletionFields) -> int:
    num_choices = num_choices_of(call.n)
    if call.best_of is not None and call.best_of != num_choices:
        raise InvalidRequest(
            f"best_of is {call.best_of}; allowed: absent, or the same as n, {num_choices}",
            field="best_of",
            reason="UNSUPPORTED_FIELD",
        )
    return num_choices


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
