"""Conversions of the values that several services share."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tokenmill.v1 import common_pb2 as pb

from services.core.errors import InvalidRequest
from services.core.logprobs import TokenLogprobs
from services.core.request import ChatMessage, FinishReason, RequestClass, TraceContext, Usage
from services.core.sampling import SamplingParams

_FINISH_TO_PB = {
    None: pb.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: pb.FINISH_REASON_ERROR,
}
_FINISH_FROM_PB = {value: key for key, value in _FINISH_TO_PB.items()}

_CLASS_TO_PB = {
    RequestClass.INTERACTIVE: pb.REQUEST_CLASS_INTERACTIVE,
    RequestClass.STANDARD: pb.REQUEST_CLASS_STANDARD,
    RequestClass.BATCH: pb.REQUEST_CLASS_BATCH,
}
_CLASS_FROM_PB = {value: key for key, value in _CLASS_TO_PB.items()} | {
    pb.REQUEST_CLASS_UNSPECIFIED: RequestClass.INTERACTIVE
}


_DEFAULT_SAMPLING = SamplingParams()


def finish_reason_to_pb(reason: FinishReason | None) -> pb.FinishReason:
    """None, still running, becomes UNSPECIFIED."""
    return _FINISH_TO_PB[reason]


def finish_reason_from_pb(reason: pb.FinishReason) -> FinishReason | None:
    """UNSPECIFIED becomes None; so does a value of a newer peer."""
    return _FINISH_FROM_PB.get(reason)


def request_class_to_pb(request_class: RequestClass) -> pb.RequestClass:
    """Class as sent."""
    return _CLASS_TO_PB[request_class]


def request_class_from_pb(request_class: pb.RequestClass) -> RequestClass:
    """UNSPECIFIED becomes INTERACTIVE.

    Raises:
        InvalidRequest: a number that this version does not know.
    """
    known = _CLASS_FROM_PB.get(request_class)
    if known is None:
        raise InvalidRequest(
            f"request_class is {int(request_class)}; allowed: 0 to 3", field="request_class"
        )
    return known


def sampling_to_pb(params: SamplingParams) -> pb.SamplingParams:
    """Every field is written, so that defaults may change without changing queued requests."""
    return pb.SamplingParams(
        max_tokens=params.max_tokens,
        min_tokens=params.min_tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=params.seed,
        stop=params.stop,
        stop_token_ids=params.stop_token_ids,
        ignore_eos=params.ignore_eos,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=[
            pb.LogitBias(token_id=token_id, bias=bias) for token_id, bias in params.logit_bias
        ],
        allowed_token_ids=params.allowed_token_ids,
        banned_token_ids=params.banned_token_ids,
        logprobs=params.logprobs,
        prompt_logprobs=params.prompt_logprobs,
    )


def sampling_from_pb(message: pb.SamplingParams) -> SamplingParams:
    """Absent fields take the defaults of SamplingParams."""
    default = _DEFAULT_SAMPLING
    return SamplingParams(
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        min_tokens=message.min_tokens if message.HasField("min_tokens") else default.min_tokens,
        temperature=message.temperature if message.HasField("temperature") else default.temperature,
        top_k=message.top_k if message.HasField("top_k") else default.top_k,
        top_p=message.top_p if message.HasField("top_p") else default.top_p,
        min_p=message.min_p if message.HasField("min_p") else default.min_p,
        seed=message.seed if message.HasField("seed") else None,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
        repetition_penalty=(
            message.repetition_penalty
            if message.HasField("repetition_penalty")
            else default.repetition_penalty
        ),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple((entry.token_id, entry.bias) for entry in message.logit_bias),
        allowed_token_ids=tuple(message.allowed_token_ids),
        banned_token_ids=tuple(message.banned_token_ids),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
    )


def logprobs_to_pb(logprobs: Iterable[TokenLogprobs]) -> list[pb.TokenLogprobs]:
    """Log-probabilities as sent."""
    return [
        pb.TokenLogprobs(
            logprob=entry.logprob,
            top_token_ids=entry.top_token_ids,
            top_logprobs=entry.top_logprobs,
        )
        for entry in logprobs
    ]


def logprobs_from_pb(messages: Collection[pb.TokenLogprobs]) -> tuple[TokenLogprobs, ...]:
    """Log-probabilities as received."""
    if not messages:
        # Nearly always, and once for every token: a generator would cost more than all the rest.
        return ()
    return tuple(
        TokenLogprobs(entry.logprob, tuple(entry.top_token_ids), tuple(entry.top_logprobs))
        for entry in messages
    )


def usage_to_pb(usage: Usage) -> pb.Usage:
    """Usage as sent."""
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        is_result_cached=usage.is_result_cached,
    )


def usage_from_pb(message: pb.Usage) -> Usage:
    """Usage as received."""
    return Usage(
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cached_tokens=message.cached_tokens,
        is_result_cached=message.is_result_cached,
    )


def chat_message_to_pb(message: ChatMessage) -> pb.ChatMessage:
    """Chat message as sent."""
    return pb.ChatMessage(role=message.role, content=message.content)


def chat_message_from_pb(message: pb.ChatMessage) -> ChatMessage:
    """Chat message as received; roles are checked by who knows the model's template."""
    return ChatMessage(role=message.role, content=message.content)


def trace_to_pb(trace: TraceContext) -> pb.TraceContext:
    """Trace context as sent."""
    return pb.TraceContext(traceparent=trace.traceparent, tracestate=trace.tracestate)


def trace_from_pb(message: pb.TraceContext) -> TraceContext:
    """Trace context as received."""
    return TraceContext(traceparent=message.traceparent, tracestate=message.tracestate)
