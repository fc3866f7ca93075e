"""What a caller wants, and what it gets back, whichever door it came through."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from services.core.caller import OPEN_CALLER, Caller
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
    """News of an answer; finish_reason and usage are set in the last one only."""

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
