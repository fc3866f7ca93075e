"""What a caller wants, and what it gets back, whichever door it came through."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.results.wish import NO_CACHE, CacheWish
from services.core.caller import OPEN_CALLER, Caller
from services.core.logprobs import TokenLogprobs
from services.core.request import ChatMessage, FinishReason, RequestClass, Usage
from services.core.sampling import SamplingParams


class Operation(enum.StrEnum):
    """The GenAI operation, as spans and metrics name it."""

    CHAT = "chat"
    TEXT_COMPLETION = "text_completion"


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Plain text; `field` is what the caller calls it."""

    text: str
    field: str = "prompt"


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Token ids, used as they are."""

    token_ids: tuple[int, ...]
    field: str = "prompt"


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation, for the model's chat template."""

    messages: tuple[ChatMessage, ...]
    field: str = "messages"


Prompt = TextPrompt | TokenPrompt | ChatPrompt


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as it came through a door.

    Attributes:
        request_id: taken from the caller or drawn by the door.
        caller: who asks.
        model: as the caller spells it; empty: the default model.
        sampling: as the caller wrote it; max_tokens and seed may be None.
        deadline_unix_ms: after this the caller does not wait.
        begins_session: the door made session_id for this request.
        default_max_tokens: the door's own default, where its wire format has one.
        stream: whether the caller sees pieces; for spans.
        num_choices: answers to give to each prompt; the door has checked it.
        more_prompts: answered beside `prompt`, their choices after its own.
        cache: what the result cache may do.
    """

    request_id: str
    prompt: Prompt
    deadline_unix_ms: int
    model: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    caller: Caller = OPEN_CALLER
    session_id: str = ""
    begins_session: bool = False
    request_class: RequestClass = RequestClass.INTERACTIVE
    default_max_tokens: int | None = None
    stream: bool = True
    num_choices: int = 1
    more_prompts: tuple[Prompt, ...] = ()
    cache: CacheWish = NO_CACHE

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All of them, in order."""
        return (self.prompt, *self.more_prompts)

    @property
    def num_answers(self) -> int:
        """Choices of all prompts together."""
        return self.num_choices * len(self.prompts)

    @property
    def tenant(self) -> str:
        """The caller's tenant."""
        return self.caller.tenant

    @property
    def operation(self) -> Operation:
        """The GenAI operation."""
        if isinstance(self.prompt, ChatPrompt):
            return Operation.CHAT
        return Operation.TEXT_COMPLETION


@dataclass(frozen=True, slots=True)
class Piece:
    """News of an answer.

    Attributes:
        finish_reason: set in the last piece of each choice.
        stop_string: which of the stop strings ended the choice, if one did.
        usage: of all choices; set in the last piece of the answer.
        choice_idx: which choice it belongs to.
        logprobs: one per token, if sampling asks for them.
        prompt_token_ids: set in the first piece of a choice, if sampling asks for prompt_logprobs.
        prompt_logprobs: of the prompt from its second token on; comes with prompt_token_ids.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    choice_idx: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    stop_string: str | None = None


def whole_choices(pieces: Iterable[Piece]) -> list[Piece]:
    """All pieces of an answer, each choice's made one, in order of choice_idx."""
    by_choice: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_choice.setdefault(piece.choice_idx, []).append(piece)
    return [_joined(by_choice[choice_idx]) for choice_idx in sorted(by_choice)]


def _joined(pieces: Sequence[Piece]) -> Piece:
    first, last = pieces[0], pieces[-1]
    return Piece(
        text="".join(piece.text for piece in pieces),
        token_ids=tuple(token_id for piece in pieces for token_id in piece.token_ids),
        finish_reason=last.finish_reason,
        usage=last.usage,
        choice_idx=first.choice_idx,
        logprobs=tuple(entry for piece in pieces for entry in piece.logprobs),
        prompt_token_ids=first.prompt_token_ids,
        prompt_logprobs=first.prompt_logprobs,
        stop_string=last.stop_string,
    )
