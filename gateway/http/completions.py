"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.ask import ChatPrompt, Piece, Prompt, TextPrompt, TokenPrompt
from gateway.catalog import Catalog
from gateway.http.answering import Exchange, RequestHead
from gateway.http.body import decode_body
from gateway.http.logprob_fields import CompletionLogprobs
from gateway.http.openai_call import (
    OpenaiFields,
    ask_of,
    check_stream_options,
    frame_of,
    num_choices_of,
)
from gateway.http.openai_wire import OpenaiWriter
from gateway.http.sampling_fields import refuse_unsupported, sampling_of
from gateway.text.detokenizer import TokenVocabulary
from services.core.errors import InvalidRequest
from services.core.request import FinishReason
from services.core.sampling import MAX_CHOICES

# The public default of this route is 16, so that a forgotten limit stays cheap.
DEFAULT_MAX_TOKENS = 16
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {"suffix": ("",)}
# The public limit of this route; chat has another.
MAX_LOGPROBS = 5


class CompletionFields(OpenaiFields, kw_only=True, forbid_unknown_fields=True):
    """The body; a list is one prompt's token ids, or several prompts as texts or token ids."""

    prompt: str | list[str | int | list[int]]
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
        refuse_unsupported(call, NEUTRAL_VALUES)
        check_stream_options(call.stream_options, call.stream)
        served = self._catalog.find(call.model or "")
        model, vocabulary = served.name, served.loaded.vocabulary
        prompts = prompts_of(call.prompt)
        logprobs = _num_logprobs(call)
        num_choices = _num_choices(call, len(prompts))
        sampling = sampling_of(
            call,
            max_tokens=call.max_tokens,
            logprobs=logprobs,
            prompt_logprobs=logprobs if call.echo else None,
        )
        ask = ask_of(
            call,
            head,
            prompts,
            sampling,
            model=model,
            default_max_tokens=DEFAULT_MAX_TOKENS,
            stream=bool(call.stream),
            num_choices=num_choices,
        )
        echoes = [_text_of(prompt, vocabulary) for prompt in prompts] if call.echo else []
        writer = CompletionWriter(
            CompletionLogprobs(vocabulary),
            [echo for echo in echoes for _ in range(num_choices)],
            reply_id=f"cmpl-{head.request_id}",
            kind="text_completion",
            chunk_kind="text_completion",
            **frame_of(call, model),
        )
        return Exchange(ask, writer, begin=writer.begin)


class CompletionWriter(OpenaiWriter):
    """Choices of text replies; each begins with its echo, if there is one."""

    def __init__(self, logprobs: CompletionLogprobs, echoes: Sequence[str], **frame: Any) -> None:
        super().__init__(**frame)
        self._logprobs = logprobs
        self._echoes = echoes

    def opening(self, piece: Piece) -> tuple[bytes, ...]:
        """The prompt, in a chunk of its own, if it is echoed."""
        if not self._echoes:
            return ()
        logprobs = self._logprobs.prompt_member(piece)
        return (_choice(piece, self._echoes[piece.choice_idx], logprobs, b"null"),)

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
            (self._echoes[piece.choice_idx] if self._echoes else "") + piece.text,
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


def _num_choices(call: CompletionFields, num_prompts: int) -> int:
    num_choices = num_choices_of(call.n)
    if num_choices * num_prompts > MAX_CHOICES:
        raise InvalidRequest(
            f"prompt has {num_prompts} prompts, each with {num_choices} answers; allowed:"
            f" {MAX_CHOICES} answers together",
            field="prompt",
        )
    if call.best_of is not None and call.best_of != num_choices:
        raise InvalidRequest(
            f"best_of is {call.best_of}; allowed: absent, or the same as n, {num_choices}",
            field="best_of",
            reason="UNSUPPORTED_FIELD",
        )
    return num_choices


def prompts_of(prompt: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """One prompt, or several.

    Raises:
        InvalidRequest: token ids beside prompts.
    """
    if isinstance(prompt, str):
        return (TextPrompt(prompt),)
    token_ids = tuple(entry for entry in prompt if isinstance(entry, int))
    if len(token_ids) == len(prompt):
        return (TokenPrompt(token_ids),)
    if token_ids:
        raise InvalidRequest(
            "prompt has token ids beside prompts; allowed: token ids, or prompts", field="prompt"
        )
    return tuple(_prompt(entry) for entry in prompt if not isinstance(entry, int))


def prompt_of(prompt: str | list[str | int | list[int]]) -> Prompt:
    """One prompt, for routes that take no more.

    Raises:
        InvalidRequest: several prompts.
    """
    prompts = prompts_of(prompt)
    if len(prompts) > 1:
        raise InvalidRequest(
            f"prompt has {len(prompts)} prompts; allowed: one text, or token ids", field="prompt"
        )
    return next(iter(prompts))


def _prompt(entry: str | list[int]) -> Prompt:
    return TextPrompt(entry) if isinstance(entry, str) else TokenPrompt(tuple(entry))
