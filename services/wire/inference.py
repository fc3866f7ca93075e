"""InferenceService messages, for the gateway that serves and the programs that ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenmill.v1 import inference_pb2 as pb

from services.core.logprobs import TokenLogprobs
from services.core.request import ChatMessage, FinishReason, RequestClass, Usage
from services.core.sampling import SamplingParams
from services.wire.common import (
    chat_message_from_pb,
    chat_message_to_pb,
    finish_reason_from_pb,
    finish_reason_to_pb,
    logprobs_from_pb,
    logprobs_to_pb,
    request_class_from_pb,
    request_class_to_pb,
    sampling_from_pb,
    sampling_to_pb,
    usage_from_pb,
    usage_to_pb,
)


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """Asks for a completion; exactly one of prompt and prompt_token_ids is not empty."""

    prompt: str = ""
    prompt_token_ids: tuple[int, ...] = ()
    model: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    return_token_ids: bool = False
    request_class: RequestClass = RequestClass.INTERACTIVE
    num_choices: int = 1


@dataclass(frozen=True, slots=True)
class ChatCall:
    """Asks for the next message of a conversation, or of a session."""

    messages: tuple[ChatMessage, ...]
    model: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    return_token_ids: bool = False
    request_class: RequestClass = RequestClass.INTERACTIVE
    session_id: str = ""
    num_choices: int = 1


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of an answer as it travels.

    finish_reason is in the last piece of each choice, usage in the last of all.
    """

    request_id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    session_id: str = ""
    choice_idx: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that can be asked for; created_unix_s is when its tokenizer was loaded."""

    name: str
    max_model_len: int
    created_unix_s: int


def generate_request_to_pb(call: GenerateCall) -> pb.GenerateRequest:
    """Call as sent."""
    return pb.GenerateRequest(
        model=call.model,
        prompt=call.prompt,
        prompt_token_ids=call.prompt_token_ids,
        sampling=sampling_to_pb(call.sampling),
        return_token_ids=call.return_token_ids,
        request_class=request_class_to_pb(call.request_class),
        num_choices=call.num_choices,
    )


def generate_request_from_pb(message: pb.GenerateRequest) -> GenerateCall:
    """Call as received.

    Raises:
        InvalidRequest: a request class that this version does not know.
    """
    return GenerateCall(
        prompt=message.prompt,
        prompt_token_ids=tuple(message.prompt_token_ids),
        model=message.model,
        sampling=sampling_from_pb(message.sampling),
        return_token_ids=message.return_token_ids,
        request_class=request_class_from_pb(message.request_class),
        num_choices=message.num_choices or 1,
    )


def chat_request_to_pb(call: ChatCall) -> pb.ChatRequest:
    """Call as sent."""
    return pb.ChatRequest(
        model=call.model,
        messages=[chat_message_to_pb(message) for message in call.messages],
        sampling=sampling_to_pb(call.sampling),
        return_token_ids=call.return_token_ids,
        request_class=request_class_to_pb(call.request_class),
        num_choices=call.num_choices,
        session_id=call.session_id,
    )


def chat_request_from_pb(message: pb.ChatRequest) -> ChatCall:
    """Call as received.

    Raises:
        InvalidRequest: a request class that this version does not know.
    """
    return ChatCall(
        messages=tuple(chat_message_from_pb(entry) for entry in message.messages),
        model=message.model,
        sampling=sampling_from_pb(message.sampling),
        return_token_ids=message.return_token_ids,
        request_class=request_class_from_pb(message.request_class),
        num_choices=message.num_choices or 1,
        session_id=message.session_id,
    )


def generate_response_to_pb(part: AnswerPart) -> pb.GenerateResponse:
    """Piece of a completion as sent."""
    return pb.GenerateResponse(
        request_id=part.request_id,
        text=part.text,
        token_ids=part.token_ids,
        finish_reason=finish_reason_to_pb(part.finish_reason),
        usage=None if part.usage is None else usage_to_pb(part.usage),
        choice_idx=part.choice_idx,
        logprobs=logprobs_to_pb(part.logprobs),
        prompt_logprobs=logprobs_to_pb(part.prompt_logprobs),
    )


def chat_response_to_pb(part: AnswerPart) -> pb.ChatResponse:
    """Piece of an answer as sent."""
    return pb.ChatResponse(
        request_id=part.request_id,
        text=part.text,
        token_ids=part.token_ids,
        finish_reason=finish_reason_to_pb(part.finish_reason),
        usage=None if part.usage is None else usage_to_pb(part.usage),
        choice_idx=part.choice_idx,
        logprobs=logprobs_to_pb(part.logprobs),
        prompt_logprobs=logprobs_to_pb(part.prompt_logprobs),
        session_id=part.session_id,
    )


def answer_part_from_pb(message: pb.GenerateResponse | pb.ChatResponse) -> AnswerPart:
    """Piece of a completion or an answer as received."""
    return AnswerPart(
        request_id=message.request_id,
        text=message.text,
        token_ids=tuple(message.token_ids),
        finish_reason=finish_reason_from_pb(message.finish_reason),
        usage=usage_from_pb(message.usage) if message.HasField("usage") else None,
        session_id=message.session_id if isinstance(message, pb.ChatResponse) else "",
        choice_idx=message.choice_idx,
        logprobs=logprobs_from_pb(message.logprobs),
        prompt_logprobs=logprobs_from_pb(message.prompt_logprobs),
    )


def list_models_request_to_pb() -> pb.ListModelsRequest:
    """Request as sent."""
    return pb.ListModelsRequest()


def list_models_response_to_pb(models: Sequence[ListedModel]) -> pb.ListModelsResponse:
    """Models as sent."""
    return pb.ListModelsResponse(
        models=[
            pb.ModelDescription(
                name=model.name,
                max_model_len=model.max_model_len,
                created_unix_s=model.created_unix_s,
            )
            for model in models
        ]
    )


def list_models_response_from_pb(message: pb.ListModelsResponse) -> list[ListedModel]:
    """Models as received."""
    return [
        ListedModel(
            name=model.name,
            max_model_len=model.max_model_len,
            created_unix_s=model.created_unix_s,
        )
        for model in message.models
    ]
